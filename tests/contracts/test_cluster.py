"""The contract of the cluster: the directory of its nodes, and questions to them, on every engine and without one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from catenary.errors import CatenaryError
from catenary.messages.nodes import NodeEntry
from catenary.metrics.counters import Counters
from catenary.node import cluster as cluster_module
from catenary.node.cluster import (
    PART_BYTES,
    QUESTION_BYTES,
    Answer,
    Cluster,
)
from catenary.node.directory import CUT_OFF_S, SILENT_S
from catenary.node.peer_channels import PeerChannels
from catenary.ports import Peers
from catenary.protocols.cluster_messages import ANNOUNCE_S, Announced, Answered, Part, pack
from tests.contracts.engines import ENGINES, Engine, EngineNode
from tests.parts.heart import in_loop
from tests.parts.nats_node import until


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def cluster_of(
    peers: Peers | None, clock: Callable[[], float] = lambda: 0.0, name: str = "x"
) -> Cluster:
    node = "alone" if peers is None else peers.node
    own = NodeEntry(node, name, "host", 1, 0, "0", 1_700_000_000)
    channel = None if peers is None else PeerChannels(peers).cluster
    return Cluster(own, channel, Counters(), clock)


@asynccontextmanager
async def three_nodes(
    engine: Engine,
) -> AsyncIterator[tuple[EngineNode, EngineNode, EngineNode]]:
    async with (
        engine.server(False) as server,
        engine.node(server, None) as one,
        engine.node(server, None) as other,
        engine.node(server, None) as old,
    ):
        yield one, other, old


@asynccontextmanager
async def two_clusters(engine: Engine) -> AsyncIterator[tuple[Cluster, Cluster]]:
    """Two nodes that know each other, and a third one, whose relayed polls are not disturbed."""
    async with three_nodes(engine) as (one, other, third):
        disturbed: list[bytes] = []
        PeerChannels(third.pubsub).polls.on_message = disturbed.append
        here, there = cluster_of(one.pubsub, name="1"), cluster_of(other.pubsub, name="2")
        await here.start()
        await there.start()
        await until(lambda: here.nodes() == there.nodes() == (here.own, there.own))
        yield here, there
        assert disturbed == []


@in_loop
async def test_nodes_know_each_other_from_the_start_to_the_goodbye(engine: Engine) -> None:
    async with two_clusters(engine) as (here, there):
        assert here.nodes() == (here.own, there.own)
        await there.leave(1)
        await until(lambda: here.nodes() == (here.own,))
        there.directory.announce()
        here.directory.announce_again()
        await until(lambda: here.own in there.nodes())
        assert here.nodes() == (here.own,)


@in_loop
async def test_a_node_that_missed_an_announcement_learns_of_the_other_by_its_own(
    engine: Engine,
) -> None:
    async with three_nodes(engine) as (one, other, _):
        here = cluster_of(one.pubsub)
        here.directory.announce()  # the other one does not listen yet
        await asyncio.sleep(0)
        there = cluster_of(other.pubsub)
        there.directory.announce()
        await until(lambda: len(here.nodes()) == len(there.nodes()) == 2)


@in_loop
async def test_a_silent_node_is_forgotten_and_its_questions_are_answered(engine: Engine) -> None:
    async with three_nodes(engine) as (one, other, _):
        clock = Clock()
        here, there = cluster_of(one.pubsub, clock), cluster_of(other.pubsub)
        asked = asyncio.Event()

        async def hang(question: bytes) -> bytes:
            asked.set()
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        there.answer("hang", hang)
        here.directory.announce()
        there.directory.announce()
        await until(lambda: len(here.nodes()) == 2)
        answer = asyncio.ensure_future(here.ask("hang", nodes=[there.own.id]))
        await asked.wait()
        while len(here.nodes()) == 2:
            clock.now += ANNOUNCE_S
            here.directory.announce()
            await until(lambda: here.directory.received_own_at == clock.now)
        assert here.nodes() == (here.own,)
        # Its answer to the first announcement may have arrived after the second one.
        assert SILENT_S < clock.now <= SILENT_S + 3 * ANNOUNCE_S
        error = f"the node has been silent for {SILENT_S:g} s"
        assert await answer == [Answer(there.own.id, error=error)]


@in_loop
async def test_each_node_answers(engine: Engine) -> None:
    async with two_clusters(engine) as (here, there):

        async def later(question: bytes) -> bytes:
            await asyncio.sleep(0)
            return b"later " + question

        here.answer("echo", lambda question: b"at once " + question)
        there.answer("echo", later)
        expected = [
            Answer(here.own.id, b"at once \xc1\x00"),
            Answer(there.own.id, b"later \xc1\x00"),
        ]
        assert await here.ask("echo", b"\xc1\x00") == expected
        assert await there.ask("echo", b"\xc1\x00") == expected
        assert await here.ask("echo", b"\xc1\x00", [there.own.id]) == expected[1:]
        assert await here.ask("echo", nodes=["gone"]) == [Answer("gone", error="no such node")]
        assert await here.ask("echo", nodes=[]) == []


@in_loop
async def test_an_answer_that_is_enough_is_not_delayed_by_other_nodes(engine: Engine) -> None:
    async with two_clusters(engine) as (here, there):
        here.answer("find", lambda _: asyncio.get_running_loop().create_future())
        there.answer("find", lambda question: question)
        for found in (b"found", b"nothing"):
            answers = await here.ask(
                "find", found, timeout_s=1, is_enough=lambda each: each.body == b"found"
            )
            late = Answer(here.own.id, error="no answer within 1 s")
            theirs = Answer(there.own.id, found)
            assert answers == ([theirs] if found == b"found" else [late, theirs])


@in_loop
async def test_large_answers_arrive_whole_and_the_largest_questions(engine: Engine) -> None:
    async with two_clusters(engine) as (here, there):
        large = bytes(range(256)) * (3 * PART_BYTES // 256) + b"end"
        there.answer("large", lambda question: large + question)
        question = b"x" * QUESTION_BYTES
        [answer] = await here.ask("large", question, [there.own.id], timeout_s=10)
        assert answer.error == ""
        assert answer.body == large + question
        with pytest.raises(ValueError, match="up to"):
            await here.ask("large", question + b"x")


@in_loop
async def test_a_node_that_fails_does_not_know_or_is_late_gives_an_error(engine: Engine) -> None:
    async with two_clusters(engine) as (here, there):

        def refuse(question: bytes) -> bytes:
            raise CatenaryError("not today")

        async def fail(question: bytes) -> bytes:
            raise KeyError(question)

        there.answer("refuse", refuse)
        there.answer("fail", fail)
        there.answer("hang", lambda _: asyncio.get_running_loop().create_future())
        here.answer("hang", lambda _: b"here")
        node = there.own.id
        assert await here.ask("refuse", nodes=[node]) == [Answer(node, error="not today")]
        failed = "the node has failed to answer"
        assert await here.ask("fail", nodes=[node]) == [Answer(node, error=failed)]
        [unknown] = await here.ask("unknown", nodes=[node])
        assert "answers no question of this kind" in unknown.error
        late = Answer(node, error="no answer within 0.05 s")
        assert await here.ask("hang", timeout_s=0.05) == [Answer(here.own.id, b"here"), late]


@in_loop
async def test_nodes_tell_each_other(engine: Engine) -> None:
    async with two_clusters(engine) as (here, there):
        told: list[tuple[str, bytes]] = []
        there.receive("news", lambda node, body: told.append((node, body)))
        for number in range(100):
            here.send(there.own.id, "news", b"%d" % number)
        here.send(there.own.id, "unknown", b"")
        there.send(there.own.id, "news", b"own")
        await until(lambda: len(told) == 101)
        assert [body for node, body in told if node == here.own.id] == [
            b"%d" % number for number in range(100)
        ]


@in_loop
async def test_a_node_without_others_asks_itself() -> None:
    alone = cluster_of(None)
    alone.answer("echo", lambda question: question)
    alone.directory.announce()
    await alone.leave(1)
    assert alone.nodes() == (alone.own,)
    assert await alone.ask("echo", b"1") == [Answer("alone", b"1")]
    with pytest.raises(ValueError, match="already"):
        alone.answer("echo", lambda question: question)


# Limits, with messages between nodes as a test says


class Wire:
    """Satisfies :class:`catenary.ports.Peers`; the messages to others are in ``sent``."""

    node = "one"

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.on_message: Callable[[bytes], None] = lambda _: None

    def send_to(self, node: str, message: bytes) -> None:
        self.sent.append(message)

    def send_to_all(self, message: bytes) -> None:
        self.sent.append(message)


def with_another(wire: Wire, clock: Callable[[], float] = lambda: 0.0) -> tuple[Cluster, Counters]:
    counters = Counters()
    cluster = Cluster(NodeEntry("one", "", "", 1, 0, "", 0), wire, counters, clock)
    announced = ["here", "other", ["other", "", "", 1, 0, "", 0, "a field of a later version"]]
    wire.on_message(msgspec.msgpack.encode(announced))
    assert len(cluster.nodes()) == 2
    return cluster, counters


@pytest.mark.parametrize(
    "node",
    ["", "a b", "a\r\nPUB b 1\r\nx", "a.b", ">", "a\n", "é", "a" * 65, 1, None],
)
def test_a_name_that_would_end_a_subject_is_no_node(node: object) -> None:
    """The answer to it would be sent to that name: NATS ends the connection of a node that sends such a subject."""
    wire = Wire()
    cluster, _ = with_another(wire)
    sent = len(wire.sent)
    wire.on_message(msgspec.msgpack.encode(["here", node, [node, "", "", 1, 0, "", 0]]))
    wire.on_message(msgspec.msgpack.encode(["here", "x", [node, "", "", 1, 0, "", 0]]))
    wire.on_message(msgspec.msgpack.encode(["ask", node, 1, "?", b""]))
    assert len(wire.sent) == sent
    assert len(cluster.nodes()) == 2


def test_a_node_announces_itself_only() -> None:
    wire = Wire()
    cluster, _ = with_another(wire)
    known = cluster.nodes()
    for usurped in ("one", "other"):
        usurper = ["here", "usurper", [usurped, "usurper", "", 1, 0, "", 0]]
        wire.on_message(msgspec.msgpack.encode(usurper))
    assert cluster.nodes() == known


def test_texts_about_nodes_are_bounded() -> None:
    wire = Wire()
    cluster, _ = with_another(wire)
    wire.on_message(msgspec.msgpack.encode(["here", "x", ["x", "n" * 100_000, "", 1, 0, "", 0]]))
    assert len(cluster.nodes()) == 2


@in_loop
async def test_a_node_that_is_cut_off_names_the_others_instead_of_forgetting_them() -> None:
    wire, clock = Wire(), Clock()
    cluster, counters = with_another(wire, clock)
    own = pack(Announced("one", cluster.own))
    cluster.answer("?", lambda _: b"mine")
    clock.now = CUT_OFF_S + SILENT_S
    cluster.directory.announce()
    assert len(cluster.nodes()) == 2
    sent = len(wire.sent)
    mine, others = await cluster.ask("?")
    assert (mine.body, len(wire.sent)) == (b"mine", sent)
    assert "messages between nodes do not arrive" in others.error
    assert counters.cluster_unanswered_total == 0
    # It receives again: the others have as much time as ever to announce themselves.
    wire.on_message(own)
    for _ in range(4):
        assert len(cluster.nodes()) == 2
        clock.now += ANNOUNCE_S
        cluster.directory.announce()
        wire.on_message(own)
    assert cluster.nodes() == (cluster.own,)


@in_loop
async def test_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "QUESTIONS", 2)
    cluster, counters = with_another(Wire())
    waiting = [asyncio.ensure_future(cluster.ask("?", nodes=["other"])) for _ in range(2)]
    await asyncio.sleep(0)
    [refused] = await cluster.ask("?", nodes=["other"])
    assert refused.error == "too many questions are unanswered"
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    assert counters.cluster_refused_questions_total == 1
    assert counters.cluster_unanswered_total == 0
    [late] = await cluster.ask("?", nodes=["other"], timeout_s=0)
    assert late.error == "no answer within 0 s"
    assert counters.cluster_unanswered_total == 1


@in_loop
async def test_answers_in_work_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "ANSWERS", 1)
    wire = Wire()
    cluster, counters = with_another(wire)
    held: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    cluster.answer("hold", lambda _: held)
    for number in (1, 2):
        wire.on_message(msgspec.msgpack.encode(["ask", "other", number, "hold", b""]))
    await asyncio.sleep(0)
    busy = "the node answers too many questions at the moment"
    assert wire.sent[-1] == pack(Answered("one", 2, 0, busy))
    held.set_result(b"1")
    await until(lambda: wire.sent[-1] == pack(Answered("one", 1, 1)))
    assert wire.sent[-2] == pack(Part("one", 1, b"1"))
    assert counters.cluster_refused_questions_total == 1


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([Part("other", 1, b"1"), Answered("other", 1, 2)], "a part of the answer was lost"),
        ([Part("other", 1, b"123")] * 2, "too many bytes of answers wait"),
        ([Answered("stranger", 1, 0), Part("stranger", 1, b"1"), Answered("other", 1, 0)], ""),
    ],
)
@in_loop
async def test_answers_that_arrive_broken(
    messages: list[Part | Answered], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "ANSWER_BYTES", 5)
    wire = Wire()
    cluster, _ = with_another(wire)
    asked = asyncio.ensure_future(cluster.ask("?", nodes=["other"]))
    await asyncio.sleep(0)
    for each in messages:
        wire.on_message(pack(each))
    assert await asked == [Answer("other", error=error)]


@in_loop
async def test_unknown_messages_are_passed_over() -> None:
    wire = Wire()
    cluster, _ = with_another(wire)
    before = list(wire.sent)
    for message in (b"", b"\x90", msgspec.msgpack.encode(["of a later version", "other"]), b"\xff"):
        wire.on_message(message)
    assert wire.sent == before
    assert len(cluster.nodes()) == 2
