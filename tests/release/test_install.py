"""The release installs in a fresh environment, and works there: `poe release`, which needs the package index."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from patience import PATIENCE
from served import Running

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
INSTALL_SECONDS = 600
EMBEDDING = """
from trackcore import Source, Track
from trackcore_sqlite import open_collector
with open_collector("embedded.db", sources=[Source(name="website", write_keys=["abc123"])]) as collector:
    collector.submit(Track(user_id="42", event="Paid"), source="website").raise_for_rejections()
"""


def run(*command: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in an environment without this checkout."""
    environ = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    texts = [str(word) for word in command]
    ran = subprocess.run(
        texts, cwd=cwd, env=environ, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran


def fresh_environment(folder: Path, requirement: str) -> Path:
    """Make a virtual environment with one package; return the folder of its programs."""
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "pip", "install", "--quiet", requirement, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module", name="dist")
def _dist(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The wheel and the sdist, by `python -m build`."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(name="bin_with_server", params=["wheel", "sdist"])
def _bin_with_server(request: pytest.FixtureRequest, dist: Mapping[str, Path], tmp_path: Path) -> Path:
    return fresh_environment(tmp_path / "env", f"{dist[request.param]}[server]")


def serve(command: list[str], folder: Path, environ: Mapping[str, str]) -> Iterator[Running]:
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command, stderr=stderr, cwd=folder, start_new_session=True, env={**os.environ, **environ}
        )
    running = Running(process, folder / "stderr")
    yield running
    running.kill()


class TestServer:
    def test_a_message_is_received_and_listed(self, bin_with_server: Path, tmp_path: Path) -> None:
        """The steps of the README, in the folder of a user."""
        trackcore = bin_with_server / "trackcore"
        command = [str(trackcore), "serve", "--write-key", "abc123", "--bind", "127.0.0.1:0"]
        for running in serve(command, tmp_path, {}):
            url = f"http://127.0.0.1:{running.wait_for_port()}/v1/track"
            body = {"userId": "42", "event": "Paid", "writeKey": "abc123"}
            with urlopen(Request(url, json.dumps(body).encode()), timeout=PATIENCE) as answer:
                assert json.load(answer) == {"success": True}
            assert running.terminate() == 0
        (line,) = run(trackcore, "events", cwd=tmp_path).stdout.splitlines()
        assert json.loads(line)["message"]["event"] == "Paid"
        assert run(bin_with_server / "python", "-m", "trackcore", "check", cwd=tmp_path).returncode == 0


class TestCore:
    def test_it_embeds_and_the_command_names_the_extra(self, dist: Mapping[str, Path], tmp_path: Path) -> None:
        """Without the extra: `open_collector` works, and the command says in one sentence what to install."""
        bin_folder = fresh_environment(tmp_path / "env", str(dist["wheel"]))
        run(bin_folder / "python", "-W", "error", "-c", EMBEDDING, cwd=tmp_path)
        for command in ([bin_folder / "trackcore"], [bin_folder / "python", "-m", "trackcore"]):
            (line,) = run(*command, cwd=tmp_path, code=2).stderr.splitlines()
            assert line.endswith("is not installed; the command needs: pip install 'trackcore[server]'")


class TestImage:
    """The steps of `deploy/Dockerfile`, in a virtual environment instead of an image."""

    def test_its_steps_make_a_healthy_server(self, tmp_path: Path) -> None:
        (steps,) = re.findall(r"^RUN (python -m venv .*)$", DOCKERFILE, re.MULTILINE)
        steps = steps.replace("python -m", f"{sys.executable} -m").replace("/opt/trackcore", f"{tmp_path}/opt")
        run("sh", "-c", steps.replace("/source", str(ROOT)), cwd=tmp_path)
        (command,), (health,) = (
            re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, re.MULTILINE) for name in ("CMD", "HEALTHCHECK CMD")
        )
        program, *arguments = json.loads(command)
        words = [str(tmp_path / "opt/bin" / program), *arguments]
        line = shlex.join(words).replace("/data", str(tmp_path / "data")).replace("0.0.0.0:8080", "127.0.0.1:0")
        for running in serve(shlex.split(line), tmp_path, {"TRACKCORE_CONFIG": str(tmp_path / "data/trackcore.toml")}):
            port = running.wait_for_port()
            _, *check = json.loads(health)
            run(tmp_path / "opt/bin/python", *[word.replace("8080", str(port)) for word in check], cwd=tmp_path)
            assert running.terminate() == 0
