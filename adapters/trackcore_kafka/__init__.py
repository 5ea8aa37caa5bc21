"""The distributed log: the same messages in Apache Kafka, for installations of more than one machine.

`KafkaSink` writes it, from any number of processes and machines, `KafkaLog` reads it, and `KafkaGroupReader` shares the
reading among several processes.  `KafkaTopicWriter` sends messages to any topic.
"""

from trackcore_kafka.cluster import ClientSettingRefused, KafkaCluster, UnusableCluster
from trackcore_kafka.group import KafkaGroupReader
from trackcore_kafka.log import DUPLICATE_WINDOW, KafkaLog
from trackcore_kafka.records import offset_of, partition_of, place_of, seq_of, user_key
from trackcore_kafka.sink import KafkaSink
from trackcore_kafka.topic_writer import KafkaTopicWriter, NotAcknowledged
from trackcore_kafka.topics import KafkaTopics

__all__ = [
    "DUPLICATE_WINDOW",
    "ClientSettingRefused",
    "KafkaCluster",
    "KafkaGroupReader",
    "KafkaLog",
    "KafkaSink",
    "KafkaTopicWriter",
    "KafkaTopics",
    "NotAcknowledged",
    "UnusableCluster",
    "offset_of",
    "partition_of",
    "place_of",
    "seq_of",
    "user_key",
]
