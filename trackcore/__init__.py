"""Segment-compatible tracking as a library: decode, validate, merge, time and route messages; no IO inside.

>>> from datetime import UTC, datetime
>>> from uuid import uuid4
>>> from trackcore import Collector, MemorySink, Source, Track
>>> collector = Collector(
...     sources=[Source(name="website", write_keys=["abc123"])],
...     sink=MemorySink(),
...     clock=lambda: datetime.now(UTC),
...     new_message_id=lambda: str(uuid4()),
... )
>>> body = b'{"batch": [{"type": "page"}, {"type": "page", "userId": "42"}], "writeKey": "abc123"}'
>>> receipt = collector.receive(body)
>>> receipt.accepted, str(receipt.rejections[0].error)
(1, 'a message needs a userId or an anonymousId')
>>> collector.submit(Track(user_id="42", event="Paid"), source="website").raise_for_rejections()

With a log on disk it is shorter: see open_collector in the package trackcore_sqlite.

The modules, lowest first: `typing`, `limits`, `errors`; the room `text` (`text.unexpected`, `text.addresses`,
`text.blanks`, `text.jsontext`, `text.timetext`, `text.printable`); `timestamps`, `clock_skew`, `credentials`,
`failures` (the body of a failed HTTP request), `masking` (write keys in what is shown), `fields` (the description of a
field), `messages`, `marks` (positions in a log, with their proof), `paths` (which path takes which body); the room
`wire`: `wire.plainjson` (Python values as JSON), `wire.rules` (the rules of one message), `wire.fast` (the fast way
through them), `wire.request` (a body taken apart), `wire.codec` (bytes to typed messages and back) and `wire.schema`
(the rules as JSON Schema, for others); `caching` (for what is computed from a client's text), `merge`, `consent`,
`integrations`, `routing`, `sinks`, `log` (how stored records are read), `memory` (a sink and its log, for tests); the
room `plans`, tracking plans: `plans.locations` (places in a message), `plans.documents` (a plan as data), `plans.names`
(near misses), `plans.schemas` (the validator that is passed in), `plans.planned` (the names of a rule), `plans.reading`
(the fields that rules read), `plans.violations`, `plans.controls` (the treatment of violations), `plans.plan` (the
check) and `plans.json_schema` (a plan for other validators); the room `privacy`, personal data: `privacy.ip`
(addresses), `privacy.fields` (masks), `privacy.rules`, `privacy.scan`, `privacy.subjects` (persons) and
`privacy.suppressing` (a sink); `origins` (the source of a request), `rejected` (rejections and their records),
`reception` (how a request came in, and its result), `redaction` (personal data in what is kept), `plans.rudder`
(violations as RudderStack writes them), `plans.enforcement` (a plan in force at intake), `plans.forwarding` (messages
about violations), `receipts` (the result of a request), `metrics` (what is counted), `message_times`, `pipeline` (the
order of the steps) and `intake` (from a body to the pipeline of its source); `collector` (the class that applications
embed); the room `explanation`: `explanation.entries`, `explanation.plans`, `explanation.rejections` and
`explanation.catalog` (the meaning of each code), `explanation.reports` and `explanation.explain` (reports about single
messages); the room `warehouse`, messages as rows of tables: `warehouse.names`, `warehouse.values`, `warehouse.columns`,
`warehouse.options`, `warehouse.persons`, `warehouse.rows` (the rows of a message), `warehouse.schema` (tables and
columns as they come), `warehouse.profiles` (the latest traits) and `warehouse.inspection` (what a warehouse holds).
"""

from trackcore.clock_skew import CorrectedTimestamp, TimeRule, correct_clock_skew
from trackcore.collector import Collector
from trackcore.consent import ConsentRule, Refusal
from trackcore.credentials import Source, SourceRegistry, mask_write_key, write_key_from_authorization
from trackcore.errors import (
    Invalid,
    InvalidMessage,
    InvalidRequest,
    MessageWarning,
    Reason,
    TrackcoreError,
    WarningCode,
)
from trackcore.explanation.catalog import CATALOG
from trackcore.explanation.entries import CatalogEntry
from trackcore.explanation.explain import explain_message, explain_quarantined, explain_rejection
from trackcore.explanation.reports import MessageExplanation, QuarantineExplanation, RejectionExplanation
from trackcore.intake import Pipelines, receive
from trackcore.integrations import Decision, DecisionReason, Destination, Resolution, Resolver, resolve_destinations
from trackcore.limits import DEFAULT_LIMITS, Limits
from trackcore.log import (
    EVERYTHING,
    PARTS,
    Log,
    LogSnapshot,
    LogUnavailable,
    Part,
    Query,
    Search,
    SnapshotLog,
    StoredMessage,
    StoredPayload,
    StoredQuarantined,
    StoredRejected,
    Tail,
    Totals,
)
from trackcore.marks import LogChanged, Mark, Stretch
from trackcore.memory import MemoryLog, MemorySink
from trackcore.merge import merge_batch, merge_objects
from trackcore.messages import Alias, Batch, Group, Identify, Message, Page, Screen, Track
from trackcore.metrics import METRICS, Metric, MetricKind, Metrics, MetricValue
from trackcore.origins import Origin
from trackcore.paths import endpoint_of
from trackcore.pipeline import Pipeline
from trackcore.receipts import MessagesRejected, PendingReceipt, Receipt
from trackcore.reception import IntakeResult, Reception
from trackcore.rejected import Rejection
from trackcore.routing import resolvers_for
from trackcore.sinks import (
    AsyncSink,
    Cause,
    Envelope,
    KeyLocation,
    Outcome,
    QuarantinedRequest,
    RejectedRecord,
    Sink,
    SinkUnavailable,
)
from trackcore.text.timetext import parse_timestamp
from trackcore.timestamps import format_timestamp
from trackcore.typing import Call, Clock, Endpoint, JSONObject, NewMessageId, WriteKey
from trackcore.wire.codec import (
    decode_batch,
    decode_message,
    encode_batch,
    encode_message,
    structure_message,
    unstructure_message,
)
from trackcore.wire.schema import any_message_schema, batch_schema, message_schema

__all__ = [
    "CATALOG",
    "DEFAULT_LIMITS",
    "EVERYTHING",
    "METRICS",
    "PARTS",
    "Alias",
    "AsyncSink",
    "Batch",
    "Call",
    "CatalogEntry",
    "Cause",
    "Clock",
    "Collector",
    "ConsentRule",
    "CorrectedTimestamp",
    "Decision",
    "DecisionReason",
    "Destination",
    "Endpoint",
    "Envelope",
    "Group",
    "Identify",
    "IntakeResult",
    "Invalid",
    "InvalidMessage",
    "InvalidRequest",
    "JSONObject",
    "KeyLocation",
    "Limits",
    "Log",
    "LogChanged",
    "LogSnapshot",
    "LogUnavailable",
    "Mark",
    "MemoryLog",
    "MemorySink",
    "Message",
    "MessageExplanation",
    "MessageWarning",
    "MessagesRejected",
    "Metric",
    "MetricKind",
    "MetricValue",
    "Metrics",
    "NewMessageId",
    "Origin",
    "Outcome",
    "Page",
    "Part",
    "PendingReceipt",
    "Pipeline",
    "Pipelines",
    "QuarantineExplanation",
    "QuarantinedRequest",
    "Query",
    "Reason",
    "Receipt",
    "Reception",
    "Refusal",
    "RejectedRecord",
    "Rejection",
    "RejectionExplanation",
    "Resolution",
    "Resolver",
    "Screen",
    "Search",
    "Sink",
    "SinkUnavailable",
    "SnapshotLog",
    "Source",
    "SourceRegistry",
    "StoredMessage",
    "StoredPayload",
    "StoredQuarantined",
    "StoredRejected",
    "Stretch",
    "Tail",
    "TimeRule",
    "Totals",
    "Track",
    "TrackcoreError",
    "WarningCode",
    "WriteKey",
    "any_message_schema",
    "batch_schema",
    "correct_clock_skew",
    "decode_batch",
    "decode_message",
    "encode_batch",
    "encode_message",
    "endpoint_of",
    "explain_message",
    "explain_quarantined",
    "explain_rejection",
    "format_timestamp",
    "mask_write_key",
    "merge_batch",
    "merge_objects",
    "message_schema",
    "parse_timestamp",
    "receive",
    "resolve_destinations",
    "resolvers_for",
    "structure_message",
    "unstructure_message",
    "write_key_from_authorization",
]
