"""Sockets that a service manager passes without a word on the command line: LISTEN_FDS, for LISTEN_PID alone."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gateway.supervisor import passed
from tests.harness import flat, free_port
from tests.test_server import ended, run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")

START = """
import os, sys
first, second, *argv = sys.argv[1:]
spare = [os.dup2(int(fd), 50 + n) for n, fd in enumerate((first, second))]
for n, fd in enumerate(spare):
    os.dup2(fd, 3 + n)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "gateway", "serve", *argv])
"""
"""What systemd does between fork and exec."""


def serve(data: Path, *sockets: socket.socket, options: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    numbers = [opened.fileno() for opened in sockets]
    argv = [sys.executable, "-c", START, *map(str, numbers), "--data-path", str(data), *options]
    env = {**os.environ, "COLUMNS": "200", "LISTEN_FDS": "2"}
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, pass_fds=numbers, env=env, cwd=data)


def test_what_is_passed_is_served(tmp_path: Path) -> None:
    (tmp_path / "Tasks").mkdir()
    (tmp_path / "Tasks/a.json").write_bytes(flat("a", progress=7))
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "s"))
        local.listen()
        url, port = "/api/task?task_id=a", tcp.getsockname()[1]
        process = serve(tmp_path, tcp, local)
        with ended(process), httpx.Client(transport=httpx.HTTPTransport(uds=f"{tmp_path}/s")) as by_path:
            assert httpx.get(f"http://127.0.0.1:{port}{url}").json()["progress"] == 7
            assert by_path.get(f"http://whatever{url}").json()["progress"] == 7
            assert process.stderr
            assert process.stderr.readline() == f"Serving {tmp_path} at http://127.0.0.1:{port} unix:{tmp_path}/s\n"
            process.terminate()
            assert process.wait(10) == 0
            assert process.stderr.read() == ""
        assert (tmp_path / "s").exists()  # it is the manager's


@pytest.mark.parametrize("named", ["option", ".env"])
def test_an_address_that_is_named_counts(tmp_path: Path, named: str) -> None:
    port = free_port()
    if named != "option":
        (tmp_path / ".env").write_text(f"GATEWAY_BIND=127.0.0.1:{port}\n")
    options = ("--bind", f"127.0.0.1:{port}") if named == "option" else ()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        process = serve(tmp_path, one, other, options=options)
        with ended(process):
            assert process.stderr
            assert process.stderr.readline() == f"Serving {tmp_path} at http://127.0.0.1:{port}\n"


def test_a_passed_socket_that_others_reach_needs_tokens(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as anywhere, socket.create_server(("127.0.0.1", 0)) as here:
        process = serve(tmp_path, here, anywhere)
        with ended(process):
            assert process.wait(10) == 2
            assert process.stderr
            assert f"0.0.0.0:{anywhere.getsockname()[1]} is open to the network" in process.stderr.read()


def test_for_whom_they_are() -> None:
    own = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
    assert passed(own) == ["fd:3", "fd:4"]
    wrong = ({"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, *({"LISTEN_FDS": n} for n in ("x", "", "0", "-1", "9" * 30)))
    assert [passed(own | each) for each in wrong] == [[]] * len(wrong)
    assert passed({}) == []


def test_one_that_was_promised_and_is_not_there(tmp_path: Path) -> None:
    code = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); sys.argv[0] = 'gateway'; "
    code += "from gateway.cli import main; main()"
    argv = [sys.executable, "-c", code, "serve", "--data-path", str(tmp_path)]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "LISTEN_FDS": "90"}, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gateway: --bind (GATEWAY_BIND): fd:")
    assert "Traceback" not in done.stderr
    assert run("serve", "--data-path", str(tmp_path), "--bind", "fd:77", LISTEN_FDS="1").returncode == 2
