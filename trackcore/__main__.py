"""`python -m trackcore`: the `trackcore` command, which is an adapter; nothing else in the core imports one."""

from trackcore_command import main

main()
