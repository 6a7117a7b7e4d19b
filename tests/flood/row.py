"""The figures of a case, and the bounds that they are held against."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

SERVED = 0.05
"""Receipts for each write, 20 a second, below which others are not served however slow the machine is."""


@dataclass
class Bounds:
    """Megabytes by which memory may grow, milliseconds for others' events and for `/healthz`, backend requests; whether
    the gateway may end instead, with a status that is not 0: it is started again then.
    """

    memory: float = 32
    p99: float = 100
    healthz: float = 1_000
    asked: int | None = None
    may_end: bool = False


@dataclass
class Row:
    """What was measured in a case, and which bounds it broke. `served` is how many receipts there were for each write
    while it flooded: 0 where nobody else was served.
    """

    case: str
    before: float = 0
    most: float = 0
    after: float = 0
    p50: float = 0
    p99: float = 0
    written: int = 0
    events: int = 0
    served: float = 1
    healthz: float = 0
    polls: int = 0
    failures: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    asked: int | None = None
    exits: list[int | str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "answers": dict(self.answers)}

    def check(self, sentence: str, good: bool) -> None:
        """Notes what is wrong where it is not so."""
        if not good:
            self.broken.append(sentence)

    def judge(self, bounds: Bounds, *, brief: bool) -> None:
        """Holds it against its bounds; the times of others only where it is not `brief`."""
        if bounds.may_end and all(isinstance(code, int) and code > 0 for code in self.exits):
            self.broken.clear()
            self.notes.append("it has ended, and says so")
            return
        grown = self.most - self.before
        self.check(f"memory grew by {grown:.0f} MB (bound {bounds.memory:g})", grown <= bounds.memory)
        served = self.served >= SERVED and (self.polls > self.failures or not self.polls)
        self.check(f"others were not served while it flooded ({self.served:.2f})", served)
        if bounds.asked is not None:
            asked = self.asked or 0
            self.check(f"{asked} requests at the backend (bound {bounds.asked})", asked <= bounds.asked)
        self.check(f"exit status {self.exits}", all(code == 0 for code in self.exits))
        if not brief:
            self.check(f"/healthz failed {self.failures} times", not self.failures)
            self.check(f"others' p99 {self.p99:.0f} ms (bound {bounds.p99:g})", self.p99 <= bounds.p99)
            self.check(
                f"/healthz took {self.healthz:.0f} ms (bound {bounds.healthz:g})", self.healthz <= bounds.healthz
            )
