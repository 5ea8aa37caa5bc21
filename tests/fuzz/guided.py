"""Coverage-guided fuzzing: libFuzzer, through atheris, searches for bytes that take a new path through the code.

    python tests/fuzz/guided.py --target codec --requests 200000

Needs the dependency group `fuzz`.  A case that breaks a promise ends the run and is kept as FOLDER/crash-*; put it into
tests/vectors/fuzz as NAME.http to keep it as a regression test.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(
    include=["trackcore", "trackcore_asgi", "trackcore_http", "trackcore_sqlite", "trackcore_wsgi"]
):
    from fuzz.mutations import mutate
    from fuzz.oracle import Oracle, check_codec
    from fuzz.run import TARGETS

from fuzz.raw import format_raw, parse_raw, seeds

_MAX_BYTES = 65_536


def main() -> None:
    """Run the command.  libFuzzer ends the process, with 0 if it found nothing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--target", choices=TARGETS, default="WSGI", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default: %(default)s)")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.crashes.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, request in enumerate(seeds()):
            (corpus / str(number)).write_bytes(format_raw(request) if arguments.target != "codec" else request.body)
        options = [
            f"-runs={arguments.requests}",
            f"-seed={arguments.seed}",
            f"-max_len={_MAX_BYTES}",
            f"-artifact_prefix={arguments.crashes}{os.sep}",
            "-print_final_stats=1",
            str(corpus),
        ]
        run(arguments.target, options, Path(folder))


def run(target: str, options: list[str], folder: Path) -> None:
    """Let libFuzzer call the target, half of the time with a request that was mutated structurally."""
    oracle = Oracle(folder, "WSGI" if target == "codec" else target)
    known = seeds()

    def test_one(data: bytes) -> None:
        if target != "codec":
            oracle.check(parse_raw(data))
        else:
            check_codec(data)

    def mutate_one(data: bytes, most: int, seed: int) -> bytes:
        if target == "codec" or seed % 2:
            changed: bytes = atheris.Mutate(data, most)
            return changed
        return format_raw(mutate(parse_raw(data), random.Random(seed), known))[:most]

    atheris.Setup([sys.argv[0], *options], test_one, custom_mutator=mutate_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
