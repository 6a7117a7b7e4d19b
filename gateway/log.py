"""The log on stderr, and words to who sits there. Whatever becomes of its reader: who logs neither fails nor waits."""

import logging
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from queue import SimpleQueue
from types import TracebackType
from typing import Protocol

import msgspec

log = logging.getLogger("gateway.log")

MOST = 1 << 20
"""Bytes that wait to be written: what comes on top is dropped."""

LAST_WORDS = 1.0
"""Seconds that writing what waits may take at the end."""

FULL = 0.05
"""Seconds until a pipe that somebody made non-blocking is tried again."""

NOISY = {"watchfiles": logging.WARNING, "uvicorn.error": logging.ERROR, "sse_starlette": logging.WARNING}
"""uvicorn warns of each request that is not HTTP: a port scan would fill the disk."""

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\t")}
_CONTROLS_IN_LINES = {code: text for code, text in _CONTROLS.items() if code != ord("\n")}


class Text(logging.Formatter):
    """For people: a line that begins with time and level, then a traceback. No text can move a terminal's cursor."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's names
        return super().formatMessage(record).translate(_CONTROLS)

    def formatException(self, ei: "_ExcInfo") -> str:  # noqa: N802
        return super().formatException(ei).translate(_CONTROLS_IN_LINES)


class Json(logging.Formatter):
    """For machines: a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        whole = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in line.items()}
        return msgspec.json.encode(whole).decode()


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Raw(Protocol):
    """A stream without a buffer: `write` returns how many bytes it took, None where it would have to wait."""

    def write(self, data: memoryview, /) -> int | None: ...


class Log(logging.Handler):
    """Takes lines from everywhere; one thread writes them, each in one piece. What does not fit is dropped, counted,
    and told when there is room again.
    """

    def __init__(self, formatter: logging.Formatter, out: Raw) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._out = out
        self._lines: SimpleQueue[bytes] = SimpleQueue()  # a signal's handler may put a line while one is being put
        self._writer: threading.Thread | None = None
        self._taken = self._done = 0  # bytes; each figure has one writer: who logs, or the thread
        self._unfit = self._unwritten = self._told = 0  # lines
        self._torn = False  # the last line ended in its middle

    @property
    def dropped(self) -> int:
        """Lines that were not written."""
        return self._unfit + self._unwritten

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # whatever was logged: what logs it goes on
            where = f"{record.pathname}:{record.lineno}"
            text = self.format(_record(logging.ERROR, f"a line from {where} makes no text: {type(error).__name__}"))
        self.put(text)

    def put(self, text: str) -> None:
        """Has a line written as it is."""
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        self.acquire()
        try:
            waiting = self._taken - self._done
            if waiting and waiting + len(line) > MOST:
                self._unfit += 1
            else:
                self._taken += len(line)
                self._lines.put(line)
            self._start()
        finally:
            self.release()

    def flush(self) -> None:
        """Waits for what was logged, but not for ever."""
        self._start()
        until = time.monotonic() + LAST_WORDS
        while self._taken > self._done and time.monotonic() < until:
            time.sleep(0.005)  # no lock: a signal's handler may wait here for what it interrupted

    def _start(self) -> None:
        if self._writer and self._writer.is_alive():
            return
        writer = threading.Thread(target=self._write_for_ever, name="log", daemon=True)
        with suppress(RuntimeError):  # no thread is to be had now: lines wait, and the next one tries again
            writer.start()
            self._writer = writer

    def _write_for_ever(self) -> None:
        while True:
            line = self._lines.get()
            try:
                if not self._write(line):
                    self._unwritten += 1
                if self._lines.empty():
                    self._tell_dropped()
            finally:
                self._done += len(line)  # also where no memory is left for any of this: the next line starts a thread

    def _tell_dropped(self) -> None:
        if news := self.dropped - self._told:
            text = self.format(_record(logging.WARNING, f"{news} lines of the log could not be written"))
            if self._write(f"{text}\n".encode()):
                self._told += news

    def _write(self, line: bytes) -> bool:
        whole = left = memoryview(b"\n" + line if self._torn else line)
        try:
            while left:
                taken = self._out.write(left)
                if taken is None:
                    time.sleep(FULL)
                left = left[taken or 0 :]
        except (OSError, ValueError):  # nobody reads, the disk is full, the stream was closed
            self._torn = self._torn or len(left) < len(whole)
            return False
        self._torn = False
        return True


def _record(level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(log.name, level, __file__, 0, text, None, None)


def start(style: str, level: str) -> None:
    """Logs from now on, as `text` or `json`; also what the interpreter itself would say on stderr, and wait there."""
    logging.basicConfig(handlers=[Log(Json() if style == "json" else Text(), _stderr())])
    set_level(level)
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, trace: log.critical("the process ends", exc_info=(kind, error, trace))
    threading.excepthook = lambda args: log.error("a thread ended", exc_info=args.exc_value)
    sys.unraisablehook = lambda args: log.error("%s", args.err_msg or "an error in passing", exc_info=args.exc_value)


def set_level(level: str) -> None:
    logging.getLogger().setLevel(level.upper())
    for noisy, least in NOISY.items():
        logging.getLogger(noisy).setLevel(max(least, logging.getLogger().level))


def say(text: str) -> None:
    """A word to the person at the terminal, as it is; where the log runs, in its turn."""
    for handler in _running():
        handler.put(text)
        return
    with suppress(OSError):  # who has left is told nothing
        _stderr().write(memoryview(f"{text}\n".encode("utf-8", "backslashreplace")))


def dropped() -> int:
    """Lines of this process's log that were not written."""
    return sum(handler.dropped for handler in _running())


def _stderr() -> Raw:
    """What stderr writes to. A buffer would keep what could not be written, and its lock."""
    buffer = sys.stderr.buffer
    raw: Raw = getattr(buffer, "raw", buffer)
    return raw


def _running() -> list[Log]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, Log)]
