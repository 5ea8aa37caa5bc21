"""Fuzzing led by coverage: libFuzzer, by way of atheris, looks for bytes that take a new path through our code."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["trackcore", "trackcore_wsgi"]):
    from fuzz.mutations import mutate
    from fuzz.oracle import Oracle, check_codec

from fuzz.raw import format_raw, parse_raw, seeds

_MOST_BYTES = 65_536


def run_atheris(target: str, requests: int, seed: int, crashes: Path) -> int:
    """Run libFuzzer for so many inputs.  It ends the process itself: 0 when nothing was found."""
    crashes.mkdir(parents=True, exist_ok=True)
    known = seeds()
    folder = tempfile.TemporaryDirectory()
    corpus = Path(folder.name) / "corpus"
    corpus.mkdir()
    for number, request in enumerate(known):
        (corpus / str(number)).write_bytes(format_raw(request) if target == "app" else request.body)
    oracle = Oracle(Path(folder.name))

    def test_one(data: bytes) -> None:
        if target == "app":
            oracle.check(parse_raw(data))
        else:
            check_codec(data)

    def mutate_one(data: bytes, most: int, chosen_seed: int) -> bytes:
        """Change a request as such half of the time, and leave the rest to libFuzzer."""
        if target == "codec" or chosen_seed % 2:
            changed: bytes = atheris.Mutate(data, most)
            return changed
        rng = random.Random(chosen_seed)
        return format_raw(mutate(parse_raw(data), rng, known))[:most]

    arguments = [sys.argv[0], f"-runs={requests}", f"-seed={seed}", f"-max_len={_MOST_BYTES}", "-rss_limit_mb=2048"]
    arguments += [f"-artifact_prefix={crashes}{os.sep}", "-print_final_stats=1", str(corpus)]
    atheris.Setup(arguments, test_one, custom_mutator=mutate_one)
    atheris.Fuzz()
    return 0
