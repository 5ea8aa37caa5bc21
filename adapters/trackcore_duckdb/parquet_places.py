"""Where the files of a warehouse are in its store, those of a rebuild too.

    trackcore_source=web/trackcore_table=order_paid/received_day=2026-01-31/{first}-{last}-{digest}.parquet
    schemas/web/00000012.json
    _new/  _old/  _swap/

`_new` and `_old` have the same folders: of a rebuild, and of the time before one.  `_swap` is there while tables are
swapped.  Tools that read folders skip names that begin with `_`.
"""

from __future__ import annotations

from collections.abc import Sequence

from trackcore_objects import ObjectStore, StoredFile, parse_name

from trackcore_duckdb.compaction import level_of
from trackcore_duckdb.schema_files import is_schema_name, schema_folder

SOURCE_KEY, TABLE_KEY, DAY_KEY = "trackcore_source", "trackcore_table", "received_day"
NEW, OLD, SWAP = "_new", "_old", "_swap"


def source_folder(schema: str) -> str:
    """Return the folder of the tables of a source."""
    return f"{SOURCE_KEY}={schema}"


def source_schemas(store: ObjectStore) -> Sequence[str]:
    """Return the schemas of the sources that have folders.  Raises `StoreUnavailable`."""
    prefix = source_folder("")
    return [folder.removeprefix(prefix) for folder in store.folders("") if folder.startswith(prefix)]


def has_rows(file: StoredFile) -> bool:
    """Return whether it is a file of a table that was put here by a destination."""
    name = parse_name(file.name)
    return name is not None and level_of(name) is not None


def own_keys(store: ObjectStore, schema: str) -> list[str]:
    """Return the keys of the files of a source that were put here by a destination.  Raises `StoreUnavailable`."""
    of_tables = [file.key for file in store.files_below(source_folder(schema)) if has_rows(file)]
    of_schema = [file.key for file in store.files_below(schema_folder(schema)) if is_schema_name(file.name)]
    return of_tables + of_schema
