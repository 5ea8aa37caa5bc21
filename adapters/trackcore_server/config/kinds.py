"""The kinds of destination that a configuration can name."""

from __future__ import annotations

from collections.abc import Mapping

from trackcore_delivery import DeliveredDestination, FileDestination, SegmentDestination, WebhookDestination

from trackcore_server.config.file_destinations import ArchiveDestination, DuckDBDestination, ParquetDestination
from trackcore_server.config.kafka_destination import KafkaTopicDestination
from trackcore_server.config.postgres_destination import PostgresDestination

KINDS: Mapping[str, type[DeliveredDestination]] = {
    kind.kind: kind
    for kind in (
        ArchiveDestination,
        DuckDBDestination,
        FileDestination,
        KafkaTopicDestination,
        ParquetDestination,
        PostgresDestination,
        SegmentDestination,
        WebhookDestination,
    )
}
