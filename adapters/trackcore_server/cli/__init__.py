"""The `trackcore` command: one module for each subcommand; a module with an underscore is no command but serves them.

`main` puts the subcommands together and turns errors into one line and an exit code.
"""
