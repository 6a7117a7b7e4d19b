"""The commands that `--exec` runs at each final state."""

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import tempfile
from typing import IO

from gateway.watch.display import Display
from gateway.watch.stream import State, WatchError

AT_ONCE = 4
MOST_SHOWN = 65_536
"""Bytes of a command's output that are shown: its last."""

_PLACE = re.compile(r"\{(id|status|message|progress)\}")


class Commands:
    """Runs one command for each final state, a few at once. No shell reads it: a task's text cannot become a command.

    The task is in TASK_ID, TASK_STATUS, TASK_MESSAGE, TASK_PROGRESS, and as JSON on stdin. Raises WatchError where the
    template is none.
    """

    def __init__(self, template: str, display: Display) -> None:
        try:
            self._argv = shlex.split(template)
        except ValueError as error:
            raise WatchError(f"--exec: {error}") from None
        if not self._argv:
            raise WatchError("--exec: a command is needed")
        found = shutil.which(self._argv[0]) or self._argv[0]
        if os.name == "nt" and found.lower().endswith((".bat", ".cmd")) and any(map(_PLACE.search, self._argv)):
            # Windows gives the arguments of these to cmd.exe, which reads them as a shell does.
            raise WatchError("--exec: a batch file is not safe with {…}: let it read TASK_ID and the like")
        self._display = display
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()

    def run(self, state: State) -> None:
        task = asyncio.create_task(self._run(state))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def finished(self) -> None:
        """Waits for all that run and all that wait."""
        await asyncio.gather(*self._running)

    async def end(self) -> None:
        """Ends those that run, and starts no other."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, state: State) -> None:
        words = {"id": state.id, "status": state.status, "message": state.message, "progress": f"{state.progress:g}"}
        words = {name: word.replace("\0", "") for name, word in words.items()}  # no argument can hold a NUL
        argv = [_PLACE.sub(lambda place: words[place[1]], part) for part in self._argv]
        env = os.environ | {f"TASK_{name.upper()}": word for name, word in words.items()}
        async with self._turn:
            # Files, not pipes: a child that stays behind and holds them open keeps nobody waiting.
            with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
                given.write(state.json)
                given.seek(0)
                trouble = await self._ended(argv, env, given, said)
                said.seek(max(0, said.seek(0, os.SEEK_END) - MOST_SHOWN))
                with contextlib.suppress(BrokenPipeError):  # the display's own lines will find it, and end
                    for line in said.read().decode(errors="replace").splitlines():
                        self._display.output(line)
        if trouble:
            self._display.say(f"gateway: {self._argv[0]} for {state.id} {trouble}")

    async def _ended(self, argv: list[str], env: dict[str, str], given: IO[bytes], said: IO[bytes]) -> str:
        """Runs one to its end. What went wrong, if anything did."""
        try:
            process = await asyncio.create_subprocess_exec(*argv, env=env, stdin=given, stdout=said, stderr=said)
        except (OSError, ValueError) as error:
            return f"cannot be started: {getattr(error, 'strerror', None) or error}"
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                process.terminate()
                await asyncio.wait_for(process.wait(), 1)
            raise
        return f"ended with exit status {code}" if code else ""
