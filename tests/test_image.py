"""The image: no engine builds it here. What its stages run is run in a folder instead, and the outcome is started."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from gateway.settings import Settings
from tests.harness import flat, free_port, until

ROOT = Path(__file__).parent.parent

Instruction = tuple[str, str]
"""A word of the Dockerfile, and what follows it on this line and those that go on with it."""


def stages() -> list[list[Instruction]]:
    """The Dockerfile's instructions, by stage."""
    lines = [line for line in (ROOT / "deploy/Dockerfile").read_text().splitlines() if not line.startswith("#")]
    found: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            found.append([])
        if word:
            found[-1].append((word, rest.strip()))
    return found


def said(stage: list[Instruction], word: str) -> list[str]:
    return [rest for found, rest in stage if found == word]


BUILD, FINAL = stages()
ENVIRONMENT = dict(re.findall(r"(\w+)=(\S+)", " ".join(said(FINAL, "ENV"))))
COMMAND = [word for name in ("ENTRYPOINT", "CMD") for rest in said(FINAL, name) for word in json.loads(rest)]
(HEALTHCHECK,) = said(FINAL, "HEALTHCHECK")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first stage leaves: its very commands, over what the ignore file lets through.

    What is installed besides comes from here, not from an index.
    """
    there = tmp_path_factory.mktemp("image")
    (there / "build").mkdir()
    for name in (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines():
        if name.startswith("!"):
            source = ROOT / name[1:]
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, there / "build" / source.name)
    here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": sysconfig.get_path("purelib")}
    # pip reads this one the other way round: 0 is "no isolation".
    offline = {"PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1", "PIP_QUIET": "1"}
    for command in said(BUILD, "RUN"):
        shell = ["sh", "-ec", command.replace("/app", str(there / "app"))]
        subprocess.run(shell, cwd=there / "build", env={**os.environ, **here, **offline}, check=True)
    return there / "app"


@contextlib.contextmanager
def running(app: Path, data: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    given = {name: value.replace("/data", str(data)).replace("8080", str(port)) for name, value in ENVIRONMENT.items()}
    env = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib"), **given}
    argv = [word.replace("/app", str(app)) for word in COMMAND]
    process = subprocess.Popen(argv, cwd=data, env=env, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def is_healthy(app: Path, port: int) -> bool:
    argv = json.loads(HEALTHCHECK[HEALTHCHECK.index("[") :])
    argv = [word.replace("/app", str(app)).replace("8080", str(port)) for word in argv]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_what_it_starts_serves_is_healthy_and_ends_in_order(app: Path, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "Tasks").mkdir()
    (tmp_path / "Tasks/a.json").write_bytes(flat("a", progress=7))
    assert not is_healthy(app, port)
    with running(app, tmp_path, port) as process:
        until(lambda: is_healthy(app, port))
        page = httpx.get(f"http://127.0.0.1:{port}/static/gateway.js")
        assert (app / "bin/python").exists()
        assert page.status_code == 200  # the wheel has them
        assert httpx.get(f"http://localhost:{port}/api/task?task_id=a").json()["progress"] == 7
        process.send_signal(getattr(signal, said(FINAL, "STOPSIGNAL")[0]))
        assert process.wait(10) == 0


def test_what_is_installed_is_ours(app: Path) -> None:
    """Not the checkout beside it."""
    code = "import gateway; print(gateway.__file__)"
    shown = subprocess.run([app / "bin/python", "-c", code], capture_output=True, text=True, check=True, cwd=app)
    assert Path(shown.stdout.strip()).is_relative_to(app)


def test_all_that_it_needs_is_pinned() -> None:
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    code = "from importlib.metadata import requires; print('\\n'.join(requires('task-gateway')))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (installed,) = [rest for rest in said(BUILD, "RUN") if "pip install" in rest]
    (extras,) = re.findall(r"\.\[([\w,]+)\]", installed)
    for need in map(Requirement, shown.stdout.splitlines()):
        wanted = [not need.marker or need.marker.evaluate({"extra": extra}) for extra in extras.split(",")]
        assert need.name.lower() in pinned or not any(wanted), need
    assert "--constraint constraints.txt" in installed


def test_it_runs_as_nobody_special() -> None:
    (user,) = said(FINAL, "USER")
    assert user not in {"root", "0"}
    (made,) = [rest for rest in said(FINAL, "RUN") if rest.startswith("useradd ")]
    assert made.endswith(f" {user}")
    assert [word for word, _ in FINAL].index("RUN") < [word for word, _ in FINAL].index("USER")
    assert not said(FINAL, "ADD")
    assert said(FINAL, "COPY") == ["--from=build /app /app"]  # nothing of the first stage but what it built


def test_its_settings_are_settings() -> None:
    ours = {name.removeprefix("GATEWAY_").lower() for name in ENVIRONMENT if name.startswith("GATEWAY_")}
    assert ours
    assert ours <= set(Settings.model_fields)
