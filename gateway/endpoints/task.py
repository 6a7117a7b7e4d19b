"""One task at one polling URL, in that URL's dialect: polled as documented, or pushed."""

from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from gateway.access.grants import grant_of
from gateway.cache import Cache
from gateway.dialects import MISSING, NOT_FOUND, Dialect, fault
from gateway.endpoints.base import Endpoint, last_event, while_connected
from gateway.engine import Engine
from gateway.limits import Seat, client_of
from gateway.store import Event, Kind
from gateway.subscription import Outlet, Subscription
from gateway.tasks import Task, is_name
from gateway.transports.reply import ALWAYS, Reply, State
from gateway.transports.request import Query, tags
from gateway.transports.streaming import Subscribe, stream
from gateway.transports.websocket import converse, error, with_handshake
from gateway.wire import Bodies, Encoding, Ndjson, Sse

SETTLES = 2.0
"""Seconds that a poll waits for a file that was never whole so far: longer than a torn one is tried again."""

READY_OVERHEAD, READY = 3_000, 4 << 20
"""Bytes of answers that are kept for the next poll."""

IdOf = Callable[[Query, Scope], str]


def in_query(query: Query, _scope: Scope) -> str:
    return query.param("task_id") or query.param("id") or ""


def in_path(_query: Query, scope: Scope) -> str:
    id: str = scope["path_params"]["id"]
    return id


class TaskEndpoint(Endpoint):
    def __init__(self, engine: Engine, dialect: Dialect, id_of: IdOf) -> None:
        ordered = engine.store.copied
        super().__init__(engine, Sse(dialect, ordered=ordered), Ndjson(dialect, ordered=ordered), Bodies(dialect))
        self.dialect = dialect
        self._id_of = id_of
        self._ready: Cache[str, tuple[Task, State]] = engine.cache(READY)

    def hide(self, query: Query, scope: Scope) -> Reply | None:
        id = self._id(query, scope)
        return None if grant_of(scope).sees(id) else self._reply(id, None, query)

    def _id(self, query: Query, scope: Scope) -> str:
        return self.engine.spelled(self._id_of(query, scope))

    def _seen(self, event: Event | None, scope: Scope) -> Event | None:
        """What may be seen of what was found: it may be spelled otherwise than what was asked for."""
        return event if event and grant_of(scope).sees(event.id) else None

    def poll_now(self, query: Query, scope: Scope) -> Reply | None:
        id = self._id(query, scope)
        event = self.engine.find(id)
        if (event and not event.settled) or not self.engine.is_fresh(id):
            return None
        return self._reply(id, event, query)

    async def poll(self, query: Query, scope: Scope) -> Reply:
        id, client = self._id(query, scope), client_of(scope)
        failures = await self.engine.freshen([id], client)
        event = self.engine.find(id)
        if event and not event.settled:
            event = await self.engine.appears(id, SETTLES, client)
        event = self._seen(event, scope)
        return self.unavailable(failures[0]) if failures and not event else self._reply(id, event, query)

    async def long_poll(self, query: Query, scope: Scope, wait: float) -> Reply:
        """Answers once the state is final or another than the client's, or than the first where it names none."""
        id, known = self._id(query, scope), tags(query.header(b"if-none-match")) - {"*"}
        if not is_name(id):
            return self._reply(id, None, query)
        async with self.engine.listening([id], wait, grant_of(scope), client_of(scope)) as bell:
            event = self.engine.find(id)
            if not known and event and event.shown:
                known = {event.shown.tag}
            while not (event and event.settled and _news(event, known)) and await bell.heard():
                event = self.engine.find(id)
        event = self._seen(event or self.engine.find(id), scope)
        return self._reply(id, event, query) if event else await self._missing(id, query, scope)

    async def stream(
        self, query: Query, scope: Scope, receive: Receive, send: Send, *, encoding: Encoding, seat: Seat
    ) -> Reply | None:
        id, last = self._id(query, scope), last_event(query)
        event = await while_connected(receive, self._appears(id, last, scope))
        if not event:
            return await self._missing(id, query, scope)
        if event.task and event.task.final and event.task.tag == _tag_in(last):
            return Reply(204, b"", ALWAYS[1:])  # an EventSource that gets this stops for good
        subscribe = self._subscriber(event.id, last, scope)
        await stream(self.engine.hub, subscribe, seat=seat, encoding=encoding, scope=scope, receive=receive, send=send)
        return None

    async def converse(self, query: Query, scope: Scope, receive: Receive, send: Send, *, seat: Seat) -> Reply | None:
        id, last = self._id(query, scope), last_event(query)
        event = await while_connected(receive, self._appears(id, last, scope))
        if not event:
            return await self._missing(id, query, scope)

        def incoming(_subscription: Subscription, _message: str | bytes) -> bytes:
            return error("unexpected", "the stream of a single task takes no messages")

        await converse(
            self.engine.hub,
            self._subscriber(event.id, last, scope),
            self.throttled(incoming),
            seat=seat,
            encoding=self.messages,
            scope=scope,
            receive=with_handshake(receive),
            send=send,
        )
        return None

    async def _appears(self, id: str, last: str | None, scope: Scope) -> Event | None:
        """The task to subscribe to; waits for it, and at an edge for one that is no older than what the client has."""
        if self.engine.replica:
            await self.engine.started(_cursor_in(last))
        event = await self.engine.appears(id, self.engine.settings.task_wait, client_of(scope))
        return self._seen(event, scope)

    async def _missing(self, id: str, query: Query, scope: Scope) -> Reply:
        """No such task has come; or it is not known, because the backend fails."""
        failures = await self.engine.freshen([id], client_of(scope))
        return self.unavailable(failures[0]) if failures else self._reply(id, None, query)

    def _reply(self, id: str, event: Event | None, query: Query) -> Reply:
        if event and event.shown:
            return self._state(event.shown).to(tags(query.header(b"if-none-match")))
        if event:
            return Reply(500, self.dialect.failure(fault(event.error), 500, event.id))
        if not id and self._id_of is in_query:
            return Reply(400, self.dialect.failure(MISSING, 400, ""))
        return Reply(404, self.dialect.failure(NOT_FOUND, 404, id[:250]))

    def _state(self, task: Task) -> State:
        """The answer for a task, made anew only when the task is."""
        ready = self._ready.get(task.id)
        if ready and ready[0] is task:
            return ready[1]
        state = State(task.tag, self.dialect.body(task))
        self._ready.put(task.id, (task, state), READY_OVERHEAD + 2 * len(task.body) + len(state.ok.body))
        return state

    def _subscriber(self, id: str, last: str | None, scope: Scope) -> Subscribe:
        """Subscribes from the task's state as it is then, unless the client has it, to its final one.

        At an edge, from where the client was: it may have seen more at another one.
        """
        engine, client, grant = self.engine, client_of(scope), grant_of(scope)
        known, cursor = _tag_in(last), _cursor_in(last)

        def subscribe(outlet: Outlet, encoding: Encoding) -> Subscription:
            subscription = Subscription(
                encoding, outlet, ids=[id], ends=engine.settings.task_wait, client=client, grant=grant
            )
            if engine.store.copied and engine.store.place(cursor) is not None:
                engine.hub.subscribe(subscription, cursor)
                return subscription
            event = engine.look(id) or Event(0, Kind.GONE, id)
            first = []
            if event.shown and event.shown.tag != known:
                first.append(event if event.task else Event(0, Kind.TASK, id, event.shown))
            if event.kind is not Kind.TASK and event.settled:
                first.append(event)
            engine.hub.subscribe(subscription, engine.store.cursor(engine.store.head), first)
            return subscription

        return subscribe


def _tag_in(last: str | None) -> str:
    """The tag in the id of an event: at an edge a cursor stands behind it."""
    return (last or "").partition("@")[0]


def _cursor_in(last: str | None) -> str:
    return (last or "").partition("@")[2]


def _news(event: Event, known: set[str]) -> bool:
    """Whether a long-poll is answered by this: a state that is final or not known, or that there is none to show."""
    return not event.shown or event.shown.final or event.shown.tag not in known
