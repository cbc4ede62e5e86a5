"""A publisher's connection without sockets: however its bytes are cut, the answers are the same."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from catenary.api.broadcast import BroadcastRules
from catenary.api.intake import IntakeRules, IntakeStage
from catenary.api.refusals import ApiRefusals
from catenary.edge.connection import PortState
from catenary.edge.deadlines import NoDeadlines
from catenary.edge.request import Peer
from catenary.metrics.counters import Counters
from catenary.node.observers import ObserverGroup
from catenary.wire.request_memory import RequestMemory
from tests.parts.heart import in_loop

PEER = Peer("http", "127.0.0.1")

KEPT = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"
CLOSING = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Publisher:
    """A connection and all that came of it. Satisfies as much of asyncio.Transport as is used."""

    def __init__(self, limit: int = 0, *, is_traced: bool = False) -> None:
        self.counters = Counters()
        self.published: list[bytes] = []
        self.traces: list[str] = []
        self._answers: list[bytes] = []
        self.handed_over: bytes | None = None
        self.is_closed = False
        rules = IntakeRules(
            path="/_broadcast",
            broadcasts=BroadcastRules(
                self._publish, self.counters, key="k", pages=None, is_traced=is_traced
            ),
            watch=NoDeadlines(),
            memory=RequestMemory(limit, self.counters),
            refusals=ApiRefusals(self.counters, ObserverGroup()),
        )
        self.port = PortState()
        self.stage = IntakeStage(rules, cast("Any", self), self._hand_over, lambda: PEER, self.port)

    def _publish(
        self, raw: bytes, *, trace: str = "", charge: Callable[[int], None] | None = None
    ) -> None:
        self.traces.append(trace)
        self.published.append(raw)

    def _hand_over(self, data: bytes) -> None:
        self.handed_over = data

    def say(self, pieces: list[bytes]) -> "Publisher":
        first, *rest = pieces or [b""]
        self.stage.begin(first)
        for piece in rest:
            if self.handed_over is not None:
                self.handed_over += piece
            elif not self.is_closed:
                self.stage.receive(piece)
        return self

    @property
    def answered(self) -> bytes:
        """All answers. They are joined when they are read: growth tests measure what a connection costs."""
        return b"".join(self._answers)

    # asyncio.Transport

    def write(self, data: bytes) -> None:
        self._answers.append(data)

    def close(self) -> None:
        self.is_closed = True


def post(body: bytes, key: str = "k", *headers: str) -> bytes:
    lines = ["POST /_broadcast HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


REQUESTS = [
    post(b"1"),
    post(b"22" * 40),
    post(b""),
    post(b"refused" * 10, "wrong"),
    post(b"\r\n\r\nPOST", "wrong"),
    post(b"\r\n\r\n\r\n"),
    post(b"last", "k", "Connection: close"),
    post(b"last and refused", "wrong", "Connection: close"),
    b"GET /_broadcast HTTP/1.1\r\nHost: x\r\n\r\n",
    post(b"unusual", "k", "Expect: 100-continue"),
]


@given(data=st.data(), requests=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=5))
def test_however_they_are_cut_requests_are_answered_alike(
    data: st.DataObject, requests: list[bytes]
) -> None:
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    whole, cut = Publisher().say([stream]), Publisher().say(pieces)

    assert cut.published == whole.published
    assert cut.answered == whole.answered
    assert cut.is_closed == whole.is_closed
    if not whole.is_closed:
        assert cut.handed_over == whole.handed_over
    assert cut.counters.pending_requests_bytes == 0


def test_every_byte_on_its_own() -> None:
    stream = post(b"1") + post(b"wrong" * 20, "wrong") + post(b"2")
    publisher = Publisher().say([stream[at : at + 1] for at in range(len(stream))])
    assert publisher.published == [b"1", b"2"]
    assert publisher.answered.count(b"HTTP/1.1 201 ") == 2
    assert publisher.answered.count(b"HTTP/1.1 401 ") == 1


def test_what_is_refused_is_answered_at_once_and_not_kept() -> None:
    publisher = Publisher().say([post(b"x" * 1_000, "wrong")[:-900]])
    assert publisher.answered.startswith(b"HTTP/1.1 401 ")
    assert publisher.counters.pending_requests_bytes == 0
    assert not publisher.is_closed


def test_one_that_holds_too_much_is_refused() -> None:
    publisher = Publisher(limit=500).say([post(b"x" * 1_000)[:-900], b"x" * 450])
    assert publisher.answered.startswith(b"HTTP/1.1 503 ")
    assert publisher.is_closed
    assert publisher.counters.pending_requests_bytes == 0
    assert publisher.published == []


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_names_its_trace() -> None:
    request = post(b"1", "k", f"Traceparent: {TRACE}", "tracestate: a=1")
    assert Publisher(is_traced=True).say([request, post(b"2")]).traces == [f"{TRACE} a=1", ""]
    assert Publisher().say([request]).traces == [""], "without tracing, nothing is read"


def test_a_trace_that_is_not_valid_refuses_nothing() -> None:
    publisher = Publisher(is_traced=True).say([post(b"1", "k", "traceparent: mine")])
    assert (publisher.published, publisher.traces) == ([b"1"], [""])


def test_the_last_answer_of_a_connection_says_so() -> None:
    asking = Publisher().say([post(b"1") + post(b"2", "k", "Connection: close")])
    stopping = Publisher()
    stopping.port.keeps_connections = False
    stopping.say([post(b"1") + post(b"2")])
    for publisher in (asking, stopping):
        assert publisher.published == [b"1", b"2"]
        assert publisher.answered == KEPT + CLOSING
        assert publisher.is_closed


def test_a_server_that_stops_waits_for_the_rest_of_a_request() -> None:
    publisher = Publisher()
    publisher.port.keeps_connections = False
    request = post(b"22")
    publisher.say([post(b"1") + request[:-1]])
    assert publisher.answered == KEPT
    assert not publisher.is_closed
    publisher.stage.receive(request[-1:])
    assert publisher.answered == KEPT + CLOSING
    assert publisher.is_closed


@in_loop
async def test_a_request_on_its_way_at_the_shutdown_is_answered() -> None:
    publisher, idle, odd = Publisher(), Publisher(), Publisher()
    odd.say([b"GET /_broadcast HTTP/1.1\r\nHost: x\r\n\r\n"])
    for each in (publisher, idle, odd):
        each.port.keeps_connections = False
        each.stage.shutdown()
        assert not each.is_closed
    publisher.stage.receive(post(b"1"))
    assert publisher.published == [b"1"]
    assert publisher.answered == CLOSING
    async with asyncio.timeout(10):
        while not idle.is_closed:  # noqa: ASYNC110  (nothing says so)
            await asyncio.sleep(0.01)
    assert idle.answered == b""
    assert not odd.is_closed, "uvicorn has this connection"
