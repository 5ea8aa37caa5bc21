"""The settings of warehouses: what is refused before anything is delivered, and what a sender without psycopg says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from delivery_helpers import sender_context
from trackcore_delivery import Secret, UnusableSecret
from trackcore_server.config.configuration import ConfigurationError, parse_configuration
from trackcore_server.config.postgres_destination import PostgresDestination

SOURCES = '[[sources]]\nname = "{}"\nwrite_keys = ["a"]\n[[sources]]\nname = "{}"\nwrite_keys = ["b"]\n'
WAREHOUSE = '[[destinations]]\nname = "W"\nkind = "postgres"\nurl = "postgresql://u@h/d"\n'


def fault(text: str) -> tuple[str, str]:
    with pytest.raises(ConfigurationError) as raised:
        parse_configuration(text)
    return raised.value.path, raised.value.detail


class TestSchemas:
    """One schema per source; two sources never share one."""

    @pytest.mark.parametrize("names", [("My Site", "my-site"), ("сайт", "сайт ")])
    def test_two_sources_that_would_share_one_are_refused(self, names: tuple[str, str]) -> None:
        text = SOURCES.format(*names) + WAREHOUSE
        if names[0] == "My Site":
            path, detail = fault(text)
            assert path == "destinations[0].schema"
            assert "would share the schema 'my_site'" in detail
        else:
            parse_configuration(text)

    def test_a_schema_without_the_source_is_for_one_source(self) -> None:
        _, detail = fault(SOURCES.format("a", "b") + WAREHOUSE + 'schema = "events"\n')
        assert "write '{source}' into the name" in detail

    @pytest.mark.parametrize("schema", ["Events", "_trackcore", "a b", ""])
    def test_another_name_is_refused(self, schema: str) -> None:
        assert fault(WAREHOUSE + f'schema = "{schema}"\n')[0] == "destinations[0].schema"

    @pytest.mark.parametrize(
        ("line", "name"),
        [
            ('on_conflict = "drop"', "on_conflict"),
            ('declare = ["page"]', "declare"),
            ("max_columns = 5", "max_columns"),
        ],
    )
    def test_another_value_is_refused(self, line: str, name: str) -> None:
        assert fault(f"{WAREHOUSE}{line}\n")[0] == f"destinations[0].{name}"


class TestConnection:
    def test_without_its_library_it_says_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "trackcore_postgres"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "psycopg", None)
        destination = PostgresDestination(name="W", url=Secret("postgresql://u@h/d"))
        with pytest.raises(ValueError, match=r"pip install 'trackcore\[postgres\]'"):
            destination.make_sender(sender_context(tmp_path))

    def test_a_password_in_the_settings_is_refused(self, tmp_path: Path) -> None:
        destination = PostgresDestination(name="W", url=Secret("postgresql://u:secret@h/d"))
        with pytest.raises(ValueError, match="a password must not be written") as raised:
            destination.make_sender(sender_context(tmp_path))
        assert "secret" not in str(raised.value)

    def test_a_password_in_a_variable_is_accepted(self, tmp_path: Path) -> None:
        destination = PostgresDestination(name="W", url=Secret("env:URL"))
        destination.make_sender(sender_context(tmp_path, {"URL": "postgresql://u:secret@h/d"})).close()

    def test_a_variable_that_is_no_url_is_named(self, tmp_path: Path) -> None:
        destination = PostgresDestination(name="W", url=Secret("env:URL"))
        with pytest.raises(UnusableSecret) as raised:
            destination.make_sender(sender_context(tmp_path, {"URL": "not a url"}))
        assert (raised.value.variable, "not a url" in str(raised.value)) == ("URL", False)
