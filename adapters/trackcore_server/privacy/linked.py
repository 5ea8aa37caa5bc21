"""The ids of one person: those that `identify`, `alias` and other messages of the log link to a first one.

A user id leads to the anonymous ids that came with it, and an alias leads from one of its ids to the other.  An
anonymous id never leads to a user id, and one that came with several user ids, as from a shared device, is left out:
otherwise one person's request would delete the messages of another.
"""

from __future__ import annotations

from collections import defaultdict

from trackcore import Log
from trackcore.privacy import SUBJECT_KINDS, Subject


def linked_subjects(log: Log, first: Subject) -> tuple[Subject, ...]:
    """Return a person's ids, the first one included."""
    anonymous_of: dict[str, set[str]] = defaultdict(set)
    users_of: dict[str, set[str]] = defaultdict(set)
    aliases: dict[Subject, set[Subject]] = defaultdict(set)
    for stored in log.messages():
        user, anonymous = stored.message.get("userId"), stored.message.get("anonymousId")
        if user and anonymous:
            anonymous_of[user].add(anonymous)
            users_of[anonymous].add(user)
        previous = stored.message.get("previousId") if stored.call == "alias" else None
        if user and previous:
            for kind in SUBJECT_KINDS:
                aliases[Subject(kind, previous)].add(Subject("user", user))
                aliases[Subject("user", user)].add(Subject(kind, previous))
    found = {first}
    waiting = [first]
    while waiting:
        subject = waiting.pop()
        linked = set(aliases[subject])
        if subject.kind == "user":
            linked |= {Subject("anonymous", one) for one in anonymous_of[subject.id] if len(users_of[one]) == 1}
        waiting += linked - found
        found |= linked
    return (first, *sorted(found - {first}, key=lambda one: (one.kind, one.id)))
