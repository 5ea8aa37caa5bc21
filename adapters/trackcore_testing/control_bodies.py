"""The bodies of control requests, as structs from which their JSON Schema is derived too."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from trackcore import Call
from trackcore_testing.faults import Fault
from trackcore_testing.matching import Expectation
from trackcore_testing.tracking import Tracking

_MAX_WAIT_SECONDS = 600

Expected: TypeAlias = Any | UnsetType
Times: TypeAlias = Annotated[int, Meta(ge=1, description="For how many requests.")]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]
SourceName: TypeAlias = Annotated[str | None, Meta(description="Only requests of this source; null for any.")]


class _Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A body: a misspelt name in it is an error."""


class WaitRequest(_Body):
    """The message to wait for; fields that are left out are not compared.  null: the message must not have it."""

    type: Call | UnsetType = UNSET
    event: Expected = UNSET
    name: Expected = UNSET
    category: Expected = UNSET
    user_id: Expected = UNSET
    anonymous_id: Expected = UNSET
    group_id: Expected = UNSET
    previous_id: Expected = UNSET
    properties: Expected = UNSET
    traits: Expected = UNSET
    context: Expected = UNSET
    integrations: Expected = UNSET
    exactly: Annotated[bool, Meta(description="Objects must not have other keys than the expected ones.")] = False
    count: Annotated[int | None, Meta(description="How many messages match; null for one or more.")] = None
    timeout: Annotated[float, Meta(ge=0, le=_MAX_WAIT_SECONDS, description="Seconds.")] = 5

    def expectation(self) -> Expectation:
        """Return the expectation of the message."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not UNSET}
        names = dict(zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True))
        fields = {names[name]: value for name, value in given.items() if name not in _NOT_COMPARED}
        call = None if self.type is UNSET else self.type
        return Expectation(call=call, fields=fields, exactly=self.exactly)


_NOT_COMPARED = frozenset({"type", "exactly", "count", "timeout"})


class FailNext(_Body, tag_field="fault", tag="fail_next"):
    """Answer the next requests with a failure, and store nothing of them."""

    status: Annotated[int, Meta(ge=400, le=599)] = 503
    times: Times = 1
    retry_after: Annotated[int | None, Meta(description="Seconds; null for no such header.")] = None
    source: SourceName = None


class Delay(_Body, tag_field="fault", tag="delay"):
    """Process requests later."""

    seconds: Seconds
    times: Times | None = None
    source: SourceName = None


class DropConnection(_Body, tag_field="fault", tag="drop_connection"):
    """Close the connection without an answer, and store nothing."""

    times: Times = 1
    source: SourceName = None


class TruncateAnswer(_Body, tag_field="fault", tag="truncate_answer"):
    """Store the messages, and close the connection in the middle of the answer."""

    times: Times = 1
    source: SourceName = None


class Refuse(_Body, tag_field="fault", tag="refuse"):
    """Answer all requests with 401."""

    source: SourceName = None


FaultRequest: TypeAlias = FailNext | Delay | DropConnection | TruncateAnswer | Refuse


def add_fault(tracking: Tracking, request: FaultRequest) -> Fault:
    """Add a fault: its tag is the name of the method of `Tracking`."""
    add = getattr(tracking, str(request.__struct_config__.tag))
    fault: Fault = add(**msgspec.structs.asdict(request))
    return fault
