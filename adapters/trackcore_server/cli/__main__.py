"""`python -m trackcore_server.cli`: the `trackcore` command without its script."""

from trackcore_server.cli._main import main

main(prog_name="trackcore")
