"""Files that other users of the machine can read are reported at the start."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from trackcore_server import parse_configuration
from trackcore_server.config.configuration import rebase
from trackcore_server.hosting.exposure import find_exposed

KEYS = '[[sources]]\nname = "website"\nwrite_keys = ["key"]\n'


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder that others can reach; pytest's own folders prevent that."""
    opened = [parent for parent in tmp_path.parents if parent.stat().st_uid == os.geteuid()]
    before = {parent: stat.S_IMODE(parent.stat().st_mode) for parent in [tmp_path, *opened]}
    for parent, mode in before.items():
        parent.chmod(mode | stat.S_IXOTH)
    yield tmp_path / "a folder"
    for parent, mode in before.items():
        parent.chmod(mode)


def exposed(folder: Path, rights: dict[str, int]) -> list[str]:
    """Make the folder and its files with these modes, and return the report without the folder's name."""
    folder.mkdir()
    for name, mode in rights.items():
        if name:
            (folder / name).write_text(KEYS)
            (folder / name).chmod(mode)
    folder.chmod(rights.get("", 0o711))
    configuration = rebase(parse_configuration(KEYS), folder)
    return [sentence.replace(str(folder), "D") for sentence in find_exposed(configuration, folder / "trackcore.toml")]


class TestExposed:
    """A data folder, a log or a configuration that others can read is reported with a chmod command."""

    def test_a_folder(self, folder: Path) -> None:
        assert exposed(folder, {"": 0o755}) == ["others can read the data folder D; run: chmod 700 'D'"]

    @pytest.mark.parametrize(
        "name",
        ["trackcore.toml", "trackcore.db", "trackcore.db-wal", "trackcore-delivery.db", "trackcore-delivery.db-shm"],
    )
    def test_a_file(self, folder: Path, name: str) -> None:
        assert exposed(folder, {name: 0o644}) == [f"others can read D/{name}; run: chmod 600 'D/{name}'"]

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o660])
    def test_files_of_the_owner_and_the_group_are_not(self, folder: Path, mode: int) -> None:
        assert exposed(folder, {"trackcore.toml": mode, "trackcore.db": mode}) == []

    def test_nor_are_files_in_a_folder_that_others_cannot_enter(self, folder: Path) -> None:
        assert exposed(folder, {"": 0o700, "trackcore.toml": 0o644, "trackcore.db": 0o666}) == []

    def test_nor_is_a_folder_that_is_meant_for_all(self, folder: Path) -> None:
        assert exposed(folder, {"": 0o1777, "trackcore.db": 0o600}) == []

    def test_nothing_is_there_yet(self, tmp_path: Path) -> None:
        configuration = rebase(parse_configuration(KEYS), tmp_path / "none")
        assert list(find_exposed(configuration, None)) == []
