"""One task at the backend, asked for again and again by one poller, however many want to know."""

import asyncio
import math
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol

from gateway.sources.answers import AnswerError, is_unfinished
from gateway.sources.asking import Answer, Asking
from gateway.sources.pace import Pace
from gateway.sources.slots import Turn
from gateway.store import Event, Store
from gateway.tasks import Task

CONFIRM = 0.5
"""Seconds, but at least an interval, until a final state that looks unfinished is asked for once more."""

LINGER, CACHED = 10, 1
"""Intervals for which a task is polled on when nobody wants it any more, and for which it is known not to exist."""

GONE, NEVER = 5, 30
"""Intervals until a task that the backend does not know any more is gone, and one that nobody ever knew but a reply."""

TROUBLE = 10
"""Intervals until it is said of a task that the backend fails."""


class Interest(Protocol):
    """Who else cares for a task, under whichever of its names; and the places that unknown ids need to be polled."""

    def is_wanted(self, names: tuple[str, ...], *, by_name: bool) -> bool: ...
    def is_elsewhere(self, names: tuple[str, ...]) -> bool: ...
    def clients(self, names: tuple[str, ...]) -> set[str]: ...
    def takes_place(self, names: tuple[str, ...]) -> bool: ...
    def is_contested(self, names: tuple[str, ...]) -> bool: ...
    def needs_no_place(self, names: tuple[str, ...]) -> None: ...


class Poller:
    """Polls until the state is final, another source has the task, or nobody wants it any more.

    `names` are the spellings that the backend may know the task by. It begins after `rest` seconds.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        asking: Asking,
        store: Store,
        publish: Callable[[Event], None],
        *,
        interest: Interest,
        interval: float,
        rest: float = 0,
    ) -> None:
        self.names = names
        self.error: AnswerError | None = None
        """How the backend failed, since it does."""
        self._asking, self._store, self._publish, self._interest = asking, store, publish, interest
        self._interval, self._first_rest = interval, rest
        self._pace = Pace(interval)
        self._turn = Turn(self._clients)
        self._asked_by: set[str] = set()  # who waited for it last
        self._known_as = names[:2]  # as it was given, and as its kind is usually written
        self._etag = ""
        self._told = next((event.task for name in names if (event := store.get(name))), None)
        self._doubted: Task | None = None  # a final state that was seen once, and looked unfinished
        self._learned = False
        self._until = -math.inf  # when it is wanted no longer
        self._answered = -math.inf
        self._unknown = self._failing = math.inf  # since when
        self._hurry = asyncio.Event()
        self._round = asyncio.Event()
        self.over = False
        self.look()

    # Who wants to know

    @property
    def known(self) -> bool:
        """Whether there is such a task."""
        return self._told is not None

    @property
    def absent(self) -> float:
        """Seconds from now on for which it is known not to exist; 0 where that is not so."""
        if self._told or self._unknown == math.inf:
            return 0
        return max(self._answered + CACHED * self._interval - time.monotonic(), self._pace.least)

    def look(self, clients: Collection[str] = ()) -> None:
        """Somebody wants to know; `clients` are waiting."""
        self._until = max(self._until, time.monotonic() + LINGER * self._interval)
        if clients:
            self._asked_by = set(clients)
            self._asking.slots.share(self._turn, clients)

    def _clients(self) -> set[str]:
        return self._interest.clients(self.names) | self._asked_by

    def learn(self, task: Task) -> None:
        """A reply has named it: until the backend or a file says more, this is what is known."""
        self._learned = True
        self._until = time.monotonic() + (NEVER + LINGER) * self._interval
        self._tell(task)

    @property
    def fresh(self) -> bool:
        """Whether what is known is new enough to answer with, or nothing newer is to be had for now."""
        return time.monotonic() - self._answered <= self._interval or (self._answered > 0 and self._pace.patient)

    async def freshen(self) -> None:
        """Has the next answer come soon, and waits for it."""
        while not (self.fresh or self.over):
            self._hurry.set()
            await self._round.wait()

    # The poller's life

    async def run(self) -> None:
        try:
            await asyncio.sleep(self._first_rest)
            while not self._ends():
                await self._poll()
                self._hurry.clear()
                self._round.set()
                self._round = asyncio.Event()
                if not self._ends():
                    await self._rest()
        finally:
            self.over = True
            self._round.set()

    def _ends(self) -> bool:
        if self._interest.is_elsewhere(self.names):
            if self._told and not self._interest.is_elsewhere((self._told.id,)):
                self._gone()  # it is there under another name
            return True
        if self._told and self._told.final:
            return True
        if not self._told and not self._interest.takes_place(self.names):
            return True
        if self._interest.is_wanted(self.names, by_name=not self._told):  # nobody else waits for what may never be
            return self._has_had_its_turn() and self._interest.is_contested(self.names)
        if self._answered == -math.inf:  # who asked waits for the first answer, however late it is asked for
            return False
        return (not self._told and self._unknown < math.inf) or time.monotonic() >= self._until

    def _has_had_its_turn(self) -> bool:
        """Whether others should be asked for before it is again."""
        if self._told or self._answered == -math.inf:
            return False
        return self._unknown < math.inf or time.monotonic() - self._failing >= TROUBLE * self._interval

    async def _poll(self) -> None:
        self._turn.known = self.known
        try:
            answer = await self._asking.ask(self._known_as, self._etag, self._turn)
        except AnswerError as error:
            self._pace.failed()
            self._pace.told(error.retry_after)
            self._fails(error)
        else:
            self.error, self._failing = None, math.inf
            self._take(answer)
            self._pace.told(answer.retry_after)
        if not self._doubted:
            self._answered = time.monotonic()

    async def _rest(self) -> None:
        if self._doubted:
            await asyncio.sleep(max(CONFIRM, self._interval))
        elif self._pace.patient:
            await asyncio.sleep(self._pace.wait())
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.wait()):
                    await self._hurry.wait()

    # What the backend said

    def _take(self, answer: Answer) -> None:
        task = (self._doubted or self._told) if answer.unchanged else answer.task
        if task is None:
            return self._does_not_know()
        self._unknown, self._learned = math.inf, False
        self._known_as, self._etag = (task.id,), answer.etag
        if is_unfinished(task) and not (self._doubted and self._doubted.tag == task.tag):
            self._doubted = task
            return None
        self._doubted = None
        return self._pace.changed() if self._tell(task) else self._pace.unchanged()

    def _tell(self, task: Task) -> bool:
        """Whether it was news."""
        if self._interest.is_elsewhere(self.names):
            return False
        self._told = task
        self._interest.needs_no_place(self.names)
        event = self._store.put(task)
        if event:
            self._publish(event)
        return event is not None

    def _does_not_know(self) -> None:
        self._unknown = min(self._unknown, time.monotonic())
        self._etag, self._doubted = "", None
        if not self._learned:
            self._pace.unchanged()
        limit = NEVER if self._learned else GONE
        if self._told and time.monotonic() - self._unknown >= limit * self._interval:
            self._gone()

    def _gone(self) -> None:
        assert self._told
        if self._store.get(self._told.id):
            self._publish(self._store.remove(self._told.id))
        self._told, self._learned = None, False

    def _fails(self, error: AnswerError) -> None:
        self.error = error
        self._failing = min(self._failing, time.monotonic())
        if self._told and time.monotonic() - self._failing >= TROUBLE * self._interval:
            event = self._store.invalidate(self._told.id, str(error), still=self._told)
            if event:
                self._publish(event)
