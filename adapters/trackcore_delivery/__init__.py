"""Delivery: from the log to destinations, at least once, in order for each user, each destination by itself.

A `Feed`, or another kind of `DeliveryQueue`, provides the messages.  A `State` keeps how far each destination has come
and what failed.  Each kind of destination brings a `Sender`, and `Delivery` runs them all.  `destination_worker`
describes the algorithm and why its promises hold.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trackcore_delivery.archive_names import real_place
from trackcore_delivery.destination import (
    NEWEST,
    OLDEST,
    ByteCount,
    DeliveredDestination,
    SamePlace,
    check_places,
    positive,
)
from trackcore_delivery.durable_folders import make_folder, sync_folder
from trackcore_delivery.erasures import Erasure, ErasureRequest, ErasureStatus, Forgetting, erasing
from trackcore_delivery.feed import FedMessage, Feed, FeedUnavailable, Page, Selection
from trackcore_delivery.lock import DeliveryLock
from trackcore_delivery.log_feed import LogFeed, fed_message, make_feed
from trackcore_delivery.masks import MaskSettings
from trackcore_delivery.outcomes import Settlement
from trackcore_delivery.queues import BatchWait, DeliveryQueue, ErasureQueue, RetryQueue, Waiting, make_queues
from trackcore_delivery.results import DeadLetter, DeliveryResult, DestinationStatus, HeldUser, Replay
from trackcore_delivery.retry_window import Place
from trackcore_delivery.scratch import delete_leftovers, scratch_folder
from trackcore_delivery.secret import MissingSecret, Secret, UnusableSecret
from trackcore_delivery.sending import (
    Cursor,
    CursorKeepingSender,
    CursorMoved,
    DeliveryBatch,
    MessageRefused,
    PermanentError,
    RetryLater,
    Sender,
    SenderContext,
)
from trackcore_delivery.state import State
from trackcore_delivery.state_file import UnusableState
from trackcore_delivery.turns import ForgettingSender, Turns, taking_turns

if TYPE_CHECKING:
    from trackcore_delivery.delivery import Delivery
    from trackcore_delivery.kinds.callable import CallableDestination
    from trackcore_delivery.kinds.file import FileDestination
    from trackcore_delivery.kinds.segment import SegmentDestination
    from trackcore_delivery.kinds.webhook import WebhookDestination

__all__ = [
    "NEWEST",
    "OLDEST",
    "BatchWait",
    "ByteCount",
    "CallableDestination",
    "Cursor",
    "CursorKeepingSender",
    "CursorMoved",
    "DeadLetter",
    "DeliveredDestination",
    "Delivery",
    "DeliveryBatch",
    "DeliveryLock",
    "DeliveryQueue",
    "DeliveryResult",
    "DestinationStatus",
    "Erasure",
    "ErasureQueue",
    "ErasureRequest",
    "ErasureStatus",
    "FedMessage",
    "Feed",
    "FeedUnavailable",
    "FileDestination",
    "Forgetting",
    "ForgettingSender",
    "HeldUser",
    "LogFeed",
    "MaskSettings",
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
    "Settlement",
    "State",
    "Turns",
    "UnusableSecret",
    "UnusableState",
    "Waiting",
    "WebhookDestination",
    "check_places",
    "delete_leftovers",
    "erasing",
    "fed_message",
    "make_feed",
    "make_folder",
    "make_queues",
    "positive",
    "real_place",
    "scratch_folder",
    "sync_folder",
    "taking_turns",
]

_WITH_CLIENTS = {
    "CallableDestination": "kinds.callable",
    "Delivery": "delivery",
    "FileDestination": "kinds.file",
    "SegmentDestination": "kinds.segment",
    "WebhookDestination": "kinds.webhook",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what delivers when it is used: who reads a configuration, or the state, needs no HTTP client."""
        if name not in _WITH_CLIENTS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_WITH_CLIENTS[name]}"), name)
