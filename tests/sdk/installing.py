"""The SDK environments: folders of locked packages, built once and kept beside the source tree.

`environments/<name>/` holds the lock, either `requirements.txt` (all packages pinned) or `package.json` with
`package-lock.json`.  It is built into `.sdk-environments/<name>-<hash of the lock>/`, so a changed lock is a new
environment and an unchanged one is used again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".sdk-environments"
ENVIRONMENTS = Path(__file__).parent / "environments"

_INSTALL_SECONDS = 300
_LOCKS = ("requirements.txt", "package-lock.json", "package.json")
_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class CannotInstall(AssertionError):
    """An SDK could not be installed, so its test must fail, not pass or skip."""


def environment(name: str) -> Path:
    """Return the folder of an environment, building it first if it is missing.

    Raises:
        CannotInstall: a package could not be installed; the message has the reason.
    """
    lock = ENVIRONMENTS / name
    texts = [file.read_bytes() for file in map(lock.joinpath, _LOCKS) if file.exists()]
    key = f"{sys.implementation.cache_tag} {sys.prefix}" if (lock / "requirements.txt").exists() else ""
    digest = hashlib.sha256(b"\0".join([key.encode(), *texts])).hexdigest()
    built = CACHE / f"{name}-{digest[:12]}"
    ready = built / "ready"
    if not ready.exists():
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir(parents=True)
        if (lock / "requirements.txt").exists():
            _install_python(name, lock, built)
        else:
            _install_node(name, lock, built)
        ready.touch()
    return built


def python_of(built: Path) -> str:
    """Return the interpreter of a Python environment."""
    return str(built / "bin" / "python")


def node() -> str:
    """Find Node.  Raises `CannotInstall`."""
    return _tool("node", "Node.js 18 or newer and npm")


def chromium() -> str:
    """Find Chromium: by the variable CHROMIUM, else on the path.  Raises `CannotInstall`."""
    given = os.environ.get("CHROMIUM")
    found = given or next((path for path in map(shutil.which, _CHROMIUM_NAMES) if path), None)
    if found is None or not Path(found).exists():
        raise CannotInstall(
            f"Chromium is missing ({given or ', '.join(_CHROMIUM_NAMES)}): `apt-get install -y chromium`, or name it in"
            " the environment variable CHROMIUM"
        )
    return found


def _install_python(name: str, lock: Path, built: Path) -> None:
    requirements = str(lock / "requirements.txt")
    _run(name, (sys.executable, "-m", "venv", str(built)))
    pip = (python_of(built), "-m", "pip", "--quiet", "--disable-pip-version-check")
    # Only the locked packages are installed: nothing is resolved, and `check` proves that the lock is complete.
    _run(name, (*pip, "install", "--no-deps", "--requirement", requirements))
    _run(name, (*pip, "check"))


def _install_node(name: str, lock: Path, built: Path) -> None:
    for file in ("package.json", "package-lock.json"):
        shutil.copy(lock / file, built / file)
    npm = _tool("npm", "Node.js 18 or newer and npm")
    _run(name, (npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"), cwd=built)


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise CannotInstall(f"`{name}` is missing: install {package}")
    return found


def _run(name: str, command: tuple[str, ...], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{name}: `{' '.join(command)}` took longer than {_INSTALL_SECONDS} seconds") from None
    if done.returncode:
        raise CannotInstall(f"{name}: `{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")


def build_all() -> None:
    """Build every environment, as a CI step does before the tests."""
    for lock in sorted(path for path in ENVIRONMENTS.iterdir() if path.is_dir()):
        sys.stdout.write(f"{environment(lock.name)}\n")


if __name__ == "__main__":
    build_all()
