"""`s3-archive`: each message once, whole, where Segment's archives have it."""

from __future__ import annotations

import gzip
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trackcore_kafka
from buckets import ENVIRON, Buckets, FailingStore
from delivery_helpers import NOON, Bench, TurnedClock, envelopes, fed, sender_context, store
from hypothesis import given
from hypothesis import strategies as st
from trackcore_delivery import DeliveryBatch, FedMessage, RetryLater, SamePlace, Sender, check_places
from trackcore_objects import ArchiveSender, FileName, ObjectStore, open_store, partition_of
from trackcore_objects.file_names import parse_name
from trackcore_objects.folder import FolderStore
from trackcore_server.config.file_destinations import ArchiveDestination

MIDNIGHT_MS = 1769817600000
"""2026-01-31T00:00:00Z"""


def archive(**settings: Any) -> ArchiveDestination:
    return ArchiveDestination(name="There", **{"location": "out", **settings})


def opened(folder: Path, **settings: Any) -> Sender:
    return archive(**settings).make_sender(sender_context(folder, ENVIRON))


def send(sender: Sender, messages: Sequence[FedMessage]) -> None:
    assert list(sender.send(DeliveryBatch(destination="There", messages=messages))) == []


def content(folder: Path) -> dict[str, bytes]:
    """Return every file: its key and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def messages_in(files: Mapping[str, bytes]) -> list[bytes]:
    """Read an archive as a tool does that knows Segment's layout alone."""
    found = []
    for key, packed in sorted(files.items()):
        assert "segment-logs/" in key
        assert key.endswith(".gz")
        found += gzip.decompress(packed).splitlines()
    return found


def payloads(messages: Sequence[FedMessage]) -> Counter[bytes]:
    return Counter(message.payload for message in messages)


class TestLayout:
    """`s3://{bucket}/segment-logs/{sourceId}/{received day as unix time of its UTC midnight, in ms}/{name}.gz`"""

    def test_a_file_is_in_the_folder_of_its_source_and_received_day(self, tmp_path: Path) -> None:
        send(opened(tmp_path), fed(3))
        (key,) = content(tmp_path)
        folder, _, name = key.rpartition("/")
        assert folder == f"out/segment-logs/website/{MIDNIGHT_MS}"
        assert str(parse_name(name)) == name
        assert name.startswith("00000000000000000001-00000000000000000003-")

    def test_a_line_is_a_whole_message_and_a_batch_is_split_by_source_and_day(self, tmp_path: Path) -> None:
        first, second, third, fourth = fed(4)
        tomorrow = NOON + timedelta(hours=12)
        batch = [first, second._replace(source="app"), third._replace(received_at=tomorrow), fourth]
        send(opened(tmp_path), batch)
        files = content(tmp_path)
        assert [key.split("/")[2:4] for key in files] == [
            ["app", str(MIDNIGHT_MS)],
            ["website", str(MIDNIGHT_MS)],
            ["website", str(MIDNIGHT_MS + 86_400_000)],
        ]
        assert payloads(batch) == Counter(messages_in(files))
        assert messages_in(files)[1:3] == [first.payload, fourth.payload]

    @pytest.mark.parametrize("source", ["..", ".", "a/b", "ü b", "a\\b", "%2E", "x" * 60])
    def test_a_source_of_any_name_has_a_folder_of_its_own(self, source: str, tmp_path: Path) -> None:
        send(opened(tmp_path), [message._replace(source=source) for message in fed(1)])
        (key,) = content(tmp_path)
        assert len(key.split("/")) == 5
        assert key.startswith("out/segment-logs/")

    def test_files_are_for_their_owner_alone(self, tmp_path: Path) -> None:
        send(opened(tmp_path), fed(1))
        (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


class TestExactlyOnce:
    """A file is put whole and only if there is none of its name; whatever is sent again is not there twice."""

    def test_the_same_batch_again_changes_nothing(self, tmp_path: Path) -> None:
        send(opened(tmp_path), fed(5))
        before = content(tmp_path)
        send(opened(tmp_path), fed(5))
        assert content(tmp_path) == before

    def test_a_longer_batch_after_a_crash_adds_only_what_is_missing(self, tmp_path: Path) -> None:
        send(opened(tmp_path), fed(5))
        send(opened(tmp_path), fed(9))
        assert Counter(messages_in(content(tmp_path))) == payloads(fed(9))
        assert len(content(tmp_path)) == 2

    def test_dead_letters_that_are_sent_later_are_added(self, tmp_path: Path) -> None:
        messages = fed(9)
        send(opened(tmp_path), [*messages[:3], *messages[6:]])
        send(opened(tmp_path), messages[4:5])
        send(opened(tmp_path), messages)
        assert Counter(messages_in(content(tmp_path))) == payloads(messages)

    def test_numbers_of_another_log_hide_no_message(self, tmp_path: Path) -> None:
        """After a restore the numbers of lost messages are given again."""
        send(opened(tmp_path), fed(5))
        others = [message._replace(position=message.position - 100) for message in fed(5, first=100)]
        send(opened(tmp_path), others)
        assert Counter(messages_in(content(tmp_path))) == payloads([*fed(5), *others])

    @given(st.lists(st.lists(st.integers(0, 19), min_size=1, unique=True), min_size=1, max_size=6))
    def test_any_batches_leave_each_message_once(self, batches: list[list[int]]) -> None:
        with_folder(lambda folder: self._check_batches(folder, batches))

    def _check_batches(self, folder: Path, batches: list[list[int]]) -> None:
        messages = fed(20)
        sender = opened(folder)
        for numbers in batches:
            send(sender, [messages[number] for number in sorted(numbers)])
        sent = [messages[number] for number in sorted({number for numbers in batches for number in numbers})]
        assert Counter(messages_in(content(folder))) == payloads(sent)

    @pytest.mark.parametrize("is_done", [False, True], ids=["not-done", "answer-lost"])
    def test_after_a_failure_of_any_call_the_next_batch_completes_it(self, is_done: bool, tmp_path: Path) -> None:
        messages = [message._replace(source=f"source-{message.position % 3}") for message in fed(12)]
        at = 1
        while True:
            folder = tmp_path / f"at-{at}"
            failing = FailingStore(FolderStore(folder), at, is_done)
            with suppress(RetryLater):
                send(ArchiveSender(failing), messages[:8])
            if failing.calls < at:
                break
            send(ArchiveSender(FolderStore(folder)), messages)
            assert Counter(messages_in(content(folder))) == payloads(messages)
            at += 1
        assert at == 7  # a listing and a put for each source

    def test_partitions_of_a_log_in_kafka_are_in_different_files(self, tmp_path: Path) -> None:
        first, second = fed(2)
        batch = [first, second._replace(position=(3 << 44) + 1)]
        send(opened(tmp_path), batch)
        assert Counter(messages_in(content(tmp_path))) == payloads(batch)
        names = [parse_name(key.rpartition("/")[2]) for key in content(tmp_path)]
        assert all(name is not None and name.first == name.last for name in names)

    def test_what_a_crash_left_of_a_file_is_deleted_and_never_read(self, tmp_path: Path) -> None:
        send(opened(tmp_path), fed(1))
        (key,) = content(tmp_path)
        part = (tmp_path / key).with_name(".half.gz.part")
        part.write_bytes(b"half")
        send(opened(tmp_path), fed(2))
        assert not part.exists()
        assert Counter(messages_in(content(tmp_path))) == payloads(fed(2))


def with_folder(check: Callable[[Path], None]) -> None:
    """Run a check of an example in a folder of its own: Hypothesis does not renew `tmp_path`."""
    with TemporaryDirectory() as folder:
        check(Path(folder))


class TestNames:
    @given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.sampled_from([".gz", ".parquet"]))
    def test_a_name_is_read_as_it_was_written(self, first: int, last: int, suffix: str) -> None:
        name = FileName(first, last, "0123456789ab", suffix)
        assert parse_name(str(name)) == name

    @pytest.mark.parametrize("text", ["", "notes.txt", "1-2-0123456789ab.gz", f"{1:020d}-{2:020d}-0123456789ab.gz~"])
    def test_files_of_others_are_not_counted(self, text: str) -> None:
        assert parse_name(text) is None

    def test_a_partition_is_that_of_the_log_in_kafka(self) -> None:
        for position in (0, 1, (1 << 44) - 1, 1 << 44, (7 << 44) + 5):
            assert partition_of(position) == trackcore_kafka.partition_of(position)


class TestBucket:
    def test_it_holds_what_a_folder_holds(self, buckets: Buckets, tmp_path: Path) -> None:
        bucket = buckets.make()
        sender = opened(tmp_path, **buckets.settings(bucket.name))
        send(sender, fed(5))
        send(sender, fed(9))
        send(opened(tmp_path), fed(5))
        send(opened(tmp_path), fed(9))
        of_folder = {key.removeprefix("out/"): packed for key, packed in content(tmp_path).items()}
        assert {key.removeprefix("a/b/"): packed for key, packed in bucket.content.items()} == of_folder

    def test_a_bucket_that_does_not_exist_is_reported_and_tried_again(self, buckets: Buckets, tmp_path: Path) -> None:
        sender = opened(tmp_path, **buckets.settings("missing"))
        with pytest.raises(RetryLater, match="s3://missing/a/b: HTTP 404 Not Found, NoSuchBucket") as raised:
            send(sender, fed(1))
        assert raised.value.is_outage

    def test_a_store_that_is_down_is_reported_without_secrets(self, tmp_path: Path) -> None:
        settings = Buckets(1).settings("bucket")
        with pytest.raises(RetryLater, match="error sending request") as raised:
            send(opened(tmp_path, **settings), fed(1))
        assert raised.value.is_outage
        assert not [secret for secret in ENVIRON.values() if secret in str(raised.value)]

    def test_a_file_that_exists_is_not_replaced(self, buckets: Buckets, tmp_path: Path) -> None:
        bucket = buckets.make()
        settings = {"endpoint": buckets.endpoint, "access_key_id": "x", "secret_access_key": "y"}
        assert_is_a_store(open_store(f"s3://{bucket.name}/a/b", tmp_path, settings), tmp_path)
        assert_is_a_store(FolderStore(tmp_path / "root"), tmp_path)


def assert_is_a_store(store: ObjectStore, folder: Path) -> None:
    """Check what every store promises."""
    file = folder / "file"
    file.write_bytes(b"1")
    assert (store.names("x/y"), store.folders("x")) == ([], [])
    assert store.put_new("x/y/1", file)
    file.write_bytes(b"2")
    assert not store.put_new("x/y/1", file)
    assert store.put_new("x/y/2", file)
    assert store.put_new("x/z/1", b"3")
    file.write_bytes(b"4")
    store.replace("x/z/1", file)
    assert (store.names("x/y"), store.folders("x"), store.folders("")) == (["1", "2"], ["y", "z"], ["x"])
    assert [store.read(key) for key in ("x/y/1", "x/y/2", "x/z/1", "x/z/2")] == [b"1", b"2", b"4", None]
    assert store.fetch("x/y/2", file)
    assert file.read_bytes() == b"2"
    assert not store.fetch("x/y/3", file)
    store.delete(["x/y/1", "x/y/3"])
    assert store.names("x/y") == ["2"]


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


class TestTrouble:
    def test_a_folder_that_cannot_be_used_is_reported_and_tried_again(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("a file")
        with pytest.raises(RetryLater, match="Not a directory") as raised:
            send(opened(tmp_path), fed(1))
        assert raised.value.is_outage

    def test_a_full_disk_leaves_nothing_behind_and_is_tried_again(self, tmp_path: Path) -> None:
        sender = opened(tmp_path)
        with disk_of(100), pytest.raises(RetryLater, match="File too large"):
            send(sender, fed(50))
        assert content(tmp_path) == {}
        send(sender, fed(50))
        assert Counter(messages_in(content(tmp_path))) == payloads(fed(50))

    @pytest.mark.parametrize(
        "damage",
        [b"", b"no gzip", gzip.compress(b'{"messageId":"m0"}\n' * 9)[:-9]],
        ids=["empty", "no gzip", "cut"],
    )
    def test_a_damaged_file_whose_range_is_sent_again_is_named(self, damage: bytes, tmp_path: Path) -> None:
        send(opened(tmp_path), fed(2))
        (key,) = content(tmp_path)
        (tmp_path / key).write_bytes(damage)
        if damage:
            with pytest.raises(RetryLater, match="is damaged"):
                send(opened(tmp_path), fed(3))
            (tmp_path / key).unlink()
        send(opened(tmp_path), fed(3))
        assert {message.payload for message in fed(3)} == set(messages_in(content(tmp_path)))

    def test_two_that_would_write_to_one_place_are_refused(self, tmp_path: Path) -> None:
        first, second = archive(), ArchiveDestination(name="Other", location="./x/../OUT/")
        with pytest.raises(SamePlace):
            check_places([first, second], sender_context(tmp_path))
        in_s3 = [ArchiveDestination(name=name, location=f"s3://bucket/a{name}") for name in ("", "/")]
        with pytest.raises(SamePlace):
            check_places(in_s3, sender_context(tmp_path))
        check_places([archive(), archive(location="in"), in_s3[0]], sender_context(tmp_path))

    @pytest.mark.parametrize("location", ["", " ", "gs://bucket/x", "s3://", "s3:bucket", "s3://b/x?y=1", "http://x/y"])
    def test_a_location_that_makes_no_sense_is_refused(self, location: str) -> None:
        with pytest.raises(ValueError, match=r"expected|no such store"):
            archive(location=location)

    def test_an_endpoint_is_a_url(self) -> None:
        with pytest.raises(ValueError, match="http"):
            archive(location="s3://bucket", endpoint="localhost:9000")

    def test_without_the_library_of_buckets_its_extra_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "obstore.store", None)
        with pytest.raises(ValueError, match=r"pip install 'trackcore\[s3\]'"):
            opened(tmp_path, location="s3://bucket/x")
        send(opened(tmp_path), fed(1))


class TestLargeBatches:
    """A batch is a file, so it is large, and waits for long; while it waits, it is not read again and again."""

    def test_a_batch_waits_for_its_time_and_is_read_once(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, clock=TurnedClock(NOON))
        reads: list[int] = []
        worker = bench.worker(opened(tmp_path), batch_messages=100, batch_wait=timedelta(minutes=5))
        counted = CountedFeed(bench.feed, reads)
        worker.queues[0]._feed = counted  # type: ignore[attr-defined]
        store(bench.log, envelopes(10))
        for _ in range(50):
            bench.run(worker)
            bench.clock.turn(seconds=1)
        assert len(reads) == 1
        store(bench.log, envelopes(90, first=10))
        bench.run(worker)
        assert len(messages_in(content(tmp_path / "out"))) == 100
        store(bench.log, envelopes(1, first=100))
        bench.run(worker)
        assert len(messages_in(content(tmp_path / "out"))) == 100
        bench.clock.turn(minutes=5)
        bench.run(worker)
        assert len(messages_in(content(tmp_path / "out"))) == 101
        bench.state.close()


class CountedFeed:
    """A feed whose reads are counted."""

    def __init__(self, feed: Any, reads: list[int]) -> None:
        self._feed, self._reads = feed, reads

    def read(self, *arguments: Any, **named: Any) -> Any:
        self._reads.append(1)
        return self._feed.read(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)
