"""What differs on macOS, simulated: it was not tried there. For names see test_names.py, for hints test_folder.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import Gateway, flat

LINUX_ONLY = """
import os, select, signal, socket, sys
for module, names in (
    (os, "O_TMPFILE O_DIRECT eventfd memfd_create splice sched_getaffinity posix_fadvise pidfd_open"),
    (select, "epoll"),
    (signal, "SIGRTMIN SIGPWR sigtimedwait"),
    (socket, "TCP_USER_TIMEOUT SO_BINDTODEVICE SO_PEERCRED AF_NETLINK SOCK_CLOEXEC SOCK_NONBLOCK"),
):
    for name in names.split():
        vars(module).pop(name, None)
sys.modules["uvloop"] = None
from gateway.cli import main
sys.argv[0] = "gateway"
main()
"""

LIMIT = """
import resource
from gateway.process import raise_descriptor_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
set_limit = resource.setrlimit
set_limit(resource.RLIMIT_NOFILE, (256, hard))

def as_there(kind, limits):
    if limits[0] > 10_240:
        raise ValueError("current limit exceeds maximum limit")
    set_limit(kind, limits)

resource.setrlimit = as_there
raise_descriptor_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")


def test_it_serves_without_what_only_linux_has(tmp_path: Path) -> None:
    (tmp_path / "Tasks").mkdir()
    with (
        Gateway(data=tmp_path, command=(sys.executable, "-c", LINUX_ONLY)) as one,
        one.sse("/api/v1/tasks") as events,
    ):
        assert next(events).event == "synced"
        (tmp_path / "Tasks/new.tmp").write_bytes(flat("a", progress=2))
        (tmp_path / "Tasks/new.tmp").rename(tmp_path / "Tasks/a.json")
        assert json.loads(next(events).data)["progress"] == 2
        assert one.stop() == 0


def test_the_limit_of_descriptors_is_raised_as_far_as_it_is_granted() -> None:
    """macOS says that there is none, and grants 10,240 (OPEN_MAX)."""
    done = subprocess.run([sys.executable, "-c", LIMIT], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) == 10_240
