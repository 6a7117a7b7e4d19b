"""What a service manager passes, and what it is told: systemd's sd_listen_fds(3) and sd_notify(3)."""

import asyncio
import contextlib
import os
import re
import socket
import time
from collections.abc import Mapping

LONGEST = 0.2
"""Seconds that a message may take to be delivered: the loop waits meanwhile."""


FIRST = 3
"""The number of the first socket that is passed."""


def passed(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The sockets that were passed to this very process, as `fd:N`."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not re.fullmatch(r"\d{1,3}", count, re.ASCII):
        return []
    return [f"fd:{FIRST + number}" for number in range(int(count))]


class Supervisor:
    """Speaks to who has started this process, where the environment names somebody, one datagram a message; else says
    nothing.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # an abstract name
        self.beat = _beat(environment) if address else None
        """Seconds between two signs of life; None where nobody waits for them."""

    def ready(self, status: str) -> None:
        """It listens, or has read its settings again."""
        self._tell("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._tell("STOPPING=1", "STATUS=Ending: streams are told to come back")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    async def watch(self) -> None:
        """Says that it lives for as long as the loop turns."""
        while self.beat:
            self.alive()
            await asyncio.sleep(self.beat)

    def _tell(self, *lines: str) -> None:
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
            mouth.settimeout(LONGEST)  # nobody may listen, or have his hands full
            mouth.sendto("\n".join(lines).encode(), self._address)


def _beat(environment: Mapping[str, str]) -> float | None:
    """Half of what the watchdog waits, as sd_watchdog_enabled(3) advises."""
    microseconds, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or process not in {"", str(os.getpid())}:
        return None
    return int(microseconds) / 2_000_000


def _line(text: str) -> str:
    return " ".join(text.split())
