"""The units of deploy/: what they start exists, and systemd understands them."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from gateway.cli import app
from gateway.settings import Settings
from tests.harness import require

DEPLOY = Path(__file__).parent.parent / "deploy"


def unit(name: str) -> dict[str, list[str]]:
    """What a unit says, by `Section.Name`; a name may stand several times."""
    said: dict[str, list[str]] = {}
    section = ""
    for line in (DEPLOY / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            said.setdefault(f"{section}.{key}", []).append(value)
    return said


def test_what_the_service_starts_exists() -> None:
    (start,) = unit("gateway.service")["Service.ExecStart"]
    program, command, *arguments = shlex.split(start)
    assert (program, command) == ("/usr/bin/gateway", "serve")
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    parsed = serve.make_context("serve", arguments).params
    given = {name: value for name, value in parsed.items() if value is not None}
    assert given["bind"] == ["fd:3", "fd:4"]
    assert set(given) <= set(Settings.model_fields)
    assert [f"{option}={value}" for option, value in given.items() if option == "log_format"] == ["log_format=json"]


def test_as_many_sockets_as_the_service_takes() -> None:
    service, addresses = unit("gateway.service"), unit("gateway.socket")
    (start,) = service["Service.ExecStart"]
    assert len(addresses["Socket.ListenStream"]) == start.count("--bind fd:")
    assert service["Unit.Requires"] == ["gateway.socket"]


def test_the_tasks_are_where_the_gateway_looks() -> None:
    service = unit("gateway.service")
    (path,) = service["Service.ReadOnlyPaths"]
    assert f"--data-path {path} " in service["Service.ExecStart"][0]
    (folder,) = service["Service.ConfigurationDirectory"]
    assert service["Service.WorkingDirectory"] == [f"/etc/{folder}"]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that is there."""
    text = (DEPLOY / "gateway.service").read_text().replace("/usr/bin/gateway", str(shutil.which("true")))
    (tmp_path / "gateway.service").write_text(text)
    shutil.copy(DEPLOY / "gateway.socket", tmp_path)
    return tmp_path


def test_systemd_understands_them(units: Path) -> None:
    analyze = require("systemd-analyze")
    both = [str(units / "gateway.service"), str(units / "gateway.socket")]
    done = subprocess.run([analyze, "verify", "--man=no", *both], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "/gateway." in line]) == (0, [])


def test_it_is_exposed_little(units: Path) -> None:
    analyze = require("systemd-analyze")
    argv = [analyze, "security", "--offline=yes", "--threshold=15", str(units / "gateway.service")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2_000:]
