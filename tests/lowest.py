"""Run the tests on the lowest declared versions, or on another interpreter, in an environment of its own:

python tests/lowest.py                              # the lowest versions, on this interpreter
python tests/lowest.py --newest --python python3.13 # the newest ones, on another
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Return the exit code of pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the interpreter; this one when left out")
    parser.add_argument("--newest", action="store_true", help="the newest versions instead of the lowest")
    parser.add_argument("tests", nargs="*", help="what to run instead of all tests")
    arguments = parser.parse_args()
    uv = [sys.executable, "-m", "uv"]
    with tempfile.TemporaryDirectory() as folder:
        python = str(Path(folder, "env", "bin", "python"))
        subprocess.run([*uv, "venv", "--seed", "--python", arguments.python, Path(folder, "env")], check=True)
        versions = "highest" if arguments.newest else "lowest-direct"
        install = [*uv, "pip", "install", "--python", python, "--resolution", versions]
        subprocess.run([*install, "--editable", ".[server,kafka]", "--group", "dev"], cwd=ROOT, check=True)
        options = ["-n", "auto", "--maxprocesses", "6", "--dist", "worksteal"]
        return subprocess.run([python, "-m", "pytest", *options, *arguments.tests], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
