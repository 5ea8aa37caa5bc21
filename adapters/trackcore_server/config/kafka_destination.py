"""`kafka`: a topic, keyed so that the messages of each user stay in order.

A record's value is the stored message, its key a JSON array of source and user: `["website","019mr8mf4r"]`, the same as
in a log in Kafka.  The topic must exist; its number of partitions is up to its readers.

A batch counts as delivered when all in-sync replicas have acknowledged it.  If only a part was acknowledged, the whole
batch is sent again, to keep the order; a record that the topic never accepts, such as one that is too large, is
rejected individually.

Only this kind needs another adapter, so it is in the package that combines the adapters.  The Kafka client is imported
when a sender is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import attrs
from trackcore_delivery import DeliveredDestination, DeliveryBatch, MessageRefused, RetryLater, Secret, SenderContext

from trackcore_server.config.kafka_log import ClientSettings, check_servers, check_timeout, check_topic, named_secrets

if TYPE_CHECKING:
    from trackcore_kafka import KafkaTopicWriter


@attrs.frozen(kw_only=True)
class KafkaTopicDestination(DeliveredDestination):
    """A topic of a cluster.  `timeout` is how long acknowledgements may take; `client` is passed to librdkafka."""

    kind: ClassVar[str] = "kafka"

    bootstrap_servers: str = attrs.field(validator=check_servers)
    topic: str = attrs.field(validator=check_topic)
    timeout: timedelta = attrs.field(default=timedelta(seconds=30), validator=check_timeout)
    client: ClientSettings = attrs.field(factory=lambda: ClientSettings({}), repr=False)  # it may have secrets

    def make_sender(self, context: SenderContext) -> KafkaSender:
        """See `DeliveredDestination.make_sender`."""
        try:
            from trackcore_kafka import ClientSettingRefused, KafkaCluster, KafkaTopicWriter  # noqa: PLC0415 - see above
        except ModuleNotFoundError as error:
            raise ValueError(f"the kind 'kafka' needs {error.name}: pip install 'trackcore[kafka]'") from error
        secrets = {name: secret.reveal(context.environ) for name, secret in named_secrets(self.client)}
        try:
            cluster = KafkaCluster(bootstrap_servers=self.bootstrap_servers, client={**self.client, **secrets})
            cluster.check_settings()
        except ClientSettingRefused as error:
            raise ValueError(f"client.{error}" if error.name else f"client: {error}") from None
        return KafkaSender(KafkaTopicWriter(cluster, self.topic, timeout=self.timeout.total_seconds()))

    def secrets(self) -> Iterator[tuple[str, Secret]]:
        """See `DeliveredDestination.secrets`."""
        yield from ((f"client.{name}", secret) for name, secret in named_secrets(self.client))


@attrs.define
class KafkaSender:
    """Sends batches to a topic."""

    _destination: KafkaTopicWriter

    def send(self, batch: DeliveryBatch) -> Sequence[MessageRefused]:
        """See `Sender.send`."""
        from trackcore_kafka import NotAcknowledged, user_key  # noqa: PLC0415 - see the module

        records = [(user_key(message.source, message.user), message.payload) for message in batch.messages]
        try:
            self._destination.send(records)
        except NotAcknowledged as error:
            if error.unsettled:
                raise RetryLater(detail=str(error), of_destination=True) from None
            return [MessageRefused(index, reason) for index, reason in error.refused.items()]
        return ()

    def close(self) -> None:
        """See `Sender.close`."""
        self._destination.close()
