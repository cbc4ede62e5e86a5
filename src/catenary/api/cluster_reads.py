"""The operations of the REST API about the clients of the whole cluster: each asks the nodes and puts their answers together.

A node that does not answer is named in ``errors``; the others are shown. Pages are asked for node by node, in the order of
their ids, so that a cursor is the id of a node and a place in it.
Knows: questions, cursors, JSON. Does not know: sessions, HTTP.
"""

import base64
import binascii
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from catenary.api.access import ApiResponse
from catenary.api.cluster_answers import (
    ACT,
    CHANNELS,
    COUNT,
    SESSION,
    SESSIONS,
    STATS,
    STREAMS,
    ActQuestion,
    CountQuestion,
    Nothing,
    SessionQuestion,
    SessionsQuestion,
    Stats,
    StreamsAnswer,
    StreamsQuestion,
    pack,
    summed,
)
from catenary.api.rest import QueryError, RestRequest
from catenary.node.administration import DECISION_S, Outcome
from catenary.node.cluster import ANSWER_S, Answer, Cluster
from catenary.node.listing import (
    PAGE_BYTES,
    SessionPage,
    SessionQuery,
    SessionRecord,
    StreamRecord,
)

SEARCH_S: Final = 10.0
"""How long the answer of a node may take that has to visit all of its sessions."""

MAX_PAGE: Final = 1_000
MAX_NODES_OF_PAGE: Final = 20
"""Nodes that are asked for one page; a page that has not reached its limit then is shorter."""

_NOT_HERE: Final = (b"", pack(b""), pack(None))
"""The answers of nodes that do not have a session: an error, no record, no outcome."""

_write: Final = msgspec.json.encode

Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE, description="the most entries of a page")]
Cursor = Annotated[str, Meta(description="`next` of the page before; empty: the first page")]


class CountQuery(SessionQuery, frozen=True, forbid_unknown_fields=True):
    """The conditions of a search in the cluster."""

    node: Annotated[str, Meta(description="id or name of a node")] = ""


class SessionsQuery(CountQuery, frozen=True, forbid_unknown_fields=True):
    """A page of a search."""

    after: Cursor = ""
    limit: Limit = 100


class StreamsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page of the streams."""

    prefix: Annotated[str, Meta(description="the beginning of their names")] = ""
    after: Annotated[str, Meta(description="`next` of the page before; empty: the first page")] = ""
    limit: Limit = 100


class ChannelsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The channels with the most subscriptions."""

    limit: Limit = 100


class DisconnectQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a client is disconnected."""

    reconnect: Annotated[bool, Meta(description="may the client connect again by itself?")] = True


class Subscribing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A subscription of a client."""

    identifier: Annotated[str, Meta(min_length=1, description="as the client would send it")]


class NodeError(msgspec.Struct, frozen=True):
    """A node that did not answer, and why."""

    node: str
    error: str


class Sessions(msgspec.Struct, frozen=True):
    """A page of connections; ``next`` is null at the end."""

    connections: list[SessionRecord]
    next: str | None
    errors: list[NodeError]


class Count(msgspec.Struct, frozen=True):
    """The number of connections of all nodes and of each."""

    count: int
    nodes: dict[str, int]
    errors: list[NodeError]


class Disconnected(msgspec.Struct, frozen=True):
    """How many clients were disconnected; null if each node disconnects its own."""

    disconnected: int | None


class Subscribed(msgspec.Struct, frozen=True):
    """``changed`` is false if it was so before."""

    identifier: str
    subscribed: bool
    changed: bool


class Streams(msgspec.Struct, frozen=True):
    """A page of streams; ``next`` is null at the end."""

    streams: list[StreamRecord]
    next: str | None
    errors: list[NodeError]


class ChannelRecord(msgspec.Struct, frozen=True):
    """A channel and its subscriptions."""

    channel: str
    subscriptions: int


class Channels(msgspec.Struct, frozen=True):
    """The channels with the most subscriptions first; ``total`` is the number of all channels."""

    channels: list[ChannelRecord]
    total: int
    errors: list[NodeError]


class NodeRecord(msgspec.Struct, frozen=True, rename={"is_self": "self"}):
    """A node of the cluster. ``worker`` is 0 without workers, ``started_at`` in seconds since 1970; ``self`` marks the node that
    answers. ``connections`` and ``streams`` are null for a node that does not answer."""

    node: str
    name: str
    host: str
    pid: int
    worker: int
    version: str
    started_at: int
    connections: int | None
    streams: int | None
    is_self: bool


class Nodes(msgspec.Struct, frozen=True):
    """The nodes of the cluster."""

    nodes: list[NodeRecord]
    errors: list[NodeError]


class NodeStats(msgspec.Struct, frozen=True):
    """The figures of a node by name."""

    node: str
    figures: dict[str, int | float]


class AllStats(msgspec.Struct, frozen=True):
    """The figures of each node and of all together: the sum of most, the largest of the others."""

    nodes: list[NodeStats]
    sum: dict[str, int | float]
    errors: list[NodeError]


class ClusterReads:
    """Answers requests about the cluster."""

    __slots__ = ("_cluster",)

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    # Connections

    async def sessions(self, request: RestRequest) -> ApiResponse:
        """A page of connections."""
        query: SessionsQuery = request.query
        node, after = _cursor(query.after)
        conditions = _conditions(query)
        waiting = [each for each in sorted(self._ids(query.node)) if each >= node]
        records: list[bytes] = []
        errors: list[NodeError] = []
        size = asked = 0
        for each in waiting:
            last: str | None = after if each == node else ""
            while last is not None:
                if len(records) >= query.limit or size >= PAGE_BYTES or asked >= MAX_NODES_OF_PAGE:
                    return _page(records, _cursor_text(each, last), errors)
                question = SessionsQuestion(conditions, last, query.limit - len(records))
                [answer] = await self._cluster.ask(SESSIONS, pack(question), [each], SEARCH_S)
                asked += 1
                page: SessionPage | None = _read(answer, SessionPage, errors)
                if page is None:
                    break
                records += page.records
                size += sum(map(len, page.records))
                last = page.next
                if last is not None and not page.records:
                    # This node has visited as many sessions as it does for one page.
                    return _page(records, _cursor_text(each, last), errors)
        return _page(records, None, errors)

    async def count(self, request: RestRequest) -> ApiResponse:
        """The number of connections."""
        query: CountQuery = request.query
        question = pack(CountQuestion(_conditions(query)))
        answers = await self._cluster.ask(COUNT, question, self._ids(query.node), SEARCH_S)
        errors: list[NodeError] = []
        numbers: dict[str, int] = _read_all(answers, int, errors)
        return _ok(Count(sum(numbers.values()), numbers, errors))

    async def session(self, request: RestRequest) -> ApiResponse:
        """One connection."""
        question = pack(SessionQuestion(request.path["sid"]))
        answers = await self._cluster.ask(
            SESSION, question, is_enough=lambda each: each.body not in _NOT_HERE
        )
        errors: list[NodeError] = []
        records: dict[str, bytes] = _read_all(answers, bytes, errors)
        for record in records.values():
            if record:
                return ApiResponse(200, content=record)
        return _not_found(errors)

    async def disconnect(self, request: RestRequest) -> ApiResponse:
        """Closes one connection."""
        return await self.disconnect_sid(request.path["sid"], reconnect=request.query.reconnect)

    async def disconnect_sid(self, sid: str, *, reconnect: bool) -> ApiResponse:
        """Closes the connection with a sid, whichever node has it."""
        answer = await self._act(ActQuestion("disconnect", sid, reconnect=reconnect))
        return answer if isinstance(answer, ApiResponse) else _ok(Disconnected(1))

    async def subscribe(self, request: RestRequest) -> ApiResponse:
        """Subscribes a client."""
        return await self._change(request, is_subscribing=True)

    async def unsubscribe(self, request: RestRequest) -> ApiResponse:
        """Unsubscribes a client."""
        return await self._change(request, is_subscribing=False)

    async def _change(self, request: RestRequest, *, is_subscribing: bool) -> ApiResponse:
        identifier: str = request.body.identifier
        action: Any = "subscribe" if is_subscribing else "unsubscribe"
        outcome = await self._act(ActQuestion(action, request.path["sid"], identifier))
        match outcome:
            case "done" | "unchanged":
                return _ok(Subscribed(identifier, is_subscribing, outcome == "done"))
            case "rejected":
                return ApiResponse(409, "the subscription was rejected")
            case "busy":
                return ApiResponse(503, "too many commands of this client wait")
            case "late":
                return ApiResponse(
                    504, f"the application has not decided within {DECISION_S:g} s, and still may"
                )
        return outcome

    async def _act(self, question: ActQuestion) -> Outcome | ApiResponse:
        """The outcome at the node that has the session, or the answer that there is none."""
        answers = await self._cluster.ask(
            ACT,
            pack(question),
            timeout_s=ANSWER_S if question.action == "disconnect" else DECISION_S + ANSWER_S,
            is_enough=lambda each: each.body not in _NOT_HERE,
        )
        errors: list[NodeError] = []
        outcomes: dict[str, Outcome | None] = _read_all(answers, Outcome | None, errors)
        return next((each for each in outcomes.values() if each is not None), _not_found(errors))

    # Streams, channels

    async def streams(self, request: RestRequest) -> ApiResponse:
        """A page of the streams with listeners, in the order of their names."""
        query: StreamsQuery = request.query
        question = StreamsQuestion(query.prefix, query.after, query.limit)
        answers = await self._cluster.ask(STREAMS, pack(question), timeout_s=SEARCH_S)
        errors: list[NodeError] = []
        found: dict[str, int] = {}
        # Beyond the last name of a node that has more, the others do not know what it has.
        end: str | None = None
        pages: dict[str, StreamsAnswer] = _read_all(answers, StreamsAnswer, errors)
        for each in pages.values():
            for record in each.streams:
                found[record.stream] = found.get(record.stream, 0) + record.listeners
            if each.more:
                last = each.streams[-1].stream
                end = last if end is None else min(end, last)
        names = sorted(name for name in found if end is None or name <= end)
        following = None
        if len(names) > query.limit or end is not None:
            names = names[: query.limit]
            following = names[-1]
        records = [StreamRecord(name, found[name]) for name in names]
        return _ok(Streams(records, following, errors))

    async def channels(self, request: RestRequest) -> ApiResponse:
        """The channels and their subscriptions."""
        answers = await self._cluster.ask(CHANNELS, pack(Nothing()), timeout_s=SEARCH_S)
        errors: list[NodeError] = []
        found: dict[str, int] = {}
        counted: dict[str, dict[str, int]] = _read_all(answers, dict[str, int], errors)
        for each in counted.values():
            for name, number in each.items():
                found[name] = found.get(name, 0) + number
        ordered = sorted(found.items(), key=lambda each: (-each[1], each[0]))
        records = [ChannelRecord(*each) for each in ordered[: request.query.limit]]
        return _ok(Channels(records, len(found), errors))

    # Nodes

    async def nodes(self, request: RestRequest) -> ApiResponse:
        """The nodes, and how many clients and streams each has."""
        stats, errors = await self._stats()
        own = self._cluster.own.id
        records = []
        for each in self._cluster.nodes():
            found = stats.get(each.id)
            figures = {} if found is None else found.figures
            records.append(
                NodeRecord(
                    each.id,
                    each.name,
                    each.host,
                    each.pid,
                    each.worker,
                    each.version,
                    each.started_at,
                    None if found is None else int(figures.get("clients_num", 0)),
                    None if found is None else int(figures.get("broadcast_streams_num", 0)),
                    each.id == own,
                )
            )
        return _ok(Nodes(records, errors))

    async def stats(self, request: RestRequest) -> ApiResponse:
        """All figures of all nodes."""
        stats, errors = await self._stats()
        nodes = [NodeStats(node, each.figures) for node, each in stats.items()]
        return _ok(AllStats(nodes, summed(stats), errors))

    async def _stats(self) -> tuple[dict[str, Stats], list[NodeError]]:
        errors: list[NodeError] = []
        answers = await self._cluster.ask(STATS, pack(Nothing()))
        return _read_all(answers, Stats, errors), errors

    def _ids(self, node: str) -> Collection[str]:
        """The ids of the nodes with an id or a name; of all if it is empty."""
        return [each.id for each in self._cluster.nodes() if node in ("", each.id, each.name)]


def _ok(answer: msgspec.Struct) -> ApiResponse:
    return ApiResponse(200, content=_write(answer))


def _page(
    records: Sequence[bytes], following: str | None, errors: Sequence[NodeError]
) -> ApiResponse:
    content = b'{"connections":[%b],"next":%b,"errors":%b}'
    return ApiResponse(
        200, content=content % (b",".join(records), _write(following), _write(errors))
    )


def _not_found(errors: Sequence[NodeError]) -> ApiResponse:
    if errors:
        nodes = ", ".join(each.node for each in errors)
        return ApiResponse(503, f"not found, but these nodes did not answer: {nodes}")
    return ApiResponse(404, "no such connection")


def _conditions(query: SessionQuery) -> SessionQuery:
    """The part of a query that each node needs."""
    return SessionQuery(**{name: getattr(query, name) for name in SessionQuery.__struct_fields__})


def _cursor_text(node: str, after: str) -> str:
    return base64.urlsafe_b64encode(pack([node, after])).decode().rstrip("=")


def _cursor(text: str) -> tuple[str, str]:
    """The node and the sid of a cursor."""
    if not text:
        return "", ""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(packed, type=tuple[str, str])
    except (ValueError, binascii.Error, msgspec.DecodeError) as error:
        raise QueryError(f"after: expected next of another page, got {text[:40]!r}") from error


def _read(answer: Answer, kind: Any, errors: list[NodeError]) -> Any:
    """The answer of one node; None if there is none, which ``errors`` says then."""
    if answer.error:
        errors.append(NodeError(answer.node, answer.error))
        return None
    try:
        return msgspec.msgpack.decode(answer.body, type=kind)
    except msgspec.DecodeError as error:
        errors.append(NodeError(answer.node, f"not understood: {error}"))
        return None


def _read_all(answers: Sequence[Answer], kind: Any, errors: list[NodeError]) -> dict[str, Any]:
    """The answers by node, in the order of the nodes."""
    found = {}
    for answer in answers:
        before = len(errors)
        body = _read(answer, kind, errors)
        if len(errors) == before:
            found[answer.node] = body
    return found
