"""The swap of files: fresh ones take the place of those in use, folder by folder.

Theory.  A bucket cannot rename a folder, so the swap has steps, of which each may be repeated:

1. `_swap/begun.json` is put.  The files in use are copied to `_old`.
2. `_swap/placing.json` is put.  In each folder the fresh files are put first, from `_new`, then the earlier ones are
   deleted.  A reader finds every row all the time, and those of a few folders twice for a moment.
3. Both are deleted, and then `_new`.

A process that is killed in step 1 has changed no table: the next rebuild deletes the copies.  After that nothing may
be stored before step 2 has ended, since files that are stored between would be deleted; so whoever comes first does it
again from its beginning: a batch of delivery, a request to forget, or the next rebuild.  Until step 3 `_new` has all
fresh files, so that step 2 always knows which files belong there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from trackcore_objects import ObjectStore, StoreWithin

from trackcore_duckdb.parquet_places import NEW, OLD, SWAP, own_keys, source_folder, source_schemas

AT_ONCE = 16
"""How many files are copied, or folders swapped, at the same time: a bucket takes its time for each."""

_BEGUN, _PLACING = f"{SWAP}/begun.json", f"{SWAP}/placing.json"
_NOTE = b'{"note": "a rebuild swaps its files; delivery and the next rebuild complete that"}\n'


def swap_files(store: ObjectStore) -> Sequence[str]:
    """Swap the files of all sources that have fresh ones; return their schemas.  Raises `StoreUnavailable`."""
    schemas = source_schemas(StoreWithin(store, NEW))
    if schemas:
        store.put_new(_BEGUN, _NOTE)
        _each(lambda key: store.copy(key, f"{OLD}/{key}"), (key for one in schemas for key in own_keys(store, one)))
        store.put_new(_PLACING, _NOTE)
        complete_swap(store)
    return schemas


def complete_swap(store: ObjectStore) -> None:
    """Complete a swap that has begun to change tables, if there is one.  Raises `StoreUnavailable`."""
    if store.read(_PLACING) is None:
        return
    for schema in source_schemas(StoreWithin(store, NEW)):
        _place(store, schema)
    store.delete([_BEGUN])
    store.delete([_PLACING])
    store.prune(SWAP)
    drop(store, NEW)


def drop_unfinished(store: ObjectStore) -> None:
    """Complete a swap or delete its copies, and delete the fresh files of an interrupted rebuild.

    Raises `StoreUnavailable`.
    """
    complete_swap(store)
    if store.read(_BEGUN) is not None:
        drop(store, OLD)
        store.delete([_BEGUN])
    store.prune(SWAP)
    drop(store, NEW)


def drop(store: ObjectStore, folder: str) -> None:
    """Delete a folder.  Raises `StoreUnavailable`."""
    _each(lambda key: store.delete([key]), (file.key for file in store.files_below(folder)))
    store.prune(folder)


def _place(store: ObjectStore, schema: str) -> None:
    fresh, present = _by_folder(own_keys(StoreWithin(store, NEW), schema)), _by_folder(own_keys(store, schema))

    def place_folder(folder: str) -> None:
        keys = fresh.get(folder, set())
        for key in sorted(keys):
            store.copy(f"{NEW}/{key}", key)
        store.delete(sorted(present.get(folder, set()) - keys))

    _each(place_folder, sorted({*fresh, *present}))
    store.prune(source_folder(schema))


def _by_folder(keys: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key in keys:
        found.setdefault(key.rpartition("/")[0], set()).add(key)
    return found


def _each(work: Callable[[str], None], keys: Iterable[str]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, keys))
