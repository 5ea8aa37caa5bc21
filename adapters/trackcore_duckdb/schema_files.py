"""The schema of each source as files of the store, a new one for each change: `schemas/web/00000012.json`.

Files of Parquet know their own columns only.  The schema knows those of all, so that each later file has every column
of its table, with the type that all of them have.  Two processes that change it at once cannot both put the next
number; the later one reads what the other has put, and makes its rows again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs
import msgspec
from trackcore_objects import ObjectStore, StoreUnavailable

from trackcore.warehouse import ColumnType, Schema, WarehouseOptions

_ROOT = "schemas"
_NAME = re.compile(r"(\d{8})\.json", re.ASCII)

_Tables = dict[str, dict[str, ColumnType]]
_decoder = msgspec.json.Decoder(_Tables)


@attrs.frozen
class SchemaVersion:
    """A schema as it is stored, and its number; 0 for none."""

    number: int
    tables: _Tables

    def schema(self, options: WarehouseOptions) -> Schema:
        """Return the schema, to be changed."""
        return Schema(options, {table: {**columns} for table, columns in self.tables.items()})


def load_schema(store: ObjectStore, source: str) -> SchemaVersion:
    """Return the current schema of a source.  Raises `StoreUnavailable`."""
    return _newest(store, source, store.names(schema_folder(source)))


def look_up_schema(store: ObjectStore, source: str) -> SchemaVersion:
    """Return the current schema of a source without a change of the store, which belongs to another process.

    Raises `StoreUnavailable`.
    """
    return _newest(store, source, [file.name for file in store.files_below(schema_folder(source))])


def _newest(store: ObjectStore, source: str, names: Sequence[str]) -> SchemaVersion:
    numbers = [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]
    if not numbers:
        return SchemaVersion(0, {})
    key = _key(source, max(numbers))
    content = store.read(key)
    try:
        return SchemaVersion(max(numbers), _decoder.decode(content or b""))
    except msgspec.MsgspecError as error:
        raise StoreUnavailable(detail=f"{key} is damaged; restore it, or delete it for the one before it") from error


def store_schema(store: ObjectStore, source: str, before: SchemaVersion, tables: _Tables) -> bool:
    """Store a schema that follows another; return False if another process has changed that one already."""
    content = msgspec.json.format(msgspec.json.encode(tables))
    return store.put_new(_key(source, before.number + 1), content)


def schema_folder(source: str) -> str:
    """Return the folder of the schema of a source."""
    return f"{_ROOT}/{source}"


def is_schema_name(name: str) -> bool:
    """Return whether it is the name of a file that was put here."""
    return _NAME.fullmatch(name) is not None


def _key(source: str, number: int) -> str:
    return f"{schema_folder(source)}/{number:08d}.json"
