"""Kafka as a destination: messages are sent to a topic, in order for each user.

The topic is not created here: it belongs to its readers.  Key and value of the records are the caller's; Kafka chooses
the partition of a key (murmur2), so topics with equally many partitions can be joined by key.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from confluent_kafka import KafkaError, KafkaException

from trackcore import TrackcoreError
from trackcore.support import MEBIBYTE
from trackcore_kafka.cluster import ClientSettingRefused, KafkaCluster, explain
from trackcore_kafka.producer import AcknowledgedProducer
from trackcore_kafka.records import Record

_PERMANENT = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.POLICY_VIOLATION,
}


@attrs.define(kw_only=True, eq=False)
class NotAcknowledged(TrackcoreError):
    """Records were not acknowledged.

    `refused` has the indexes of those that never will be, with the reason of each; `unsettled` the indexes of those
    that may be when sent again: they may or may not be in the topic.
    """

    detail: str
    refused: dict[int, str]
    unsettled: tuple[int, ...]


class KafkaTopicWriter:
    """A topic to send to.  Nothing is connected before the first `send`.

    Args:
        cluster: the cluster.
        topic: the topic; it must exist.
        timeout: seconds to wait for acknowledgements.
        record_bytes: the largest record; the topic's `max.message.bytes` has the last word.
    """

    def __init__(
        self, cluster: KafkaCluster, topic: str, *, timeout: float = 30.0, record_bytes: int = MEBIBYTE
    ) -> None:
        self._topic = topic
        self._producer = AcknowledgedProducer(cluster, timeout=timeout, record_bytes=record_bytes)

    def send(self, keyed: Sequence[tuple[bytes | None, bytes]]) -> None:
        """Send (key, value) pairs, in this order for each key; return when all are acknowledged by all replicas.

        On failure, some may have been acknowledged, later ones of the same key among them; to keep the order, resend
        all records from the first unsettled one on.

        Raises:
            NotAcknowledged: not all of them were.
        """
        try:
            # A timestamp of 0 makes the client use the time of sending.
            errors = self._producer.send([Record(self._topic, key, value, [], 0) for key, value in keyed])
        except (KafkaException, ClientSettingRefused) as error:
            detail = explain(error.args[0]) if isinstance(error, KafkaException) else str(error)
            raise NotAcknowledged(detail=detail, refused={}, unsettled=tuple(range(len(keyed)))) from None
        failed = {index: error for index, error in enumerate(errors) if error is not None}
        if failed:
            first = explain(next(iter(failed.values())))
            refused = {index: explain(error) for index, error in failed.items() if error.code() in _PERMANENT}
            raise NotAcknowledged(
                detail=f"{len(failed)} of {len(keyed)} records were not acknowledged: {first}",
                refused=refused,
                unsettled=tuple(index for index in failed if index not in refused),
            )

    def close(self) -> None:
        """Disconnect from the cluster."""
        self._producer.close()
