"""One person's rights: suppression, deletion and export, from commands and over HTTP."""
