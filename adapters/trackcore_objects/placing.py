"""Which messages of a batch are not in the store yet.

Theory.  The store itself knows what arrived, so there is no second record that could contradict it.  Files are put
whole, and their names have the range of numbers in them.  For each batch the files of its folders are listed; in the
normal case no range overlaps that of the batch, and nothing is read.  If one does, the batch or a part of it was sent
before: after a crash, by a replay, from the dead letters, or since the state of delivery or the log was replaced.  Then
the ids in those files are read, and only messages that none of them has are put, in a file of their own.  So

- after each put the store has every message of that file once, and loses none that it had;
- a process that is killed at any instant has put a file or not, and the next attempt finds out which;
- the numbers of another log, which may repeat, cannot hide a message: ids decide, not numbers.

Two processes that send the same messages at the same time could both put them.  The lock of delivery excludes that
where the log is a file.  With a log in Kafka a partition changes hands only between batches, unless a process hangs for
longer than its group waits for it; its last file may then be there beside that of its successor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from trackcore_delivery import FedMessage

from trackcore_objects.file_names import FileName, parse_name
from trackcore_objects.store import ObjectStore

_PARTITION_SHIFT = 44
"""The numbers of a log in Kafka have their partition in the bits above; those of other logs are less than that."""


def partition_of(position: int) -> int:
    """Return the partition of a log in Kafka, within which alone numbers compare; 0 for other logs."""
    return position >> _PARTITION_SHIFT


def files_in(store: ObjectStore, folder: str) -> list[FileName]:
    """Return the files of a folder that destinations have put there.  Raises `StoreUnavailable`."""
    names = map(parse_name, store.names(folder))
    return [name for name in names if name is not None]


def missing_messages(
    files: Sequence[FileName],
    messages: Sequence[FedMessage],
    present_in: Callable[[FileName, AbstractSet[str]], Iterable[str]],
) -> list[FedMessage]:
    """Return the messages that no file of a folder has, in the order of their numbers.

    `present_in` returns which of some ids are in a file.
    """
    ordered = sorted(messages, key=lambda message: message.position)
    overlapping = [file for file in files if file.overlaps(ordered[0].position, ordered[-1].position)]
    if not overlapping:
        return ordered
    wanted = {message.message_id for message in ordered}
    for file in overlapping:
        wanted.difference_update(present_in(file, wanted))
    return [message for message in ordered if message.message_id in wanted]
