"""Each node's answers to the questions of the REST API, and the questions as messages between nodes.

Knows: the clients and figures of this node. Does not know: HTTP, other nodes.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, TypeVar

import msgspec

from catenary.errors import CatenaryError
from catenary.messages.names import Identifier, Sid
from catenary.metrics.figures import Distribution, Figure, Labels
from catenary.metrics.flat_histograms import flattened
from catenary.metrics.registry import Registry
from catenary.node.administration import Administration, Outcome
from catenary.node.cluster import Cluster
from catenary.node.listing import Listing, SessionPage, SessionQuery, StreamRecord

SESSIONS: Final = "api.sessions"
COUNT: Final = "api.count"
SESSION: Final = "api.session"
ACT: Final = "api.act"
STREAMS: Final = "api.streams"
CHANNELS: Final = "api.channels"
STATS: Final = "api.stats"

_Q = TypeVar("_Q", bound=msgspec.Struct)
_A = TypeVar("_A")

pack: Final = msgspec.msgpack.Encoder().encode


class SessionsQuestion(msgspec.Struct, frozen=True):
    """Asks for a page of sessions."""

    query: SessionQuery
    after: str
    limit: int


class CountQuestion(msgspec.Struct, frozen=True):
    """Asks for the number of sessions."""

    query: SessionQuery


class SessionQuestion(msgspec.Struct, frozen=True):
    """Asks for one session; the answer is its record (JSON), or empty."""

    sid: str


class ActQuestion(msgspec.Struct, frozen=True):
    """Asks to act on one client, as :class:`catenary.node.administration.Administration` does."""

    action: Literal["disconnect", "subscribe", "unsubscribe"]
    sid: str
    identifier: str = ""
    reconnect: bool = True


class StreamsQuestion(msgspec.Struct, frozen=True):
    """Asks for a page of streams."""

    prefix: str
    after: str
    limit: int


class StreamsAnswer(msgspec.Struct, frozen=True):
    """Streams in the order of their names; ``more`` says whether there are others after them."""

    streams: list[StreamRecord]
    more: bool


class Nothing(msgspec.Struct, frozen=True):
    """A question without details."""


class Stats(msgspec.Struct, frozen=True):
    """The figures of a node by name, and the names of those that are not added up, but the largest of which counts."""

    figures: dict[str, int | float]
    largest: set[str]


def answer_questions(
    cluster: Cluster, listing: Listing, administration: Administration, registry: Registry
) -> None:
    """Registers what this node answers."""

    async def sessions(question: SessionsQuestion) -> SessionPage:
        return await listing.page(question.query, question.after, question.limit)

    async def count(question: CountQuestion) -> int:
        return await listing.count(question.query)

    async def session(question: SessionQuestion) -> bytes:
        found = await listing.details(Sid(question.sid))
        return b"" if found is None else msgspec.json.encode(found)

    async def act(question: ActQuestion) -> Outcome | None:
        sid, identifier = Sid(question.sid), Identifier(question.identifier)
        match question.action:
            case "disconnect":
                return administration.disconnect(sid, reconnect=question.reconnect)
            case "subscribe":
                return await administration.subscribe(sid, identifier)
            case "unsubscribe":
                return await administration.unsubscribe(sid, identifier)

    async def streams(question: StreamsQuestion) -> StreamsAnswer:
        found, more = await listing.streams(question.prefix, question.after, question.limit)
        return StreamsAnswer(found, more)

    async def channels(question: Nothing) -> dict[str, int]:
        return await listing.channels()

    async def stats(question: Nothing) -> Stats:
        return figures_of(registry.figures())

    _register(cluster, SESSIONS, SessionsQuestion, sessions)
    _register(cluster, COUNT, CountQuestion, count)
    _register(cluster, SESSION, SessionQuestion, session)
    _register(cluster, ACT, ActQuestion, act)
    _register(cluster, STREAMS, StreamsQuestion, streams)
    _register(cluster, CHANNELS, Nothing, channels)
    _register(cluster, STATS, Nothing, stats)


def _register(
    cluster: Cluster, kind: str, question_type: type[_Q], handle: Callable[[_Q], Awaitable[_A]]
) -> None:
    decode = msgspec.msgpack.Decoder(question_type).decode

    async def answer(question: bytes) -> bytes:
        try:
            asked = decode(question)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise CatenaryError(f"the node does not understand the question: {error}") from error
        return pack(await handle(asked))

    cluster.answer(kind, answer)


def figures_of(figures: tuple[Figure, ...]) -> Stats:
    """Figures as plain numbers, with names as in Prometheus' text format: labels follow the name, and a histogram is
    ``<name>_count``, ``<name>_sum`` and, unless it has labels, ``<name>_bucket{le="…"}``."""
    found: dict[str, int | float] = {}
    largest: set[str] = set()
    for figure in figures:
        for sample in figure.samples:
            labels = _labels(sample.labels)
            if isinstance(sample.value, Distribution):
                found[f"{figure.name}_count{labels}"] = sample.value.count
                found[f"{figure.name}_sum{labels}"] = sample.value.sum
                if not labels:
                    found.update(flattened(figure.name, sample.value))
            else:
                found[figure.name + labels] = sample.value
                if not figure.is_summed:
                    largest.add(figure.name + labels)
    return Stats(found, largest)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f"{name}={_quoted(value)}" for name, value in labels) + "}"


def _quoted(value: str) -> str:
    return msgspec.json.encode(value).decode()


def summed(stats: Mapping[str, Stats]) -> dict[str, int | float]:
    """The figures of all nodes together."""
    total: dict[str, int | float] = {}
    for each in stats.values():
        for name, value in each.figures.items():
            if name not in total:
                total[name] = value
            elif name in each.largest:
                total[name] = max(total[name], value)
            else:
                total[name] += value
    return total
