/* What a disk has for certain: whenever a file in the folder DISK is synced, copies it to the folder PLATTER.

   Preloaded into a process (LD_PRELOAD), so that a test can cut the power: it kills the process, and then looks at the
   copies instead of the files. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void copy(int from, const char *name)
{
    char path[4096], temporary[4096], block[65536];
    ssize_t count;
    off_t offset = 0;
    snprintf(path, sizeof path, "%s/%s", getenv("PLATTER"), name);
    snprintf(temporary, sizeof temporary, "%s/.%s.%d", getenv("PLATTER"), name, getpid());
    int to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    while ((count = pread(from, block, sizeof block, offset)) > 0) {
        if (write(to, block, count) != count)
            abort();
        offset += count;
    }
    close(to);
    if (count < 0 || rename(temporary, path) != 0)
        abort();
}

static int record(const char *function, int file)
{
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);
    int result = sync(file);
    char link[64], path[4096];
    struct stat found;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    size_t folder = strlen(getenv("DISK"));
    if (result != 0 || length < 0 || fstat(file, &found) != 0 || !S_ISREG(found.st_mode))
        return result;
    path[length] = 0;
    if (strncmp(path, getenv("DISK"), folder) == 0 && path[folder] == '/' && strchr(path + folder + 1, '/') == NULL)
        copy(file, path + folder + 1);
    return result;
}

int fsync(int file) { return record("fsync", file); }
int fdatasync(int file) { return record("fdatasync", file); }
