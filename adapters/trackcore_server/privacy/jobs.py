"""Jobs that forget persons: durable, with a state for each store, and resumed after any interruption.

A job first suppresses the persons, then goes through the parts of the log, then asks each destination, and at last
cleans the bytes of the files.  Each step may be repeated: it finds less, or nothing.  Only when all have ended, the ids
are removed from the job itself.

A destination forgets in the process that delivers, between two batches (see `trackcore_delivery.erasures`); if there is
none, the job takes its place for as long as that takes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import cast

import attrs
from trackcore_delivery import (
    DeliveredDestination,
    DeliveryBatch,
    DeliveryLock,
    DeliveryResult,
    Erasure,
    ErasureQueue,
    ErasureRequest,
    ErasureStatus,
    PermanentError,
    RetryLater,
    State,
)
from trackcore_privacy import LOOK_SECONDS, Job, PrivacyFile, Step
from trackcore_sqlite import Forgotten

from trackcore import PARTS, LogUnavailable, Part
from trackcore.privacy import Subject, id_forms
from trackcore_server.config.configuration import Configuration, ConfigurationError
from trackcore_server.config.privacy_rules import privacy_key
from trackcore_server.delivery.service import sender_context
from trackcore_server.privacy.audit import audit
from trackcore_server.storage.backend import Unsupported
from trackcore_server.storage.backends import backend_of
from trackcore_server.storage.delivery_state import delivery_lock, make_state

BYTES = "bytes"
"""The last step."""

_DESTINATION = "destination: "
ENDED = frozenset({"FINISHED", "NOT_SUPPORTED"})
_STATUSES = {
    ErasureStatus.DONE: "FINISHED",
    ErasureStatus.FAILED: "FAILED",
    ErasureStatus.UNSUPPORTED: "NOT_SUPPORTED",
    ErasureStatus.WAITING: "RUNNING",
}
_LOOK_SECONDS = 0.1
SEEN_SECONDS = 2 * LOOK_SECONDS

Progress = Callable[[str, int], None]
"""Called with a store, and how many records were examined in it."""

log = logging.getLogger("trackcore.privacy")


@attrs.frozen
class Jobs:
    """The jobs of a configuration."""

    _configuration: Configuration

    @property
    def file(self) -> PrivacyFile:
        """The file that has them."""
        return PrivacyFile(self._configuration.privacy_path)

    def add(self, type_: str, subjects: Sequence[Subject], *, scope: str = "", keep_events: bool = False) -> str:
        """Add a job and suppress its persons, if its type says so; return its id.

        Raises `ConfigurationError` if events are to be kept and there is no key for pseudonyms.
        """
        if keep_events and not privacy_key(self._configuration):
            raise ConfigurationError(path="privacy.key", detail="a pseudonym needs a key")
        now = datetime.now(UTC)
        deletes = "DELETE" in type_
        if type_ == "UNSUPPRESS":
            self.file.unsuppress(subjects, scope=scope)
        elif type_.startswith("SUPPRESS"):
            self.file.suppress(subjects, scope=scope, now=now, keep_ids=not deletes)
        number = self.file.add_job(
            subjects,
            regulation=type_,
            scope=scope,
            keep_events=keep_events,
            stores=self._stores() if deletes else (),
            now=now,
        )
        audit(self._configuration, self.file, type_, number, subjects)
        return number

    def count(self, subjects: Sequence[Subject], *, scope: str = "") -> dict[str, int]:
        """Count the records of persons, for each store that can be searched."""
        backend = backend_of(self._configuration)
        forgotten = Forgotten(subjects=subjects, source=scope or None)
        found: dict[str, int] = {}
        for part in PARTS:
            found[part] = sum(step.changed for step in backend.forget(part, forgotten, dry_run=True))
        if self._configuration.delivery_path.exists():
            with closing(make_state(self._configuration)) as state:
                found["dead letters and held messages"] = state.count_kept(subjects, scope or None)
        return found

    def run(
        self, number: str, *, progress: Progress = lambda *_: None, is_stopping: Callable[[], bool] = lambda: False
    ) -> bool:
        """Do what is left of a job; return whether it has ended.

        It has not if a destination has failed, or waits to be tried again, or another process runs jobs.
        """
        lock = self._lock()
        if not lock.acquire("trackcore forget"):
            return False
        try:
            job = self.file.job(number)
            assert job is not None, "the caller has its id from the file"
            return job.finished_at is not None or self._run(job, progress, is_stopping)
        finally:
            lock.release()

    def _run(self, job: Job, progress: Progress, is_stopping: Callable[[], bool]) -> bool:
        done = {step.store for step in job.steps if step.status in ENDED}
        if job.regulation.startswith("SUPPRESS"):
            # Every process must have seen the list, so that no message comes behind the search.
            age = (datetime.now(UTC) - job.created_at).total_seconds()
            time.sleep(max(0.0, min(SEEN_SECONDS, SEEN_SECONDS - age)))
        for part in (part for part in PARTS if part not in done):
            if is_stopping():
                return False
            self._note(job, self._forget_part(job, part, progress))
        if self._forget_in_destinations(job, is_stopping):
            return False
        self._note(job, Step(store=BYTES, status="RUNNING"))
        detail = self._clean(job)
        self._note(job, Step(store=BYTES, status="FINISHED", detail=detail, finished_at=datetime.now(UTC)))
        self.file.end_job(job.id, datetime.now(UTC))
        audit(self._configuration, self.file, f"{job.regulation} FINISHED", job.id, job.subjects)
        return True

    def _forget_part(self, job: Job, part: str, progress: Progress) -> Step:
        self._note(job, Step(store=part, status="RUNNING"))
        forgotten = Forgotten(subjects=job.subjects, source=job.scope or None, pseudonyms=self._pseudonyms(job))
        examined = changed = 0
        try:
            for step in backend_of(self._configuration).forget(cast("Part", part), forgotten):
                examined, changed = examined + step.examined, changed + step.changed
                progress(part, examined)
        except Unsupported:
            detail = "the messages in Kafka end with the retention of their topic"
            return Step(store=part, status="NOT_SUPPORTED", detail=detail, finished_at=datetime.now(UTC))
        except LogUnavailable:  # there is no log yet
            if any(path.exists() for path in self._configuration.log.paths):
                raise
        return Step(store=part, status="FINISHED", changed=changed, finished_at=datetime.now(UTC))

    def _pseudonyms(self, job: Job) -> dict[Subject, str] | None:
        if not job.keep_events:
            return None
        key = privacy_key(self._configuration)
        return {subject: subject.pseudonym(key) for subject in job.subjects}

    def _forget_in_destinations(self, job: Job, is_stopping: Callable[[], bool]) -> bool:
        """Ask the destinations, and return whether one of them has not forgotten yet."""
        if not (self._configuration.delivered or self._configuration.delivery_path.exists()):
            return False
        request = ErasureRequest(
            id=job.id,
            subjects=job.subjects,
            source=job.scope or None,
            requested_at=job.created_at,
            pseudonyms=self._pseudonyms(job),
        )
        configured = {destination.name for destination in self._configuration.delivered}
        with closing(make_state(self._configuration)) as state:
            for name in sorted(configured.union(state.names())):
                state.ask_to_forget(name, request)
            for erasure in state.erasures(job.id):
                if erasure.status == ErasureStatus.WAITING and erasure.destination not in configured:
                    state.settle_erasure(erasure, ErasureStatus.DONE, "it is not configured any more")
            while True:
                is_delivering = not self._deliver(state, job.id)
                erasures = state.erasures(job.id)
                steps = [_step_of(erasure) for erasure in erasures]
                for step in steps:
                    self._note(job, step)
                is_waiting = any(erasure.status == ErasureStatus.WAITING for erasure in erasures)
                if not (is_waiting and is_delivering) or is_stopping():
                    return not all(step.status in ENDED for step in steps)
                time.sleep(_LOOK_SECONDS)

    def _deliver(self, state: State, job: str) -> bool:
        """Make the requests from here unless another process delivers; return whether no other one does."""
        lock = delivery_lock(self._configuration)
        if not lock.acquire("trackcore forget"):
            return False
        try:
            waiting = {one.destination for one in state.erasures(job) if one.status == ErasureStatus.WAITING}
            for destination in self._configuration.delivered:
                if destination.name in waiting:
                    self._deliver_to(destination, state)
        finally:
            lock.release()
        return True

    def _deliver_to(self, destination: DeliveredDestination, state: State) -> None:
        queue = ErasureQueue(destination, state)
        with closing(destination.open_sender(sender_context(self._configuration, os.environ))) as sender:
            while taken := queue.take(count=1, size=1, now=datetime.now(UTC)):
                messages = [taken[0].message]
                refused: dict[int, str] = {}
                try:
                    sender.send(DeliveryBatch(destination=destination.name, messages=messages))
                except PermanentError as error:
                    refused = {0: error.detail}
                except RetryLater as error:
                    log.warning("%s: %s; it is asked again later", destination.name, error.detail)
                    return
                queue.settle(DeliveryResult(messages=messages, refused=refused, now=datetime.now(UTC)))

    def _clean(self, job: Job) -> str:
        details = []
        try:
            details.append(f"log: {backend_of(self._configuration).clean(job.subjects)}")
        except Unsupported:
            details.append("log: kept by Kafka")
        except LogUnavailable:
            if any(path.exists() for path in self._configuration.log.paths):
                raise
        if self._configuration.delivery_path.exists():
            with closing(make_state(self._configuration)) as state:
                forms = {form for subject in job.subjects for form in id_forms(subject.id)}
                details.append(f"delivery: {state.clean(forms)}")
        return "; ".join(details)

    def _stores(self) -> list[str]:
        return [*PARTS, *(f"{_DESTINATION}{one.name}" for one in self._configuration.delivered), BYTES]

    def _note(self, job: Job, step: Step) -> None:
        self.file.set_step(job.id, step)

    def _lock(self) -> DeliveryLock:
        return DeliveryLock(self._configuration.privacy_path.with_suffix(".lock"))


def _step_of(erasure: Erasure) -> Step:
    status = _STATUSES[erasure.status]
    finished_at = datetime.now(UTC) if status in ENDED else None
    store = f"{_DESTINATION}{erasure.destination}"
    return Step(store=store, status=status, detail=erasure.detail, finished_at=finished_at)
