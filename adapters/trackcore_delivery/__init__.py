"""Delivery: from the log to destinations, at least once, in order for each user, each destination by itself.

A `Feed`, or a `DeliveryQueue` of another kind, gives the messages, a `State` keeps how far each destination has come
and what failed, a kind of destination brings a `Sender`, and `Delivery` runs them.  `worker` says how, and why what is
promised holds.
"""

from trackcore_delivery.delivery import Delivery
from trackcore_delivery.destination import ByteCount, DeliveredDestination, SamePlace, check_places
from trackcore_delivery.feed import FedMessage, Feed, FeedUnavailable, Page, Selection
from trackcore_delivery.kinds.callable import CallableDestination
from trackcore_delivery.kinds.file import FileDestination
from trackcore_delivery.kinds.segment import SegmentDestination
from trackcore_delivery.kinds.webhook import WebhookDestination
from trackcore_delivery.lock import DeliveryLock
from trackcore_delivery.log_feed import LogFeed, fed_message, make_feed
from trackcore_delivery.patience import Place
from trackcore_delivery.queues import BatchWait, DeliveryQueue, RetryQueue, Waiting, make_queues
from trackcore_delivery.results import DeadLetter, DeliveryResult, DestinationStatus, HeldUser, Replay
from trackcore_delivery.secret import MissingSecret, Secret, UnusableSecret
from trackcore_delivery.sending import DeliveryBatch, MessageRefused, PermanentError, RetryLater, Sender, SenderContext
from trackcore_delivery.state import State
from trackcore_delivery.state_file import UnusableState
from trackcore_delivery.visible import visible

__all__ = [
    "BatchWait",
    "ByteCount",
    "CallableDestination",
    "DeadLetter",
    "DeliveredDestination",
    "Delivery",
    "DeliveryBatch",
    "DeliveryLock",
    "DeliveryQueue",
    "DeliveryResult",
    "DestinationStatus",
    "FedMessage",
    "Feed",
    "FeedUnavailable",
    "FileDestination",
    "HeldUser",
    "LogFeed",
    "MessageRefused",
    "MissingSecret",
    "Page",
    "PermanentError",
    "Place",
    "Replay",
    "RetryLater",
    "RetryQueue",
    "SamePlace",
    "Secret",
    "SegmentDestination",
    "Selection",
    "Sender",
    "SenderContext",
    "State",
    "UnusableSecret",
    "UnusableState",
    "Waiting",
    "WebhookDestination",
    "check_places",
    "fed_message",
    "make_feed",
    "make_queues",
    "visible",
]
