"""What a reconnect storm does to the edges that are left, and whether their limits hold.

    python examples/reconnect_storm.py --subscribers 1000000 --edges 80 --die 8

Subscribers are spread evenly over gateways behind a balancer. Some of these edges die or drain at second 0, and all who
were there come back to the others, each to any of them. The exit status is 1 where a limit is broken. What an edge
accepts and writes is to be measured: reconnect_cost.py does. The defaults are half of what it found on one core (the
other half has changes to write), the snapshot of 100 tasks, and 1 Gbit/s.
"""

import argparse
import heapq
import math
import random
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

CLIENTS = ("eventsource", "gateway.js", "watch")

WITHOUT = 1.0  # seconds: the fixed retry that a spread one is compared with
SYN_RETRIES = 6  # after 1, 2, 4 … s Linux asks again where it got no answer, before a connection has failed
PATIENCE = 600.0  # seconds after which nobody is waited for any more


@dataclass(frozen=True)
class Storm:
    """Who is lost, how they come back, and what each edge can take. Seconds, bytes, bytes a second."""

    subscribers: int = 100_000
    edges: int = 10
    die: int = 1
    accept_rate: float = 2_500
    max_streams: int = 20_000
    backlog: int = 4_096
    retry: tuple[float, float] = (1.0, 5.0)
    replay_bytes: int = 13_400
    bandwidth: float = 125e6
    client: str = "eventsource"
    seed: int = 1

    def streams(self) -> list[int]:
        """Subscribers at each edge, those that die first."""
        each, more = divmod(self.subscribers, self.edges)
        return [each + (n < more) for n in range(self.edges)]

    @property
    def lost(self) -> int:
        return sum(self.streams()[: self.die])

    def densest(self) -> float:
        """The largest share of the lost that is expected within one second."""
        low, high = self.retry
        if self.client == "watch":
            return 1.0
        if self.client == "eventsource":
            return 1 / max(1.0, high - low)
        return min(1.0, math.log(min(3.0, high / low)) / (high - low) if high > low else 1 / low)

    def expected(self) -> float:
        """Reconnects a second at each edge that is left: lost / left / spread."""
        return self.lost / (self.edges - self.die) * self.densest()

    def first(self, rng: random.Random) -> float:
        """Seconds until a client comes back."""
        if self.client == "watch":
            return 0.25 * rng.uniform(0.5, 1)
        told = rng.uniform(*self.retry)
        return told if self.client == "eventsource" else told * rng.uniform(0.5, 1.5)

    def again(self, refusals: int, rng: random.Random) -> float:
        """Seconds from a 503 to the next attempt. EventSource makes none: only a lost connection is made anew."""
        if self.client == "eventsource":
            return math.inf
        if self.client == "watch":  # Retry-After, and its own pause
            return 5 + min(5, 0.25 * 2.0 ** min(refusals, 10)) * rng.uniform(0.5, 1)
        return min(60, 2.5 * 2.0 ** min(refusals, 10))  # and polls meanwhile


class Edge:
    """One that is left: accepts its clients in turn, and writes to them in turn."""

    def __init__(self, storm: Storm, streams: int) -> None:
        self._storm, self.streams = storm, streams
        self._accepted = self._written = 0.0  # when it is through with all who are here
        self._recent: deque[float] = deque()
        self.peak = self.waiting = 0

    def has_room(self, now: float) -> bool:
        """Counts an attempt. False: the backlog is full, and the system does not answer."""
        self._recent.append(now)
        while self._recent[0] <= now - 1:
            self._recent.popleft()
        self.peak = max(self.peak, len(self._recent))
        waiting = round(max(0.0, self._accepted - now) * self._storm.accept_rate)
        self.waiting = max(self.waiting, waiting)
        return waiting < self._storm.backlog

    def accept(self, now: float) -> tuple[float, bool]:
        """When a client has its answer, and whether that is all it missed, or a 503."""
        self._accepted = max(now, self._accepted) + 1 / self._storm.accept_rate
        if self.streams >= self._storm.max_streams:
            return self._accepted, False
        self.streams += 1
        self._written = max(self._accepted, self._written) + self._storm.replay_bytes / self._storm.bandwidth
        return self._written, True


@dataclass
class Outcome:
    """What came of a storm. `back` has the second at which each was back, in order."""

    storm: Storm
    peak: int = 0
    waiting: int = 0
    fullest: int = 0
    refused: int = 0
    dropped: int = 0
    back: list[float] = field(default_factory=list)

    def after(self, share: float) -> float:
        """Seconds until this share of the lost was back; infinite where it never was."""
        count = math.ceil(share * self.storm.lost)
        return self.back[count - 1] if count <= len(self.back) else math.inf

    def said(self, share: float) -> str:
        return f"{self.after(share):,.2f} s" if self.after(share) < math.inf else "never"

    @property
    def away(self) -> int:
        return self.storm.lost - len(self.back)

    @property
    def writes(self) -> float:
        """Megabytes a second that the peak has an edge write."""
        return self.peak * self.storm.replay_bytes / 1e6

    def broken(self) -> list[str]:
        """The limits that did not hold, a sentence each."""
        storm, room = self.storm, (self.storm.edges - self.storm.die) * self.storm.max_streams
        why = "EventSource gives up at a 503" if storm.client == "eventsource" else f"not within {PATIENCE:.0f} s"
        most = storm.bandwidth / 1e6
        checks = (
            (storm.subscribers > room, f"{storm.subscribers:,} subscribers, and room for {room:,}"),
            (self.peak > storm.accept_rate, f"{self.peak:,} came in a second, of {storm.accept_rate:,.0f}"),
            (self.writes > most, f"{self.writes:,.1f} MB to write in a second, of {most:,.1f}"),
            (self.dropped > 0, f"{self.dropped:,} attempts found the backlog full"),
            (self.refused > 0, f"{self.refused:,} attempts were refused"),
            (self.away > 0, f"{self.away:,} are not back: {why}"),
        )
        return [sentence for is_broken, sentence in checks if is_broken]


def simulate(storm: Storm) -> Outcome:
    """Plays a storm, attempt by attempt in the order of time."""
    rng, outcome = random.Random(storm.seed), Outcome(storm)
    edges = [Edge(storm, streams) for streams in storm.streams()[storm.die :]]
    attempts = [(storm.first(rng), 0, 0) for _ in range(storm.lost)]
    heapq.heapify(attempts)
    while attempts:
        now, refusals, drops = heapq.heappop(attempts)
        edge = rng.choice(edges)
        if not edge.has_room(now):
            outcome.dropped += 1
            later = now + (2**drops if drops < SYN_RETRIES else storm.first(rng))
            drops = (drops + 1) % (SYN_RETRIES + 1)
        else:
            later, is_back = edge.accept(now)
            if is_back:
                outcome.back.append(later)
                continue
            outcome.refused += 1
            refusals, drops = refusals + 1, 0
            later += storm.again(refusals, rng)
        if later <= PATIENCE:
            heapq.heappush(attempts, (later, refusals, drops))
    outcome.back.sort()
    outcome.peak = max(edge.peak for edge in edges)
    outcome.waiting = max(edge.waiting for edge in edges)
    outcome.fullest = max(edge.streams for edge in edges)
    return outcome


def table(spread: Outcome, fixed: Outcome) -> str:
    """Both outcomes beside the limits, and which of these the first one broke."""
    storm = spread.storm

    def row(name: str, show: Callable[[Outcome], str], limit: str = "") -> str:
        return f"{name:<33}{show(spread):>15}{show(fixed):>15}{limit:>12}".rstrip()

    lines = [
        f"{storm.subscribers:,} subscribers ({storm.client}) at {storm.edges:,} edges, {storm.streams()[0]:,} at each;",
        f"{storm.die:,} of these end, and {storm.lost:,} clients come back to {storm.edges - storm.die:,}.",
        "",
        row("", lambda o: "retry " + " to ".join(f"{s:g}" for s in sorted({*o.storm.retry})) + " s", "limit"),
        row("reconnects/s at an edge, peak", lambda o: f"{o.peak:,}", f"{storm.accept_rate:,.0f}"),
        row("  expected: lost / left / spread", lambda o: f"{o.storm.expected():,.0f}"),
        row("waiting to be accepted, most", lambda o: f"{o.waiting:,}", f"{storm.backlog:,}"),
        row("MB/s to write at an edge", lambda o: f"{o.writes:,.1f}", f"{storm.bandwidth / 1e6:,.1f}"),
        row("streams at the fullest edge", lambda o: f"{o.fullest:,}", f"{storm.max_streams:,}"),
        row("50 % are back after", lambda o: o.said(0.5)),
        row("99 %", lambda o: o.said(0.99)),
        row("100 %", lambda o: o.said(1)),
        row("refused (503)", lambda o: f"{o.refused:,}", "0"),
        row("not answered (backlog full)", lambda o: f"{o.dropped:,}", "0"),
        row("not back", lambda o: f"{o.away:,}", "0"),
        row("limits", lambda o: "broken" if o.broken() else "hold"),
    ]
    return "\n".join([*lines, *(f"broken: {sentence}" for sentence in spread.broken())])


def read_arguments() -> Storm:
    shown = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description="Plays a reconnect storm against limits.", formatter_class=shown)

    def option(name: str, kind: type, help: str, **more: Any) -> None:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, default=getattr(Storm, name), help=help, **more)

    option("subscribers", int, "at all edges together")
    option("edges", int, "gateways behind the balancer")
    option("die", int, "edges that end")
    option("accept_rate", float, "connections an edge accepts in a second")
    option("max_streams", int, "streams an edge holds")
    option("backlog", int, "connections that wait to be accepted (net.core.somaxconn)")
    option("retry", float, "range of the retry that clients are told, in seconds", nargs=2, metavar=("LOW", "HIGH"))
    option("replay_bytes", int, "bytes that one who comes back is given")
    option("bandwidth", float, "bytes a second that an edge writes")
    option("client", str, "how clients come back: EventSource, gateway.js, gateway watch", choices=CLIENTS)
    option("seed", int, "of chance")
    given = vars(parser.parse_args())
    storm = Storm(**given | {"retry": tuple(given["retry"])})
    if not 0 < storm.die < storm.edges <= storm.subscribers:
        parser.error("some edges must end, some be left, and each have a subscriber")
    if not 0 < storm.retry[0] <= storm.retry[1] or min(storm.accept_rate, storm.bandwidth) <= 0:
        parser.error("rates must be more than 0, and --retry from LOW, more than 0, to HIGH")
    return storm


def main() -> int:
    spread = simulate(read_arguments())
    fixed = simulate(replace(spread.storm, retry=(WITHOUT, WITHOUT)))
    print(table(spread, fixed))
    return 1 if spread.broken() else 0


if __name__ == "__main__":
    sys.exit(main())
