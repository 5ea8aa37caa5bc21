"""`trackcore stats`: counts, rates, sizes, clock skew, warnings and rejections."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles

import attrs
import click
from trackcore_sqlite import GroupCount, spread

from trackcore import JSONObject, KeyLocation, StoredMessage, format_timestamp
from trackcore.explanation import explain_time
from trackcore.support import truncate_to_milliseconds
from trackcore_server.cli._counts import show_counts
from trackcore_server.cli._options import format_option, location_options, since_option
from trackcore_server.cli._output import is_terminal, write_line
from trackcore_server.config.deployment import find_deployment
from trackcore_server.inspection.counting import GROUPINGS
from trackcore_server.storage.backend import Browser, Unsupported
from trackcore_server.storage.backends import backend_of

BUCKETS = 48
_SAMPLE = 2_000
_PAGE = 20_000

_EXAMPLES = """\b
Examples:
  trackcore stats
  trackcore stats --since 15m
  trackcore stats --by event --since 7d
  trackcore stats --by day --format csv
  trackcore stats --since 2026-01-31T12:00Z | jq .rejected
"""


@click.command(epilog=_EXAMPLES)
@location_options
@since_option("Only records", "  [default: 1d; with --by, all]")
@click.option("--by", type=click.Choice(tuple(GROUPINGS)), help="Only count messages, by event, source or day.")
@format_option("json", "table", "csv", unit="one JSON object; csv needs --by")
def stats(
    *, config: Path | None, data: Path | None, since: datetime | None, by: str | None, output_format: str | None
) -> None:
    """Count messages by source and type, and rejections by code; measure rates, sizes and clock skew.

    Counts are exact, also those of warnings by code: codes that begin with `plan_` are violations of the tracking plan.
    The quantiles of sizes (in bytes, as stored) and clock skew (sentAt - receivedAt in seconds, network latency
    included) come from a sample of up to 2,000 messages, spread evenly over the time.

    With --by: how many messages each event, source or day has, their share and bytes, and when the first and the last
    were received. The day is that of `timestamp`, the corrected time. All messages are read, and up to 10,000 events or
    days are counted one by one.
    """
    backend = backend_of(find_deployment(config=config, data=data).configuration)
    until = truncate_to_milliseconds(datetime.now(UTC))
    if since is not None and since > until:
        raise click.BadParameter(f"{format_timestamp(since)} is in the future", param_hint="--since")
    if by is not None:
        show_counts(backend, by, since=since, output_format=output_format)
        return
    if output_format == "csv":
        raise click.UsageError("the format csv needs --by")
    try:
        log = backend.browser()
    except Unsupported as error:
        raise attrs.evolve(error, detail=f"{error.detail}; --by counts the messages of any log") from None
    since = since or until - timedelta(days=1)
    found = _gather(log, since=truncate_to_milliseconds(since), until=until)
    if output_format == "json" or (output_format is None and not is_terminal()):
        write_line(sys.stdout.buffer, found)
        sys.stdout.buffer.flush()
        return
    from trackcore_server.cli._stats_tables import show_tables  # noqa: PLC0415 - it imports rich, which takes a while

    show_tables(found)


def _gather(log: Browser, *, since: datetime, until: datetime) -> JSONObject:
    edges = [since + (until - since) * place / BUCKETS for place in range(BUCKETS)]
    seqs = [*log.seqs_at(edges), log.ends()["messages"]]
    sampled = spread(seqs[0], seqs[-1], _SAMPLE)
    messages = log.sample(sampled)
    groups, warnings = _count(log, seqs[0], seqs[-1])
    return {
        "since": format_timestamp(since),
        "until": format_timestamp(until),
        "messages": sum(group.count for group in groups),
        "bytes": sum(group.size for group in groups),
        "groups": [
            {
                "source": group.source,
                "type": group.call,
                "count": group.count,
                "bytes": group.size,
                "largest": group.largest,
                "retried": group.retried,
            }
            for group in groups
        ],
        "rate": {
            "seconds": (until - since).total_seconds() / BUCKETS,
            "counts": [high - low for low, high in itertools.pairwise(seqs)],
        },
        "sampled": len(messages),
        "size": _distribution(log.sizes(sampled)),
        "clockSkew": _distribution(list(_skews(messages))),
        "warnings": dict(warnings.most_common()),
        "rejected": log.refused(since),
    }


def _count(log: Browser, after: int, to: int) -> tuple[list[GroupCount], Counter[str]]:
    """Count page by page, so that no reader holds the log for long and the progress can be shown."""
    found: dict[tuple[str, str], GroupCount] = {}
    warnings: Counter[str] = Counter()
    with click.progressbar(
        range(after, to, _PAGE),
        label="Counting",
        file=sys.stderr,
        hidden=to - after <= _PAGE or not sys.stderr.isatty(),
    ) as pages:
        for low in pages:
            for group in log.counted(low, min(low + _PAGE, to)):
                key = group.source, group.call
                found[key] = _together(found[key], group) if key in found else group
            warnings.update(log.warned(low, min(low + _PAGE, to)))
    return sorted(found.values(), key=lambda group: (group.source, -group.count)), warnings


def _together(one: GroupCount, other: GroupCount) -> GroupCount:
    largest = max(one.largest, other.largest)
    retried = one.retried + other.retried
    return attrs.evolve(
        one, count=one.count + other.count, size=one.size + other.size, largest=largest, retried=retried
    )


def _skews(messages: Sequence[StoredMessage]) -> Iterator[float]:
    for stored in messages:
        if stored.found_by == KeyLocation.FILE:  # messages of an import were sent long ago
            continue
        if (skew := explain_time(stored.message).clock_skew) is not None:
            yield skew.total_seconds()


def _distribution(values: Sequence[float]) -> JSONObject | None:
    """Return the quantiles of numbers, and a histogram from the 1st to the 99th percentile."""
    if not values:
        return None
    at = quantiles(values, n=100, method="inclusive") if len(values) > 1 else [values[0]] * 99
    low, high = (at[0], at[98]) if len(values) >= _PERCENTILES else (min(values), max(values))
    width = (high - low) / _BARS or 1
    histogram = Counter(min(int((value - low) / width), _BARS - 1) for value in values if low <= value <= high)
    return {
        "count": len(values),
        "least": min(values),
        "p1": low,
        "p10": at[9],
        "median": at[49],
        "p90": at[89],
        "p99": high,
        "most": max(values),
        "histogram": [histogram[bar] for bar in range(_BARS)],
    }


_BARS = 24
_PERCENTILES = 100
"""So many values have percentiles; a histogram of fewer shows them all."""
