"""The release: the wheel holds our packages and nothing else, and the lock satisfies the declared requirements."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this checkout without the network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


class TestWheel:
    def test_it_holds_every_file_of_our_packages_and_nothing_else(self, wheel: zipfile.ZipFile) -> None:
        folders = [ROOT / path for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
        expected = {
            file.relative_to(folder.parent).as_posix()
            for folder in folders
            for file in folder.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert found == expected

    def test_type_checkers_read_each_of_our_packages(self, wheel: zipfile.ZipFile) -> None:
        """PEP 561: without a `py.typed` a type checker treats everything imported from a package as `Any`."""
        packages = {Path(path).name for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
        assert {f"{package}/py.typed" for package in packages} <= set(wheel.namelist())

    def test_every_package_of_the_project_is_in_it(self, wheel: zipfile.ZipFile) -> None:
        packages = {"trackcore"} | {path.parent.name for path in ROOT.glob("adapters/trackcore_*/__init__.py")}
        assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == packages

    def test_it_has_the_licence_the_command_and_the_plugin(self, wheel: zipfile.ZipFile) -> None:
        texts = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
        assert "Apache License" in wheel.read(texts["licenses/LICENSE"]).decode()
        entry_points = wheel.read(texts["entry_points.txt"]).decode()
        assert "[console_scripts]\ntrackcore = trackcore_command:main\n" in entry_points
        assert "[pytest11]\ntrackcore = trackcore_pytest\n" in entry_points

    def test_it_needs_nothing_but_the_core_until_an_extra_is_asked_for(self, wheel: zipfile.ZipFile) -> None:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        needed = re.findall(r"^Requires-Dist: (.*)$", wheel.read(name).decode(), re.MULTILINE)
        assert {Requirement(text).name for text in needed if "extra ==" not in text} == {"attrs", "cattrs", "msgspec"}


class TestCommand:
    """Without the extra `server`, the command prints which package to install, in one sentence."""

    def test_a_missing_package_is_reported_in_one_sentence(self, wheel: zipfile.ZipFile) -> None:
        """The wheel alone, in an interpreter without the packages of the extra."""
        code = (
            f"import sys; sys.path.insert(0, {wheel.filename!r})\n"
            "sys.modules['click'] = sys.modules['werkzeug'] = None\n"
            "import trackcore_command; trackcore_command.main()"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert ran.returncode == 2
        assert re.fullmatch(
            r"trackcore: \w+ is not installed; the command needs: pip install 'trackcore\[server\]'\n", ran.stderr
        )


class TestLock:
    """`poe lock` writes `requirements-dev.lock`; these tests fail when it must be updated."""

    PINS: ClassVar[dict[str, str]] = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", LOCK, re.MULTILINE))

    def test_every_pin_has_hashes(self) -> None:
        blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)
        assert all("--hash=sha256:" in block for block in blocks if "==" in block)
        assert self.PINS

    @pytest.mark.parametrize(
        "text",
        [
            *PROJECT["project"]["dependencies"],
            *PROJECT["project"]["optional-dependencies"]["server"],
            *PROJECT["project"]["optional-dependencies"]["kafka"],
            *PROJECT["project"]["optional-dependencies"]["testing"],
            *PROJECT["dependency-groups"]["dev"],
            *PROJECT["dependency-groups"]["docs"],
            *PROJECT["dependency-groups"]["release"],
        ],
    )
    def test_each_requirement_is_pinned_within_its_range(self, text: str) -> None:
        requirement = Requirement(text)
        assert self.PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_changelog_names_the_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert versions[0] == PROJECT["project"]["version"]


def test_python_is_declared_as_far_as_it_is_tested() -> None:
    """A version is added to the classifiers when all tests have passed on it."""
    declared = [found[1] for text in PROJECT["project"]["classifiers"] if (found := re.search(r":: (3\.\d+)$", text))]
    assert declared
    assert all(f"{version}.0" in SpecifierSet(PROJECT["project"]["requires-python"]) for version in declared)
    assert "{}.{}".format(*sys.version_info[:2]) in declared
