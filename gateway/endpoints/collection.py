"""All tasks, or some of them, at one URL: polled in pages, or pushed as one stream."""

import time
from collections.abc import Iterable, Iterator

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.access.grants import Grant, grant_of
from gateway.dialects import ITEM
from gateway.endpoints.base import Endpoint, RefusedError, last_event, while_connected
from gateway.endpoints.listing import Lister, Listing, Page, body_of
from gateway.engine import Engine
from gateway.limits import Seat, client_of
from gateway.slices import Slice
from gateway.store import Event
from gateway.subscription import Outlet, Subscription
from gateway.tasks import is_name, spellings
from gateway.transports.reply import LongReply, Reply, State
from gateway.transports.request import BadRequestError, Query, number, period, tags
from gateway.transports.streaming import Subscribe, stream
from gateway.transports.websocket import converse, error, with_handshake
from gateway.wire import Copies, Encoding, Messages, Ndjson, Sse

PAGE, LONGEST_PAGE = 100, 1_000


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
        self._lister = Lister(engine)

    async def poll(self, query: Query, scope: Scope) -> Reply | LongReply:
        listing = self._listing(query, scope)
        await self.engine.started()
        if listing.ids is not None:
            await self.engine.freshen(listing.ids, client_of(scope))
        return self._show(await self._lister.page(listing), query, scope)

    async def long_poll(self, query: Query, scope: Scope, wait: float) -> Reply | LongReply:
        """Answers once the page is another than the client's, or than the first where it names none."""
        known, listing = tags(query.header(b"if-none-match")) - {"*"}, self._listing(query, scope)
        page: Page | None = None

        def concerns(event: Event) -> bool:
            return page is None or page.concerns(event)

        async with self.engine.listening(listing.ids, wait, grant_of(scope), client_of(scope), concerns) as bell:
            await self.engine.started()
            if listing.ids is not None:
                await self.engine.freshen(listing.ids, client_of(scope))
            page = await self._lister.page(listing)
            known = known or {page.tag}
            while page.tag in known and await bell.heard():
                page = await self._lister.after_event(listing)
        return self._show(page, query, scope)

    def _listing(self, query: Query, scope: Scope) -> Listing:
        ids = self._ids(query, scope)
        return Listing(
            None if ids is None else tuple(ids),
            query.param("status"),
            number(query, "limit", PAGE, LONGEST_PAGE),
            _after(query),
            grant_of(scope).view,
        )

    def _show(self, page: Page, query: Query, scope: Scope) -> Reply | LongReply:
        state = State(page.tag, body_of(page))
        reply = state.to(tags(query.header(b"if-none-match")))
        if page.tasks is not None or reply is state.not_modified:
            return reply
        if refusal := self.engine.limits.refuse_answer(scope, large=True):
            raise RefusedError(refusal)
        return LongReply(lambda: self._lister.pieces(page), tag=page.tag)

    async def stream(
        self, query: Query, scope: Scope, receive: Receive, send: Send, *, encoding: Encoding, seat: Seat
    ) -> Reply | None:
        subscribe = await self._while_connected(receive, query, scope)
        if not subscribe:
            return None
        if encoding is self.ndjson and query.param("files") is not None:
            encoding = self._copies
        await stream(self.engine.hub, subscribe, seat=seat, encoding=encoding, scope=scope, receive=receive, send=send)
        return None

    async def converse(self, query: Query, scope: Scope, receive: Receive, send: Send, *, seat: Seat) -> Reply | None:
        subscribe = await self._while_connected(receive, query, scope)
        if not subscribe:
            return None
        await converse(
            self.engine.hub,
            subscribe,
            self.throttled(self._incoming),
            seat=seat,
            encoding=self.messages,
            scope=scope,
            receive=with_handshake(receive),
            send=send,
        )
        return None

    async def _while_connected(self, receive: Receive, query: Query, scope: Scope) -> Subscribe | None:
        """None where the client leaves before there is anything to subscribe to, such as at an edge that starts."""
        subscriber = self._subscriber(query, scope)
        return await (while_connected(receive, subscriber) if self.engine.waits(last_event(query)) else subscriber)

    async def _subscriber(self, query: Query, scope: Scope) -> Subscribe:
        ids, cursor, recent = self._ids(query, scope), last_event(query), query.param("recent")
        client, grant = client_of(scope), grant_of(scope)
        oldest = int((time.time() - period(recent)) * 1000) if recent is not None else 0
        await self.engine.started(cursor)
        if ids is None and (refusal := self.engine.limits.refuse_view(grant.view)):
            raise RefusedError(refusal)

        def subscribe(outlet: Outlet, encoding: Encoding) -> Subscription:
            names, first = (None, ()) if ids is None else (_names(ids), self._outside(ids, cursor, grant))
            subscription = Subscription(encoding, outlet, ids=names, oldest=oldest, client=client, grant=grant)
            self.engine.hub.subscribe(subscription, cursor, first)
            return subscription

        return subscribe

    def _outside(self, ids: Iterable[str], cursor: str | None, grant: Grant) -> Iterator[Event | None]:
        """The states of those tasks that the store does not hold, unless the client has them; None after each slice.

        What has no file is polled from then on, where there is a backend: by then they are subscribed to.
        """
        resumes = cursor is not None and self.engine.store.place(cursor)  # at place 0 none of these was seen for sure
        current = Slice()
        for id in ids:
            event = self.engine.find(id)
            self.engine.follow((id,))
            if event and event.task and not event.offset and not resumes and grant.sees(event.id):
                yield event
            if current.over:
                yield None
                current = Slice()

    def _ids(self, query: Query, scope: Scope) -> list[str] | None:
        """The tasks that are asked for; None for all. `?id=` names none, for a WebSocket that subscribes by message."""
        given, most = query.params("id"), self.engine.settings.max_ids
        if given is None:
            return None
        if len(given) > most:
            raise BadRequestError(f"Invalid parameter: at most {most} of id")
        grant, spelled = grant_of(scope), map(self.engine.spelled, given)
        return [id for id in dict.fromkeys(spelled) if is_name(id) and grant.sees(id)]

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
        ids, places = list(dict.fromkeys(map(self.engine.spelled, ask.ids))), subscription.places
        if ask.type == "subscribe":
            most = self.engine.settings.max_ids
            if sum([id not in places for id in ids] if places else [len(ids)]) + len(places or ()) > most:
                return error("too_many_ids", f"a connection can follow {most} named tasks")
            seen = list(filter(subscription.grant.sees, ids))
            self.engine.hub.want(
                subscription, _names(seen), ask.cursor, self._outside(seen, ask.cursor, subscription.grant)
            )
        elif places is None:
            return error("not_subscribed", "this connection follows every task: subscribe to some first")
        else:
            self.engine.hub.unwant(subscription, _names((*ids, *ask.ids)))  # as they were when they had no file, too
        return b""


def _names(ids: Iterable[str]) -> list[str]:
    """What the files of these tasks may be called: they are not looked for yet."""
    return list(dict.fromkeys([name for id in ids for name in spellings(id)]))


def _after(query: Query) -> tuple[int, str] | None:
    text = query.param("after")
    if text is None:
        return None
    place, dash, id = text.partition("-")
    if not (dash and place.isascii() and place.isdecimal() and len(place) <= 20):
        raise BadRequestError("Invalid parameter: after must be the next of an earlier answer")
    return int(place), id
