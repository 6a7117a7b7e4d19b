"""All tasks, or some of them, at one URL: polled in pages, or pushed as one stream."""

import asyncio
import hashlib
import time
from functools import partial

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.access.grants import View, grant_of
from gateway.dialects import ITEM, v1_status
from gateway.endpoints.base import Endpoint, last_event
from gateway.engine import Engine
from gateway.limits import Throttle, client_of, peer_of
from gateway.sources.reader import SLICE
from gateway.store import Event
from gateway.subscription import Outlet, Subscription
from gateway.tasks import Task, is_name, spellings
from gateway.transports.reply import Reply, State
from gateway.transports.request import BadRequestError, Query, number, period, tags
from gateway.transports.streaming import Subscribe, stream
from gateway.transports.websocket import converse, error
from gateway.wire import Copies, Encoding, Messages, Ndjson, Sse

PAGE, LONGEST_PAGE = 100, 1_000
MOST_READ = 2_000
"""So many tasks a poll looks through for those of a status; its `next` goes on from there."""


class Ask(msgspec.Struct):
    """A message from a WebSocket client."""

    type: str
    ids: list[str] | None = None
    cursor: str | None = None


class CollectionEndpoint(Endpoint):
    dialect = ITEM

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, Sse(ITEM), Ndjson(ITEM), Messages(ITEM))
        self._copies = Copies()

    async def poll(self, query: Query, scope: Scope) -> Reply:
        ids, status, view = self._ids(query, scope), query.param("status"), grant_of(scope).view
        limit = number(query, "limit", PAGE, LONGEST_PAGE)
        await self.engine.started()
        after: str | None = None
        if ids is None:
            tasks, after = await self._page(limit, status, _after(query), view)
        else:
            await self.engine.freshen(ids, client_of(scope))
            found = [event.shown for id in ids if (event := self.engine.find(id)) and event.shown]
            tasks = sorted(found, key=lambda task: (task.updated, task.id), reverse=True)
            tasks = [task for task in tasks if _has(task, status)]
        items = b",".join([ITEM.body(task) for task in tasks])
        stale = b',"stale":%b' % msgspec.json.encode(self.engine.replica.stale) if self.engine.replica else b""
        body = b'{"status":"success","payload":{"tasks":[%b],"next":%b%b}}' % (items, msgspec.json.encode(after), stale)
        state = State(hashlib.blake2b(body, digest_size=12).hexdigest(), body)
        return state.to(tags(query.header(b"if-none-match")))

    async def _page(
        self, limit: int, status: str | None, after: tuple[int, str] | None, view: View | None
    ) -> tuple[list[Task], str | None]:
        """The next `limit` tasks, newest first, and where the page after them starts."""
        most = MOST_READ if status or view else limit
        rows = await self.engine.newest(most + 1, after)
        tasks: list[Task] = []
        for count, (place, id) in enumerate(rows[:most], 1):
            event = self.engine.look(id) if view is None or view.sees(id) else None
            if event and event.shown and _has(event.shown, status):
                tasks.append(event.shown)
            if len(tasks) == limit or count == most:
                shown = id if view is None or view.sees(id) else ""  # tells no name that may not be seen
                return tasks, f"{place}-{shown}" if count < len(rows) else None
            if count % SLICE == 0:
                await asyncio.sleep(0)
        return tasks, None

    async def long_poll(self, query: Query, scope: Scope, wait: float) -> Reply:
        """Answers once the page is another than the client's, or than the first where it names none."""
        known = tags(query.header(b"if-none-match")) - {"*"}
        async with self.engine.listening(self._ids(query, scope), wait, grant_of(scope), client_of(scope)) as bell:
            reply = await self.poll(query, scope)
            known = known or {reply.tag}
            while reply.tag in known and await bell.heard():
                reply = await self.poll(query, scope)
        return reply

    async def stream(
        self, query: Query, scope: Scope, receive: Receive, send: Send, encoding: Encoding
    ) -> Reply | None:
        subscribe = await self._subscriber(query, scope)
        if encoding is self.ndjson and query.param("files") is not None:
            encoding = self._copies
        await stream(self.engine.hub, subscribe, encoding=encoding, scope=scope, receive=receive, send=send)
        return None

    async def converse(self, query: Query, scope: Scope, receive: Receive, send: Send) -> Reply | None:
        subscribe = await self._subscriber(query, scope)
        await converse(
            self.engine.hub,
            subscribe,
            partial(self._throttled, Throttle()),
            encoding=self.messages,
            scope=scope,
            receive=receive,
            send=send,
        )
        return None

    async def _subscriber(self, query: Query, scope: Scope) -> Subscribe:
        ids, cursor, recent = self._ids(query, scope), last_event(query), query.param("recent")
        peer, client, grant = peer_of(scope), client_of(scope), grant_of(scope)
        oldest = int((time.time() - period(recent)) * 1000) if recent is not None else 0
        await self.engine.started(cursor)

        def subscribe(outlet: Outlet, encoding: Encoding) -> Subscription:
            names, first = (None, []) if ids is None else self._named(ids, cursor)
            subscription = Subscription(
                encoding, outlet, ids=names, oldest=oldest, peer=peer, client=client, grant=grant
            )
            self.engine.hub.subscribe(subscription, cursor, first)
            self.engine.follow(ids or ())
            return subscription

        return subscribe

    def _named(self, ids: list[str], cursor: str | None) -> tuple[list[str], list[Event]]:
        """The tasks to follow, and the states of those that the store does not hold, unless the client has them."""
        names: list[str] = []
        outside: list[Event] = []
        for id in ids:
            event = self.engine.find(id)
            names += [event.id] if event else spellings(id)
            if event and event.task and not event.offset:
                outside.append(event)
        resumes = cursor is not None and self.engine.store.place(cursor)  # at place 0 none of these was seen for sure
        return names, [] if resumes else outside

    def _ids(self, query: Query, scope: Scope) -> list[str] | None:
        """The tasks that are asked for; None for all. `?id=` names none, for a WebSocket that subscribes by message."""
        given, most = query.params("id"), self.engine.settings.max_ids
        if given is None:
            return None
        if len(given) > most:
            raise BadRequestError(f"Invalid parameter: at most {most} of id")
        grant = grant_of(scope)
        return [id for id in dict.fromkeys(given) if is_name(id) and grant.sees(id)]

    def _throttled(self, throttle: Throttle, subscription: Subscription, message: str | bytes) -> bytes:
        most = self.engine.settings.max_messages
        if not (excess := throttle.exceeds(most)):
            return self._incoming(subscription, message)
        return error("too_many_messages", f"at most {most} messages a second") if excess == 1 else b""

    def _incoming(self, subscription: Subscription, message: str | bytes) -> bytes:
        """Does what a client's message asks for; what is wrong with it is the answer."""
        try:
            ask = msgspec.json.decode(message, type=Ask)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            return error("bad_message", f"not a message: {wrong}")
        if ask.type == "ping":  # a script cannot see the heartbeats of WebSocket
            return b'{"type":"pong"}\n'
        if ask.type not in ("subscribe", "unsubscribe"):
            return error("unknown_type", "type must be subscribe, unsubscribe or ping")
        if ask.ids is None or not all(map(is_name, ask.ids)):
            return error("bad_ids", "ids must be a list of task ids")
        most = self.engine.settings.max_ids
        if len(ask.ids) + len(subscription.places or ()) > most and ask.type == "subscribe":
            return error("too_many_ids", f"a connection can follow {most} named tasks")
        if ask.type == "subscribe":
            ids = list(filter(subscription.grant.sees, ask.ids))
            names, first = self._named(ids, ask.cursor)
            self.engine.hub.want(subscription, names, ask.cursor, first)
            self.engine.follow(ids)
        else:
            if subscription.places is None:
                return error("not_subscribed", "this connection follows every task: subscribe to some first")
            names = [name for id in ask.ids for name in spellings(id)]
            self.engine.hub.unwant(subscription, names)
        return b""


def _after(query: Query) -> tuple[int, str] | None:
    text = query.param("after")
    if text is None:
        return None
    place, dash, id = text.partition("-")
    if not (dash and place.isascii() and place.isdecimal() and len(place) <= 20):
        raise BadRequestError("Invalid parameter: after must be the next of an earlier answer")
    return int(place), id


def _has(task: Task, status: str | None) -> bool:
    """Whether a task is in a status, said in the words of v1 or in the file's own."""
    return status is None or status.lower() in (v1_status(task), task.status.lower())
