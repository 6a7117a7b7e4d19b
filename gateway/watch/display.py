"""How it is shown: bars at a terminal, lines elsewhere, or the stream's own JSON."""

import sys
import time
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gateway.log import say
from gateway.stdio import tell, written
from gateway.watch.estimate import Estimate, rate_text, time_text
from gateway.watch.stream import News, State

STYLES = {"completed": "green", "error": "bold red", "invalid": "red", "unknown": "yellow", "gone": "yellow"}


def inert(text: str) -> str:
    """Text from elsewhere, made harmless for a terminal: no escapes, no line breaks, no turning of the direction."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


class Display:
    """Shows nothing. Every display leaves out what it has no use for; times are in seconds of one clock."""

    def __init__(self) -> None:
        self.ended_before = 0  # how many tasks had ended when the watching began
        self._is_lost = False

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the terminal as it was."""

    def news(self, news: News) -> None:
        """Everything that comes, as it comes."""

    def running(self, state: State, now: float) -> None:
        """A task that goes on."""

    def ended(self, state: State, now: float) -> None:
        """A task's final state, once."""

    def invalid(self, id: str, error: str) -> None:
        """A file that cannot be read now."""

    def left(self, id: str, why: str) -> None:
        """A task that is gone, or unknown."""

    def drop(self, id: str) -> None:
        """A task that is not to be shown any longer."""

    def synced(self, missing: list[str]) -> None:
        """All there was has been told; these have no file yet."""
        self._is_lost = False

    def lost(self, reason: str) -> None:
        """The connection is, and is being made again."""
        if not self._is_lost:
            self.say(f"gateway: reconnecting… ({reason})")
        self._is_lost = True

    def refresh(self, now: float) -> None:
        """Called several times a second."""

    def output(self, text: str) -> None:
        """What a command printed."""
        self.say(text)

    def say(self, text: str) -> None:
        """A word on stderr."""
        say(inert(text))


class Json(Display):
    """The gateway's lines, byte for byte. Whatever else there is to say goes to stderr."""

    def news(self, news: News) -> None:
        if news.line:
            with written():
                sys.stdout.buffer.write(news.line + b"\n")
                sys.stdout.flush()

    def left(self, id: str, why: str) -> None:
        if why == "unknown":
            self.say(f"gateway: there is no task {id}")


class Lines(Display):
    """A line for each change: id, percent, status, message."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, str] = {}

    def running(self, state: State, now: float) -> None:
        self._change(state.id, f"{state.progress:.0f}% {state.status} {state.message}")

    def ended(self, state: State, now: float) -> None:
        self.running(state, now)
        self.drop(state.id)

    def invalid(self, id: str, error: str) -> None:
        self._change(id, f"- invalid {error}")

    def left(self, id: str, why: str) -> None:
        self._change(id, f"- {why}")
        self.drop(id)

    def drop(self, id: str) -> None:
        self._last.pop(id, None)

    def output(self, text: str) -> None:
        tell(inert(text))

    def _change(self, id: str, text: str) -> None:
        if self._last.get(id) != text:
            self._last[id] = text
            self.output(f"{id} {text}".rstrip())


@dataclass
class Row:
    """A task that has a bar."""

    since: float
    progress: float = 0.0
    text: str = ""
    style: str = ""
    estimate: Estimate = field(default_factory=Estimate)


class Bars(Display):
    """Live bars at a terminal; what has ended moves above them."""

    def __init__(self, url: str, *, follows_all: bool) -> None:
        super().__init__()
        self._url, self._follows_all = url, follows_all
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._rows: dict[str, Row] = {}
        self._missing: list[str] = []
        self._trouble = f"connecting to {url}…"
        self._shown = 0.0
        self._changed = True

    def __enter__(self) -> "Display":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh(time.monotonic())
        self._live.stop()

    def running(self, state: State, now: float) -> None:
        row = self._rows.setdefault(state.id, Row(now))
        row.estimate.add(now, state.progress)
        row.progress, row.text, row.style = state.progress, state.message, ""
        self._heard(state.id)

    def ended(self, state: State, now: float) -> None:
        row = self._rows.pop(state.id, None)
        took = f" in {time_text(now - row.since)}" if row else ""
        self._print(state.id, f"{state.progress:.0f}% {state.status}{took}", state.status, state.message)

    def invalid(self, id: str, error: str) -> None:
        row = self._rows.setdefault(id, Row(time.monotonic()))
        row.text, row.style = f"invalid: {error}", STYLES["invalid"]
        self._heard(id)

    def left(self, id: str, why: str) -> None:
        self._rows.pop(id, None)
        self._print(id, why, why)

    def drop(self, id: str) -> None:
        self._rows.pop(id, None)
        self._heard(id)

    def synced(self, missing: list[str]) -> None:
        self._missing, self._trouble, self._changed = missing, "", True

    def lost(self, reason: str) -> None:
        self._trouble, self._changed = f"reconnecting… ({reason})", True

    def refresh(self, now: float) -> None:
        """Draws when something has changed, and each second for the time left."""
        if self._changed or now - self._shown >= 1:
            self._shown, self._changed = now, False
            self._live.update(self._drawn(now), refresh=True)

    def output(self, text: str) -> None:
        self._console.print(Text(inert(text)))

    def say(self, text: str) -> None:
        if sys.stderr.isatty():
            self.output(text)  # above the bars, not through them
        else:
            super().say(text)

    def _heard(self, id: str) -> None:
        self._changed = True
        if id in self._missing:
            self._missing.remove(id)

    def _print(self, id: str, what: str, style: str, text: str = "") -> None:
        self._heard(id)
        line = Text.assemble((inert(id), "bold"), "  ", (what, STYLES.get(style, "")), "  ", inert(text))
        line.rstrip()
        self._live.update(self._drawn(time.monotonic()), refresh=True)  # printing draws this again: without the row
        self._console.print(line, no_wrap=True, overflow="ellipsis")

    def _drawn(self, now: float) -> Group:
        """The newest rows that there is room for, and what there is to say besides."""
        room = max(1, self._console.height - 3)
        shown = list(self._rows.items())[-room:]
        more = len(self._rows) - len(shown)
        wide = self._console.width >= 70
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True, max_width=max(8, self._console.width // 3))
        table.add_column(width=max(4, min(30, self._console.width // 5)))
        table.add_column(justify="right", no_wrap=True, min_width=4)
        if wide:
            table.add_column(justify="right", no_wrap=True, min_width=9)
            table.add_column(justify="right", no_wrap=True, min_width=5)
        table.add_column(no_wrap=True, ratio=1)
        for id, row in shown:
            rate, left = rate_text(row.estimate.rate(now)), time_text(row.estimate.left(now))
            table.add_row(
                Text(inert(id), "bold", overflow="ellipsis"),
                ProgressBar(100, row.progress, complete_style="cyan", finished_style="green"),
                f"{row.progress:.0f}%",
                *((Text(rate, "dim"), Text(left, "cyan")) if wide else ()),
                Text(inert(row.text), row.style, overflow="ellipsis"),
            )
        last = [f"… and {more} more"] * bool(more) + [self._standing()] * bool(self._standing())
        words = [Text(inert(line), "dim", no_wrap=True, overflow="ellipsis") for line in last]
        return Group(*([table] if shown else []), *words)

    def _standing(self) -> str:
        if self._trouble:
            return self._trouble
        if self._missing:
            return f"waiting for {', '.join(self._missing)}"
        if self._rows or not self._follows_all:
            return ""
        return f"nothing runs at {self._url}; {self.ended_before} ended before"
