"""Polls that are relayed to another node, whose messages between nodes are lost, late or cut short as a test says."""

import asyncio
import time
from collections.abc import Callable

import msgspec
import pytest

from catenary.edge.request import Peer
from catenary.protocols.relayed_polls import Answered, Arrived, Asked, Part, Relayed, unpack
from catenary.transports import long_polling_relay
from catenary.transports.long_polling import PollLimits
from catenary.transports.long_polling_endpoint import PollServices
from catenary.transports.long_polling_relay import PollRelay
from catenary.transports.polls import PollHolder, PollResponse
from catenary.wire.http1 import RequestHead
from tests.parts.heart import Heart, in_loop, room, settle
from tests.parts.long_polling import LIMITS, Response, lines, poll_services

FAST = msgspec.structs.replace(LIMITS, flush_interval_s=0)
SLOW = msgspec.structs.replace(LIMITS, flush_interval_s=0.1)


class Network:
    """The messages between nodes; ``loses`` says which do not arrive."""

    def __init__(self) -> None:
        self.nodes: dict[str, MemoryPeers] = {}
        self.loses: Callable[[object], bool] = lambda _: False


class MemoryPeers:
    """Satisfies :class:`catenary.ports.Peers`."""

    def __init__(self, network: Network, node: str) -> None:
        self.node = node
        self._network = network
        self.on_message: Callable[[bytes], None] = lambda _: None
        network.nodes[node] = self

    def send_to(self, node: str, message: bytes) -> None:
        if node in self._network.nodes and not self._network.loses(unpack(message)):
            asyncio.get_running_loop().call_soon(self._network.nodes[node].on_message, message)

    def send_to_all(self, message: bytes) -> None:
        """The relay knows which node it means."""
        raise NotImplementedError


class MemoryPoll:
    """A request, and whether its response arrives."""

    def __init__(self) -> None:
        self.response: PollResponse | None = None
        self.has_arrived = True
        self.checks = 0

    def answer(self, response: PollResponse) -> None:
        self.response = response

    def is_unread(self) -> bool:
        self.checks += 1
        return not self.has_arrived

    @property
    def status(self) -> int:
        assert self.response is not None
        return self.response.status

    @property
    def messages(self) -> bytes:
        assert self.response is not None
        return self.response.messages


class Cluster:
    """The node ``node``, which has a session with one subscription, and another one, which its client polls."""

    def __init__(self, limits: PollLimits = FAST) -> None:
        self.network = Network()
        self.heart = Heart()
        here, there = (poll_services(heart, limits) for heart in (self.heart, Heart()))
        self._relay_of("node", here)
        self.relay = self._relay_of("other", there)
        self.counters = there.bodies.counters
        request = RequestHead("POST", "/lp", {})
        accepted = here.requests.accept(request, Peer("http", "127.0.0.1"))
        subscribe = lines({"command": "subscribe", "identifier": room("r")})
        session = here.begin(accepted, MemoryPoll(), subscribe)  # type: ignore[arg-type]
        assert session is not None
        self.poll_id = session.poll_id  # type: ignore[attr-defined]
        self._sessions = here.sessions
        self.session = here.sessions.find(self.poll_id)

    def _relay_of(self, name: str, services: PollServices) -> PollRelay:
        counters = services.bodies.counters
        peers = MemoryPeers(self.network, name)
        return PollRelay(peers, services.sessions, counters, 0.1, time.monotonic)

    def poll(self, body: bytes = b"") -> tuple[MemoryPoll, PollHolder]:
        poll = MemoryPoll()
        return poll, self.relay.poll(self.poll_id, poll, None, body)

    def poll_owner(self) -> MemoryPoll:
        """A poll that lands on the node of the session."""
        poll = MemoryPoll()
        self._sessions.poll(self.poll_id, poll, None, b"")
        return poll

    def publish(self, data: str) -> None:
        self.heart.publish("r", data)


def ping() -> bytes:
    return lines({"command": "ping"})


def published(poll: MemoryPoll) -> list[object]:
    return Response(poll.status, {}, poll.messages).published


async def answered(poll: MemoryPoll) -> None:
    while poll.response is None:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@in_loop
async def test_a_poll_and_its_response_are_relayed() -> None:
    cluster = Cluster()
    poll, _ = cluster.poll()
    await settle()
    cluster.publish("1")
    await answered(poll)
    assert (poll.status, b'"message":"1"' in poll.messages) == (200, True)
    assert cluster.counters.long_poll_relayed_total == 1


@in_loop
async def test_a_report_that_comes_after_the_next_poll_is_waited_for() -> None:
    """A client that has its response may be faster than the report of the node that sent it."""
    cluster = Cluster(msgspec.structs.replace(LIMITS, flush_interval_s=0.05))
    other = cluster.network.nodes["other"]
    send_to, late = other.send_to, []

    def hold(node: str, message: bytes) -> None:
        if isinstance(unpack(message), Arrived):
            late.append(message)
        else:
            send_to(node, message)

    other.send_to = hold  # type: ignore[method-assign]
    first, _ = cluster.poll()
    await settle()
    cluster.publish("1")
    await answered(first)
    second, _ = cluster.poll()
    await settle()
    send_to("node", late.pop(0))
    await asyncio.sleep(0.15)
    assert second.response is None, "it waits for messages, as there are none"
    cluster.publish("2")
    await answered(second)
    cluster.publish("3")
    third, _ = cluster.poll()
    await settle()
    assert third.response is None
    send_to("node", late.pop(0))
    await answered(third)
    for poll, message in ((second, b'"message":"2"'), (third, b'"message":"3"')):
        assert (poll.messages.count(message), poll.messages.count(b'"message"')) == (1, 1)


@in_loop
async def test_a_response_whose_node_died_before_it_was_written_is_sent_again() -> None:
    cluster = Cluster()
    cluster.network.loses = lambda message: isinstance(message, Answered | Part | Asked)
    cluster.publish("1")
    cluster.poll()
    await settle(50)
    cluster.network.loses = lambda _: False
    again, _ = cluster.poll()
    await answered(again)
    assert b'"message":"1"' in again.messages
    await settle()
    cluster.publish("2")
    last, _ = cluster.poll()
    await answered(last)
    assert b'"message":"1"' not in last.messages


@in_loop
async def test_a_response_that_lost_a_part_is_sent_again() -> None:
    cluster = Cluster()
    lost: list[object] = []

    def loses_one(message: object) -> bool:
        if isinstance(message, Part) and not lost:
            lost.append(message)
            return True
        return False

    cluster.network.loses = loses_one
    cluster.publish("x" * long_polling_relay.PART_BYTES)
    poll, _ = cluster.poll()
    await answered(poll)
    assert (poll.status, poll.messages) == (204, b"")
    again, _ = cluster.poll()
    await answered(again)
    assert len(again.messages) > long_polling_relay.PART_BYTES


@in_loop
async def test_a_response_to_a_client_that_has_gone_is_sent_again() -> None:
    cluster = Cluster()
    poll, relayed = cluster.poll()
    await settle()
    cluster.publish("1")
    await answered(poll)
    relayed.lost(poll)
    again, _ = cluster.poll()
    await answered(again)
    assert b'"message":"1"' in again.messages


@pytest.mark.parametrize("reports_at", ["before the poll", "after the poll", "never"])
@in_loop
async def test_a_response_whose_connection_is_broken_is_sent_again(reports_at: str) -> None:
    """The next poll may come to the session before the report that the connection is broken."""
    cluster = Cluster(SLOW)
    first, relayed = cluster.poll()
    cluster.publish("1")
    await answered(first)
    first.has_arrived = False
    cluster.publish("2")
    if reports_at == "before the poll":
        relayed.lost(first)
        await settle()
    second = cluster.poll_owner()
    await settle()
    if reports_at == "after the poll":
        relayed.lost(first)
    await answered(second)
    assert published(second) == ["1", "2"]
    cluster.publish("3")
    third, _ = cluster.poll()
    await answered(third)
    assert published(third) == ["3"]


@in_loop
async def test_a_response_that_arrives_late_is_not_sent_again() -> None:
    """As when TCP acknowledges it late; the next poll is answered as soon as it does."""
    cluster = Cluster(msgspec.structs.replace(SLOW, flush_interval_s=5))
    first, _ = cluster.poll(ping())
    await answered(first)
    first.has_arrived = False
    second = cluster.poll_owner()
    cluster.publish("2")
    while first.checks < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert second.response is None
    first.has_arrived = True
    await answered(second)
    assert b"pong" not in second.messages
    assert published(second) == ["2"]


@in_loop
async def test_a_response_that_arrived_is_sent_again_if_its_connection_breaks_before_the_next() -> (
    None
):
    cluster = Cluster(SLOW)
    first, relayed = cluster.poll()
    cluster.publish("1")
    await answered(first)
    second = cluster.poll_owner()
    await settle()
    assert first.checks == 1
    relayed.lost(first)
    await answered(second)
    assert published(second) == ["1"]


@in_loop
async def test_a_response_that_another_server_has_taken_is_not_sent_again() -> None:
    """As of a cable in another ASGI server, which takes the response in a later turn."""
    cluster = Cluster(SLOW)
    first, relayed = cluster.poll()
    cluster.publish("1")
    await answered(first)
    await settle()
    relayed.delivered(first)
    await settle()
    cluster.publish("2")
    second = cluster.poll_owner()
    await answered(second)
    assert published(second) == ["2"]


@in_loop
async def test_a_session_that_has_ended_does_not_repeat_what_arrived() -> None:
    cluster = Cluster(SLOW)
    first, _ = cluster.poll()
    cluster.publish("1")
    await answered(first)
    assert cluster.session is not None
    cluster.session.shutdown()
    await settle()
    second = cluster.poll_owner()
    await answered(second)
    assert (second.status, published(second)) == (401, [])


@in_loop
async def test_a_node_that_does_not_confirm_is_dead() -> None:
    cluster = Cluster()
    cluster.network.loses = lambda message: isinstance(message, Relayed)
    poll, _ = cluster.poll()
    await answered(poll)
    assert (poll.status, b"session_expired" in poll.messages) == (401, True)
    assert cluster.counters.long_poll_stale_requests_total == 1


@in_loop
async def test_a_node_that_stops_answers_the_polls_that_it_relays() -> None:
    cluster = Cluster()
    poll, relayed = cluster.poll()
    await settle()
    relayed.shutdown()
    assert (poll.status, poll.messages) == (204, b"")
    cluster.publish("1")
    again, _ = cluster.poll()
    await answered(again)
    assert b'"message":"1"' in again.messages


@in_loop
async def test_a_message_of_another_kind_harms_nobody() -> None:
    cluster = Cluster()
    for message in (b"", b"\xc1", b"\x93\xa4poll\x01\x02"):
        cluster.network.nodes["node"].on_message(message)
        cluster.network.nodes["other"].on_message(message)
    poll, _ = cluster.poll()
    cluster.publish("1")
    await answered(poll)
    assert poll.status == 200
