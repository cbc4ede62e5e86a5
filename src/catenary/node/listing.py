"""Lists connected sessions, streams and channels of this node, page by page, for operators.

The hub may have 100,000 sessions: a search visits some in each turn of the event loop, beside the requests of clients. A page
continues after the sid of the last session of the page before, in an order that does not change while sessions come and go:
a session that is connected throughout is listed once.
Knows: the hub, turns. Does not know: other nodes, HTTP.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from catenary.messages.lenient_json import JSON_ERRORS
from catenary.messages.names import Identifier, Sid, Stream
from catenary.node.hub import Hub
from catenary.node.session import Session
from catenary.node.session_table import SHARDS, shard_of
from catenary.node.turns import Turns

VISITED: Final = 50_000
"""Sessions that are visited for one page; with fewer matches among them, the page is shorter."""

PAGE_BYTES: Final = 1_048_576
"""A page ends when its records have this size, in bytes."""

FEW: Final = 1_000
"""Up to this number, sessions with given identifiers are looked up by them; beyond, all sessions are visited."""

LARGEST: Final = 2**53
"""The largest number in a search: JavaScript's largest exact integer."""

CHANNELS: Final = 10_000
"""Different channels that are counted; subscriptions to others are counted together."""

OTHER_CHANNELS: Final = "(others)"

# Costs in microseconds
_VISIT_US: Final = 1
_MATCH_US: Final = 5
_RECORD_US: Final = 10
_STREAMS_AT_ONCE: Final = 500
_STREAMS_US: Final = 200


class SessionQuery(msgspec.Struct, frozen=True, omit_defaults=True):
    """The conditions of a search, all of which a session must meet; an empty one is met by every session.

    ``q`` is a part of its sid, identifiers, address or path, in any case. ``identifier`` is that of a subscription, ``stream``
    one of a subscription. ``since`` is when it connected at the earliest, in seconds since 1970.
    """

    q: Annotated[
        str,
        Meta(
            description="a part of the sid, the identifiers, the address or the path, in any case"
        ),
    ] = ""
    sid: Annotated[str, Meta(description="the id of the session")] = ""
    identifiers: Annotated[
        str, Meta(description="the connection identifiers, as they are shown")
    ] = ""
    address: Annotated[str, Meta(description="the IP address of the client")] = ""
    path: Annotated[
        str, Meta(description="the path that the client has requested, without its query")
    ] = ""
    transport: Annotated[
        str, Meta(description="websocket, sse, long_polling or durable_streams")
    ] = ""
    protocol: Annotated[str, Meta(description="the name of the protocol")] = ""
    identifier: Annotated[str, Meta(description="the identifier of a subscription")] = ""
    stream: Annotated[str, Meta(description="a stream of a subscription")] = ""
    since: Annotated[
        int,
        Meta(
            ge=0, le=LARGEST, description="connected at this time or later, in seconds since 1970"
        ),
    ] = 0
    min_subscriptions: Annotated[
        int, Meta(ge=0, le=LARGEST, description="the fewest subscriptions")
    ] = 0


class SessionRecord(msgspec.Struct, frozen=True, gc=False):
    """A session as it is shown. ``path`` has no query, which may have a token; ``connected_at`` is in seconds since 1970."""

    sid: str
    identifiers: str
    address: str
    path: str
    transport: str
    protocol: str
    connected_at: int
    subscriptions: int
    node: str


class SubscriptionRecord(msgspec.Struct, frozen=True, gc=False):
    """A subscription and its streams."""

    identifier: str
    streams: list[str]


class SessionDetails(msgspec.Struct, frozen=True, gc=False):
    """A session with its subscriptions."""

    sid: str
    identifiers: str
    address: str
    path: str
    transport: str
    protocol: str
    connected_at: int
    subscriptions: list[SubscriptionRecord]
    node: str


class SessionPage(msgspec.Struct, frozen=True):
    """Encoded records (JSON), and the sid after which the next page begins; None at the end."""

    records: list[bytes]
    next: str | None


class StreamRecord(msgspec.Struct, frozen=True, gc=False):
    """A stream and how many subscriptions it has."""

    stream: str
    listeners: int


class _Named(msgspec.Struct, gc=False):
    channel: str


_channel: Final = msgspec.json.Decoder(_Named).decode
_encode: Final = msgspec.json.Encoder().encode


class Listing:
    """The sessions and streams of one node; ``turns`` are those of its clients, whose unit is a microsecond."""

    __slots__ = ("_hub", "_node", "_turns")

    def __init__(self, node: str, hub: Hub, turns: Turns) -> None:
        """``node`` is the id of this node."""
        self._node = node
        self._hub = hub
        self._turns = turns

    # Sessions

    async def page(self, query: SessionQuery, after: str, limit: int) -> SessionPage:
        """Up to ``limit`` sessions that meet the conditions, after the one with this sid, connected or not; from the
        beginning if it is empty."""
        records: list[bytes] = []
        visited = size = 0
        last: Sid | None = None

        def take() -> Iterator[int]:
            nonlocal visited, size, last
            matches = _matcher(query)
            for session in self._sessions(query, after):
                if last is not None and (
                    visited >= VISITED or len(records) >= limit or size >= PAGE_BYTES
                ):
                    return
                visited += 1
                last = session.sid
                if matches(session):
                    record = _encode(self._record(session))
                    records.append(record)
                    size += len(record)
                    yield _RECORD_US
                else:
                    yield _MATCH_US
            last = None

        await self._in_turns(take())
        return SessionPage(records, last)

    async def count(self, query: SessionQuery) -> int:
        """The number of sessions that meet the conditions."""
        if query == SessionQuery():
            return sum(len(self._hub.sessions.shard(number)) for number in range(SHARDS))
        found = 0

        def visit() -> Iterator[int]:
            nonlocal found
            matches = _matcher(query)
            for session in self._sessions(query, ""):
                found += matches(session)
                yield _MATCH_US

        await self._in_turns(visit())
        return found

    async def details(self, sid: Sid) -> SessionDetails | None:
        """A session with its subscriptions; None if it is not connected here."""
        session = self._hub.sessions.find(sid)
        if session is None or session.closed:
            return None
        subscriptions: list[SubscriptionRecord] = []

        def visit() -> Iterator[int]:
            for each in list(session.subscriptions.values()):
                subscriptions.append(SubscriptionRecord(each.identifier, list(each.streams)))
                yield _VISIT_US + len(each.streams) // 10

        await self._in_turns(visit())
        record = msgspec.structs.asdict(self._record(session))
        return SessionDetails(**{**record, "subscriptions": subscriptions})

    def _sessions(self, query: SessionQuery, after: str) -> Iterator[Session]:
        """The sessions in their order, those that may meet the conditions among them. One that leaves meanwhile is left
        out."""
        table = self._hub.sessions
        for sids in self._sids(query, after):
            for sid in sids:
                session = table.find(sid)
                if session is not None and not session.closed:
                    yield session

    def _sids(self, query: SessionQuery, after: str) -> Iterator[list[Sid]]:
        table, last = self._hub.sessions, Sid(after)
        begin = shard_of(last) if last else 0
        few: Iterable[Sid] | None = None
        if query.sid:
            few = [Sid(query.sid)]
        elif query.identifiers:
            found = table.with_identifiers(query.identifiers)
            few = [each.sid for each in found] if len(found) <= FEW else None
        if few is not None:
            place = (begin, last)
            yield sorted(
                (each for each in few if not last or _sort_key(each) > place),
                key=_sort_key,
            )
            return
        if last:
            yield sorted(each for each in table.shard(begin) if each > last)
            begin += 1
        for number in range(begin, SHARDS):
            yield sorted(table.shard(number))

    def _record(self, session: Session) -> SessionRecord:
        environment = session.environment
        return SessionRecord(
            session.sid,
            environment.identifiers,
            session.environment.address,
            session.environment.path,
            environment.ingress.transport,
            environment.ingress.protocol,
            session.connected_at,
            len(session.subscriptions),
            self._node,
        )

    # Streams and channels

    async def streams(self, prefix: str, after: str, limit: int) -> tuple[list[StreamRecord], bool]:
        """The first ``limit`` streams with listeners, by name, that begin with ``prefix`` and are greater than ``after``;
        and whether there are more."""
        first: list[Stream] = []

        def find() -> Iterator[int]:
            nonlocal first
            names = self._hub.streams()
            yield len(names) // 20
            for start in range(0, len(names), _STREAMS_AT_ONCE):
                some = names[start : start + _STREAMS_AT_ONCE]
                first += [each for each in some if each > after and each.startswith(prefix)]
                first.sort()
                del first[limit + 1 :]
                yield _STREAMS_US

        await self._in_turns(find())
        number_of = self._hub.subscribers_num
        return [StreamRecord(each, number_of(each)) for each in first[:limit]], len(first) > limit

    async def channels(self) -> dict[str, int]:
        """The number of subscriptions of each channel; an identifier that names no channel is counted under itself."""
        found: dict[str, int] = {}

        def visit() -> Iterator[int]:
            for session in self._sessions(SessionQuery(), ""):
                yield _VISIT_US
                for identifier in list(session.subscriptions):
                    name = _channel_of(identifier)
                    if name not in found and len(found) >= CHANNELS:
                        name = OTHER_CHANNELS
                    found[name] = found.get(name, 0) + 1
                    yield _VISIT_US

        await self._in_turns(visit())
        return found

    async def _in_turns(self, work: Iterator[int]) -> None:
        """Returns when the work is done; it is not continued if the caller is cancelled."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def run() -> Iterator[int]:
            try:
                for cost in work:
                    if done.done():
                        return
                    yield cost
            except Exception as error:  # noqa: BLE001  (belongs to the caller; the queue of turns goes on)
                if not done.done():
                    done.set_exception(error)
            if not done.done():
                done.set_result(None)

        self._turns.run(run())
        await done


def _sort_key(sid: Sid) -> tuple[int, Sid]:
    return shard_of(sid), sid


def _channel_of(identifier: Identifier) -> str:
    try:
        return _channel(identifier).channel
    except JSON_ERRORS:
        return identifier


def _matcher(query: SessionQuery) -> Callable[[Session], bool]:
    """A function that says whether a session meets the conditions; those that are not set cost nothing."""
    conditions: list[Callable[[Session], bool]] = []
    add = conditions.append
    if query.since:
        add(lambda session: session.connected_at >= query.since)
    if query.min_subscriptions:
        add(lambda session: len(session.subscriptions) >= query.min_subscriptions)
    if query.transport:
        add(lambda session: session.environment.ingress.transport == query.transport)
    if query.protocol:
        add(lambda session: session.environment.ingress.protocol == query.protocol)
    if query.sid:
        add(lambda session: session.sid == query.sid)
    if query.identifiers:
        add(lambda session: session.environment.identifiers == query.identifiers)
    if query.address:
        add(lambda session: session.environment.address == query.address)
    if query.path:
        add(lambda session: session.environment.path == query.path)
    if query.identifier:
        identifier = Identifier(query.identifier)
        add(lambda session: identifier in session.subscriptions)
    if query.stream:
        stream = Stream(query.stream)
        add(lambda session: any(stream in each.streams for each in session.subscriptions.values()))
    if query.q:
        part = query.q.lower()
        add(lambda session: part in _text(session).lower())
    return lambda session: all(condition(session) for condition in conditions)


def _text(session: Session) -> str:
    """The text that a search for a part looks through; a match cannot span two fields."""
    fields = (
        session.sid,
        session.environment.identifiers,
        session.environment.address,
        session.environment.path,
    )
    return "\n".join(fields)
