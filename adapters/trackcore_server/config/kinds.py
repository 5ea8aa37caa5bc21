"""The kinds of destination that a configuration can name.

The class of a kind is imported when a configuration names it: with their clients, all of them take longer than what
most commands do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pkgutil import resolve_name

from trackcore_delivery import DeliveredDestination

_PLACES = {
    "s3-archive": "trackcore_server.config.file_destinations:ArchiveDestination",
    "duckdb": "trackcore_server.config.file_destinations:DuckDBDestination",
    "file": "trackcore_delivery:FileDestination",
    "kafka": "trackcore_server.config.kafka_destination:KafkaTopicDestination",
    "parquet": "trackcore_server.config.file_destinations:ParquetDestination",
    "postgres": "trackcore_server.config.postgres_destination:PostgresDestination",
    "segment": "trackcore_delivery:SegmentDestination",
    "webhook": "trackcore_delivery:WebhookDestination",
}


class _Kinds(Mapping[str, type[DeliveredDestination]]):
    """Classes by the names of their kinds, imported when they are looked up."""

    def __getitem__(self, name: str) -> type[DeliveredDestination]:
        found: type[DeliveredDestination] = resolve_name(_PLACES[name])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)

    def __contains__(self, name: object) -> bool:
        return name in _PLACES


KINDS: Mapping[str, type[DeliveredDestination]] = _Kinds()
