"""How often a backend's `os.replace` fails, and who is in its way.

`python -m tests.windows tests/windows/replaces.py -s` prints it; it tests only that each replace succeeds in the end.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness import Gateway, flat

REPLACES, POLLERS = 2_000, 50


@contextlib.contextmanager
def polled(url: str) -> Iterator[list[int]]:
    """Fifty clients that ask as fast as they are answered; how many answers each has had."""
    over, answers = threading.Event(), [0] * POLLERS

    def poll(n: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not over.is_set():
                client.get("/api/task?task_id=a").raise_for_status()
                answers[n] += 1

    threads = [threading.Thread(target=poll, args=(n,)) for n in range(POLLERS)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def replace(tasks: Path) -> int:
    """Writes the task anew again and again; how often that failed, and was tried again after a millisecond."""
    failures = 0
    for n in range(REPLACES):
        fresh = tasks / "a.tmp"
        fresh.write_bytes(flat("a", progress=n % 100))
        while True:
            try:
                os.replace(fresh, tasks / "a.json")
                break
            except PermissionError:
                failures += 1
                time.sleep(0.001)
        time.sleep(0.002)
    return failures


@pytest.mark.parametrize("who", ["nobody", "a gateway", "a gateway and 50 pollers"])
def test_replaces(tmp_path: Path, who: str) -> None:
    tasks = tmp_path / "Tasks"
    tasks.mkdir()
    (tasks / "a.json").write_bytes(flat("a"))
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(Gateway(data=tmp_path)) if who != "nobody" else None
        answers = stack.enter_context(polled(gateway.url)) if gateway and "pollers" in who else []
        failures = replace(tasks)
        print(f"\n{who}: {failures} failures in {REPLACES} replaces; {sum(answers)} polls answered")
