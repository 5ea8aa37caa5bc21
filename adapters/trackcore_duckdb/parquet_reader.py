"""The reader of a warehouse of Parquet files, for commands.

Theory.  A file ends with metadata that have the number of its rows, so that only the ends are read; of a table
with many files those of some, from which the number in all is estimated by their bytes.  So a large bucket answers in
seconds.  The files of discards are small, and read whole; not more of them either.

Delivery may be at work meanwhile, in another process, so nothing in the store is changed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import NamedTuple

import attrs
from trackcore_delivery import scratch_folder
from trackcore_objects import ObjectStore, StoredFile, StoreUnavailable

from trackcore import StoredMessage
from trackcore.warehouse import DISCARDS_TABLE, Discard, TableInfo, WarehouseOptions, schema_name
from trackcore_duckdb.engine import Engine, opened, text
from trackcore_duckdb.inspection import discard_counts, discards_in, reported
from trackcore_duckdb.parquet import file_columns
from trackcore_duckdb.parquet_places import DAY_KEY, SOURCE_KEY, TABLE_KEY, has_rows, source_folder
from trackcore_duckdb.schema_files import look_up_schema

MOST_FILES = 50
"""How many files of a table are read at most."""

_AT_ONCE = 16
"""How many files are read at the same time: a bucket takes its time for each."""

_END_BYTES = 16 << 10
_MAGIC = b"PAR1"
_LENGTH_BYTES = 8
"""A Parquet file ends with the length of its metadata, in 4 bytes, and the magic text."""


@attrs.frozen(kw_only=True)
class ParquetReader:
    """See `trackcore.warehouse.WarehouseReader`."""

    _store: ObjectStore = attrs.field(repr=False, alias="store")
    _options: WarehouseOptions = attrs.field(alias="options")
    _pattern: str = attrs.field(alias="schema")

    def tables(self) -> Sequence[TableInfo]:
        """See `WarehouseReader.tables`."""
        with reported(), scratch_folder() as scratch, opened(scratch) as engine:
            return list(_Counting(self._store, engine, scratch).run(self._options))

    def discards(self, message: StoredMessage) -> Sequence[tuple[str, Discard]]:
        """See `WarehouseReader.discards`."""
        day = message.received_at.astimezone(UTC).date().isoformat()
        source = source_folder(schema_name(message.source, self._pattern))
        folder = f"{source}/{TABLE_KEY}={DISCARDS_TABLE}/{DAY_KEY}={day}"
        with reported(), scratch_folder() as scratch, opened(scratch) as engine:
            keys = [file.key for file in self._store.files_below(folder) if has_rows(file)]
            local = _Local(self._store, scratch).fetched(keys)
            return discards_in(engine, _read_parquet(local), message) if local else []

    def close(self) -> None:
        """See `WarehouseReader.close`."""


class _Table(NamedTuple):
    source: str
    name: str


class _Sample(NamedTuple):
    """Some of the files of a table, and how many times as many bytes all of them have."""

    files: Sequence[StoredFile]
    factor: float

    def in_all(self, count: int) -> int:
        return round(count * self.factor)

    @property
    def is_all(self) -> bool:
        return self.factor == 1


_NONE = _Sample((), 1)
"""The files of a table that has none."""


@attrs.frozen
class _Counting:
    """Counts the rows and the discards of all tables."""

    _store: ObjectStore
    _engine: Engine
    _scratch: Path

    def run(self, options: WarehouseOptions) -> Iterator[TableInfo]:
        samples = {table: _sample(files) for table, files in self._files().items()}
        local = _Local(self._store, self._scratch)
        ends = local.ends({file for sample in samples.values() for file in sample.files})
        counts = self._engine.row_counts(ends.values())
        schemas = {table.source: look_up_schema(self._store, table.source).schema(options) for table in samples}
        discards = {source: self._discards(samples.get(_Table(source, DISCARDS_TABLE), _NONE)) for source in schemas}
        for table, sample in sorted(samples.items()):
            if table.name == DISCARDS_TABLE:
                continue
            schema, of_discards = schemas[table.source], samples.get(_Table(table.source, DISCARDS_TABLE), _NONE)
            yield TableInfo(
                schema=table.source,
                table=table.name,
                columns=len(file_columns(schema, table.name)) if table.name in schema.tables else 0,
                rows=sample.in_all(sum(counts[ends[file]] for file in sample.files)),
                is_exact=sample.is_all and of_discards.is_all,
                discards=of_discards.in_all(discards[table.source].get(table.name, 0)),
            )

    def _files(self) -> Mapping[_Table, list[StoredFile]]:
        found: dict[_Table, list[StoredFile]] = {}
        for file in self._store.files_below(""):
            match file.key.split("/"):
                case [source, table, day, _] if (
                    source.startswith(f"{SOURCE_KEY}=")
                    and table.startswith(f"{TABLE_KEY}=")
                    and day.startswith(f"{DAY_KEY}=")
                    and has_rows(file)
                ):
                    key = _Table(source.partition("=")[2], table.partition("=")[2])
                    found.setdefault(key, []).append(file)
        return found

    def _discards(self, sample: _Sample) -> Mapping[str, int]:
        if not sample.files:
            return {}
        local = _Local(self._store, self._scratch).fetched([file.key for file in sample.files])
        found = discard_counts(self._engine, _read_parquet(local))
        for path in local:
            path.unlink()
        return found


def _sample(files: Sequence[StoredFile]) -> _Sample:
    count = len(files)
    if count <= MOST_FILES:
        return _Sample(files, 1)
    some = [files[number * count // MOST_FILES] for number in range(MOST_FILES)]
    return _Sample(some, sum(file.size for file in files) / sum(file.size for file in some))


@attrs.frozen
class _Local:
    """Copies of files, or of their ends, in a folder; several are read at the same time."""

    _store: ObjectStore
    _folder: Path

    def fetched(self, keys: Sequence[str]) -> Sequence[Path]:
        """Copy files."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self._fetch, keys, range(len(keys))))

    def ends(self, files: Iterable[StoredFile]) -> Mapping[StoredFile, Path]:
        """Make files of Parquet that have the metadata of others, and no rows."""
        listed = list(files)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(listed, pool.map(self._end, listed, range(len(listed))), strict=True))

    def _fetch(self, key: str, number: int) -> Path:
        target = self._folder / f"whole-{number}.parquet"
        if not self._store.fetch(key, target):
            raise _deleted(key)
        with target.open("rb") as stream:
            stream.seek(max(0, target.stat().st_size - len(_MAGIC)))
            _check_magic(key, stream.read())
        return target

    def _end(self, file: StoredFile, number: int) -> Path:
        end = self._read(file, _END_BYTES)
        _check_magic(file.key, end)
        length = int.from_bytes(end[-_LENGTH_BYTES : -len(_MAGIC)], "little") + _LENGTH_BYTES
        if length > len(end):
            end = self._read(file, length)
        target = self._folder / f"end-{number}.parquet"
        target.write_bytes(_MAGIC + end[-length:])
        return target

    def _read(self, file: StoredFile, length: int) -> bytes:
        found = self._store.read_range(file.key, max(0, file.size - length), file.size)
        if found is None:
            raise _deleted(file.key)
        return found


def _check_magic(key: str, end: bytes) -> None:
    if not end.endswith(_MAGIC):
        detail = f"{key} is damaged, or another process has replaced it meanwhile: try again, or delete it and replay"
        raise StoreUnavailable(detail=detail)


def _deleted(key: str) -> StoreUnavailable:
    return StoreUnavailable(detail=f"{key} was merged by another process meanwhile; try again")


def _read_parquet(files: Sequence[Path]) -> str:
    """Return the expression that reads the rows of files."""
    listed = ", ".join(map(text, files))
    return f"read_parquet([{listed}], union_by_name = true)"
