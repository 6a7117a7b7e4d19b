"""SIGHUP: the settings are read again, and those that can be taken up without a restart are; all of them or none."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from dotenv.parser import parse_stream
from pydantic import ValidationError

from gateway.complaints import option_of, sentence_of
from gateway.envfile import encoding_of
from gateway.settings import ENV_FILE, Settings
from gateway.supervisor import Supervisor

log = logging.getLogger("gateway.reload")

KEYS = frozenset({"auth_key", "auth_secret", "auth_revoked"})
LIVE = KEYS | {
    *("max_streams", "max_streams_per_address", "max_unsent", "max_unsent_per_address"),
    *("max_ids", "max_message", "max_messages", "max_head", "head_deadline"),
    *("write_deadline", "longest_wait", "task_wait", "log_level"),
}
"""What is taken up; all else needs a restart, and is said to."""


class Reload:
    """Holds the settings as they are now. `take` is given them when others hold.

    `end` is called where the terminal was closed that this process was started at: that sends SIGHUP, too.
    """

    def __init__(
        self,
        settings: Settings,
        supervisor: Supervisor,
        says: str,
        *,
        take: Callable[[Settings], None],
        end: Callable[[], None],
    ) -> None:
        self._settings, self._supervisor, self._says = settings, supervisor, says
        self._take, self._end = take, end
        self._at_terminal = POSSIBLE and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL and _has_terminal()

    async def on_hangup(self) -> None:
        """Hears the signal as long as this runs."""
        if POSSIBLE:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.hang_up)
            release()
            await asyncio.Event().wait()

    def hang_up(self) -> None:
        if self._at_terminal and not _has_terminal():
            self._end()
            return
        self._supervisor.reloading()
        try:
            self._read()
            status = self._says
        except (OSError, ValueError) as error:
            reason = sentence_of(error) if isinstance(error, ValidationError) else str(error)
            log.error("the settings stay as they were: %s", reason)
            status = f"{self._says}; the settings stay as they were: {reason}"
        self._supervisor.ready(status)

    def _read(self) -> None:
        _check_env_file()
        now, found = self._settings, self._settings.read_again()
        live = LIVE if found.asks == now.asks else LIVE - KEYS  # nobody has been asked so far, or is to be from now on
        differ = now.differences(found)
        self._settings = now.with_those(live, found)
        self._take(self._settings)
        taken = ", ".join(option_of(name) for name in differ if name in live)
        log.info("the settings have been read again; new: %s", taken or "none")
        for name in differ:
            if name not in live:
                log.warning("needs a restart: %s", option_of(name))


POSSIBLE = hasattr(signal, "SIGHUP")
"""Windows has no such signal."""


def hold() -> None:
    """Has the signal wait until somebody hears it: it would end a process that only starts."""
    if POSSIBLE:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def release() -> None:
    if POSSIBLE:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def _check_env_file() -> None:
    """A line that is none is passed over by who reads it, and would be a default that nobody has asked for."""
    if not ENV_FILE.is_file():
        return
    with ENV_FILE.open(encoding=encoding_of(ENV_FILE)) as file:
        wrong = next((part.original for part in parse_stream(file) if part.error), None)
    if wrong:
        above = len(wrong.string) - len(wrong.string.lstrip("\n"))  # empty lines belong to what follows them
        raise ValueError(f"{ENV_FILE}, line {wrong.line + above} is not NAME=value")


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
