"""Run the tests in a separate environment for each interpreter, or with the lowest declared versions:

    python tests/interpreters.py                             on each of python3.11 ... python3.14 on the path
    python tests/interpreters.py --python /opt/3.14/bin/python ~/3.13/bin/python
    python tests/interpreters.py --lowest                    the lowest versions, on the interpreter that runs this
    python tests/interpreters.py -- tests/test_codec.py -x   arguments after `--` go to pytest

It prints which interpreters were found and which not, then the output of pytest, and at the end one line for each run.
A named interpreter must exist; one that is missing on the path is skipped.  Exit code: 0 when all runs were
green, 1 when one was not, 2 when there was nothing to run.  It needs the group `lock` (uv) and the package index.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
PYTEST = ("-m", "pytest", "-q", "-n", "auto", "--maxprocesses", "6", "--dist", "worksteal")
UV = (sys.executable, "-m", "uv")


class Interpreter(NamedTuple):
    """A working interpreter: its path and its version."""

    path: str
    version: str


class Run(NamedTuple):
    """The result of the tests on an interpreter."""

    interpreter: Interpreter
    is_green: bool
    summary: str


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", nargs="+", action="extend", metavar="PATH", help="an interpreter, or the name of one"
    )
    parser.add_argument("--lowest", action="store_true", help="the lowest versions that are declared, not the newest")
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="for pytest: tests, -k, -x and so on")
    arguments = parser.parse_args()
    if importlib.util.find_spec("uv") is None:
        parser.error("uv is missing; `pip install --group lock` brings it")
    named = arguments.python or ([sys.executable] if arguments.lowest else [])
    found = list(find(named or [f"python{version}" for version in VERSIONS]))
    if not found or len(found) < len(named):
        parser.error("an interpreter that is to be used is not there" if named else "no interpreter was found")
    runs = [run(interpreter, arguments.options, is_lowest=arguments.lowest) for interpreter in found]
    tell("")
    for done in runs:
        versions = "lowest" if arguments.lowest else "newest"
        word = "green" if done.is_green else "FAILED"
        found_at, version = done.interpreter
        tell(f"{word}: Python {version}, {versions} versions: {done.summary} ({found_at})")
    return 0 if all(done.is_green for done in runs) else 1


def find(names: Sequence[str]) -> Iterator[Interpreter]:
    """Find interpreters by path or name.  One that cannot be started, such as a shim without a target, is not found."""
    for name in names:
        path = shutil.which(name)
        code = "import platform; print(platform.python_version())"
        asked = path and subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if path and asked and asked.returncode == 0:
            tell(f"{name}: {path}, Python {asked.stdout.strip()}")
            yield Interpreter(path, asked.stdout.strip())
        else:
            tell(f"{name}: not found")


def run(interpreter: Interpreter, options: Sequence[str], *, is_lowest: bool) -> Run:
    """Create an environment, run the tests in it, and remove it."""
    tell(f"\n== Python {interpreter.version}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        python = str(Path(folder, "env", "bin", "python"))
        versions = "lowest-direct" if is_lowest else "highest"
        make = [*UV, "venv", "--quiet", "--seed", "--python", interpreter.path, str(Path(folder, "env"))]
        install = [*UV, "pip", "install", "--quiet", "--python", python, "--resolution", versions]
        install += ["--editable", ".[server,kafka]", "--group", "dev"]
        for command in (make, install):
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                return Run(interpreter, is_green=False, summary="the environment could not be made")
        code, last = tee([python, *PYTEST, "-o", f"cache_dir={folder}/cache", *options])
    return Run(interpreter, is_green=code == 0, summary=f"{last}; {time.monotonic() - started:.0f} s in all")


def tee(command: Sequence[str]) -> tuple[int, str]:
    """Run a command and show its output; return its exit code and its last line."""
    last = "it printed nothing"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            tell(line.rstrip("\n"))
            last = line.strip("= \n") or last
    return process.returncode, last


def tell(line: str) -> None:
    """Print a line at once: child processes print as well."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
