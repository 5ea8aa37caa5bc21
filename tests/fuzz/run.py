"""Fuzz a face of the app, or the codec, for a long time:

    python tests/fuzz/run.py --requests 1000000

It mutates recorded requests at random, by a seed, and at its end reports whether memory grew.  A case that breaks a
promise is kept as FOLDER/crash-*.http, and the run continues; put it into tests/vectors/fuzz to keep it as a regression
test.  Exit code: 1 with findings.  (`guided.py` is the same, led by coverage.)
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.mutations import mutate
from fuzz.oracle import Oracle, check_codec
from fuzz.raw import RawRequest, format_raw, parse_raw, seeds

GROWTH_MEGABYTES = 16
"""How far memory may rise after the first tenth of a run; a leak for each request exceeds it by far in a long run."""

_FRESH_LOG_REQUESTS = 20_000
"""After so many requests a new log is created, so that it fits on the disk, or in shared memory if there is any."""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made there


TARGETS = ("WSGI", "ASGI", "codec")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], epilog="A case that breaks a promise is kept in --crashes."
    )
    parser.add_argument("--requests", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--target", choices=TARGETS, default="WSGI", help="a face, or the codec (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default: %(default)s)")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    return run_mutations(arguments.target, arguments.requests, arguments.seed, arguments.crashes)


def run_mutations(target: str, requests: int, seed: int, crashes: Path) -> int:
    """Send so many mutated requests; return the exit code."""
    rng = random.Random(seed)
    known = seeds()
    counts: Counter[object] = Counter()
    started = time.monotonic()
    early = 0
    done = 0
    while done < requests:
        with tempfile.TemporaryDirectory(dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None) as folder:
            oracle = Oracle(Path(folder), "WSGI" if target == "codec" else target)
            for _ in range(min(_FRESH_LOG_REQUESTS, requests - done)):
                request = mutate(rng.choice(known), rng, known)
                counts[_outcome(target, oracle, request, crashes)] += 1
                done += 1
            oracle.close()
        gc.collect()
        early = early or (_resident_megabytes() if done >= requests // 10 else 0)
        _tell(f"{done:,} of {requests:,}  {done / (time.monotonic() - started):,.0f}/s  {_resident_megabytes()} MB")
    growth = _resident_megabytes() - early
    took = time.monotonic() - started
    _tell(f"{done:,} {target} requests, seed {seed}, in {took:,.0f} s; findings: {counts['finding']}")
    _tell("statuses: " + ", ".join(f"{status}: {number:,}" for status, number in counts.most_common()))
    _tell(f"memory grew by {growth} MB after the first tenth")
    return 1 if counts["finding"] or growth > GROWTH_MEGABYTES else 0


def _outcome(target: str, oracle: Oracle, request: RawRequest, crashes: Path) -> object:
    try:
        if target == "codec":
            check_codec(request.body)
            return "decoded or refused"
        return oracle.check(request)
    except Exception as error:  # noqa: BLE001 - any exception is what is looked for
        keep(format_raw(request), error, crashes)
        return "finding"


def keep(case: bytes, error: BaseException, crashes: Path) -> None:
    """Write a case that broke a promise to a file, and report it."""
    crashes.mkdir(parents=True, exist_ok=True)
    file = crashes / f"crash-{hashlib.sha256(case).hexdigest()[:12]}.http"
    file.write_bytes(case)
    _tell(f"FINDING {file}: {error!r} ({error.__cause__!r})")


def replay(case: bytes, folder: Path) -> None:
    """Send one case again, as a request and as bytes for the codec.  Raises its finding."""
    oracle = Oracle(folder)
    try:
        oracle.check(parse_raw(case))
    finally:
        oracle.close()
    check_codec(case)
    check_codec(parse_raw(case).body)


def _resident_megabytes() -> int:
    status = Path("/proc/self/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text(encoding="ascii")) if status.exists() else None
    return int(found[1]) // 1024 if found else 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a script's report


if __name__ == "__main__":
    sys.exit(main())
