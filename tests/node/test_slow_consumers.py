"""Clients that are behind on streams with a policy: what they get when they read again, and in which order."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Iterator
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.broker.stream_rules import StreamRules
from catenary.config.stream_rules import SlowConsumer, StreamRule
from catenary.messages.commands import Join, Whisper
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Sid, Stream
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed
from catenary.node.session import Traits
from catenary.node.slow_consumers import CATCH_UP_LIMIT
from catenary.ports import History
from tests.parts.heart import NEVER, Client, Heart, MemoryOutbound, in_loop, room, settle
from tests.parts.slow_history import SlowHistory

ROOM = room("a")
STREAM = Stream("a")

ROOM_FRAMES = 2
"""Frames that fit into the buffers between the server and a client."""


class SocketOutbound(MemoryOutbound):
    """A transport with small buffers, whose client reads when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._unread = 0
        self._waiting: deque[bytes | tuple[Iterator[bytes], asyncio.Future[None]]] = deque()
        self.tolerates = 0

    def tolerate_slowness(self) -> None:
        self.tolerates += 1

    @property
    def is_behind(self) -> bool:
        return bool(self._waiting)

    def _write(self, encoded: bytes) -> None:
        if self._waiting or self._unread >= ROOM_FRAMES:
            self._waiting.append(encoded)
        else:
            self._unread += 1
            super()._write(encoded)

    def write_slices(self, slices: Iterator[bytes]) -> Awaitable[None] | None:
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((slices, sent))
        asyncio.get_running_loop().call_soon(self._send)
        return sent

    def _send(self) -> None:
        while self._waiting and self._unread < ROOM_FRAMES:
            first = self._waiting[0]
            if isinstance(first, bytes):
                self._waiting.popleft()
                self._unread += 1
                super()._write(first)
                continue
            for each in first[0]:
                self._unread += 1
                super()._write(each)
                break
            else:
                self._waiting.popleft()
                first[1].set_result(None)

    def read(self, number: int) -> None:
        """The client reads so many frames."""
        self._unread = max(self._unread - number, 0)
        self._send()

    async def read_all(self) -> None:
        """The client reads until nothing is left."""
        for _ in range(2_000):
            self.read(ROOM_FRAMES)
            await asyncio.sleep(0)
            if not self._waiting and not self._unread:
                await settle()
                if not self._waiting and not self._unread:
                    return
        raise AssertionError("expected an end")


class House:
    """A node whose streams have one policy, and one client that may be slow."""

    def __init__(
        self,
        policy: SlowConsumer,
        *,
        limit: int = 3,
        history: History | None = None,
        is_resumable: bool = True,
    ) -> None:
        rule = StreamRule(match="*", slow_consumer=policy, slow_consumer_limit=limit)
        presence = LocalPresence(ttl_s=9, clock=asyncio.get_running_loop().time)
        self.heart = Heart(
            history=history or local_history(), presence=presence, rules=StreamRules((rule,))
        )
        self._numbers = count(1)
        self.outbound = SocketOutbound()
        self.client = self.connect(self.outbound, is_resumable=is_resumable)

    def connect(self, outbound: MemoryOutbound, *, is_resumable: bool = True) -> Client:
        environment = Environment(Sid(f"sid-{id(outbound)}"), "ws://test/cable", {})
        self.heart.application.prepare(
            "subscribe",
            Decision(
                streams=(STREAM,),
                replies=(Confirmed(ROOM),),
                whisper_stream=STREAM,
                presence_stream=STREAM,
            ),
        )
        session = self.heart.node.admit(
            environment, self.heart.encoder, outbound, Traits(NEVER, is_resumable)
        )
        client = Client(self.heart, session, outbound)
        client.say("subscribe", ROOM)
        outbound.frames.clear()
        if isinstance(outbound, SocketOutbound):
            outbound.read(9)
        return client

    def publish(self, number: int = 1) -> list[int]:
        sent = [next(self._numbers) for _ in range(number)]
        for each in sent:
            self.heart.node.publications.publish(
                json.dumps({"stream": STREAM, "data": json.dumps(each)})
            )
        return sent

    @property
    def got(self) -> list[object]:
        return self.client.messages

    def number(self, name: str) -> int:
        found: int = getattr(self.heart.counters, name)
        return found


def local_history(limit: int = 10_000) -> LocalHistory:
    return LocalHistory(limit=limit, ttl_s=300, epoch="e", clock=lambda: 1_700_000_000.0)


# What each policy delivers


@in_loop
async def test_a_client_that_keeps_up_gets_everything() -> None:
    for policy in ("drop_oldest", "keep_latest", "catch_up"):
        house = House(policy)
        sent = []
        for _ in range(50):
            sent += house.publish()
            house.outbound.read(1)
        assert house.got == sent
        assert house.number("slow_consumers_total") == 0


@in_loop
async def test_the_latest_message_waits_for_a_slow_client() -> None:
    house = House("keep_latest")
    sent = house.publish(50)
    await house.outbound.read_all()
    assert house.got == [*sent[:3], sent[-1]]
    assert house.number("slow_conflated_messages_total") == 46
    assert house.publish(1) == house.got[-1:]


@in_loop
async def test_the_latest_messages_wait_for_a_slow_client() -> None:
    house = House("drop_oldest", limit=5)
    sent = house.publish(50)
    await house.outbound.read_all()
    assert house.got == [*sent[:3], *sent[-5:]]
    assert house.number("slow_dropped_messages_total") == 42


@in_loop
async def test_large_messages_are_dropped_by_their_size_too() -> None:
    house = House("drop_oldest", limit=50)
    house.publish(3)
    large = [f"{each}{'x' * 300_000}" for each in range(9)]
    for each in large:
        house.heart.node.publications.publish(
            json.dumps({"stream": STREAM, "data": json.dumps(each)})
        )
    await house.outbound.read_all()
    assert house.got[3:] == large[-3:]


@in_loop
async def test_a_slow_client_catches_up_from_the_history() -> None:
    house = House("catch_up")
    sent = house.publish(3 * CATCH_UP_LIMIT)
    await house.outbound.read_all()
    assert house.got == sent
    assert house.number("slow_caught_up_messages_total") > CATCH_UP_LIMIT
    sent += house.publish(1)
    assert house.got == sent


@in_loop
async def test_a_few_messages_are_not_read_from_the_history() -> None:
    house = House("catch_up")
    sent = house.publish(CATCH_UP_LIMIT)
    await house.outbound.read_all()
    assert house.got == sent
    assert house.number("slow_caught_up_messages_total") == 0


@in_loop
async def test_a_history_that_is_too_short_is_reported() -> None:
    house = House("catch_up", history=local_history(50))
    sent = house.publish(500)
    await house.outbound.read_all()
    assert house.got[:3] == sent[:3]
    assert [each for each in house.client.heard if each.get("type") == "reject_history"]
    assert house.number("slow_lost_histories_total") == 1
    sent = house.publish(2)
    assert house.got[-2:] == sent


@in_loop
async def test_a_client_that_can_t_learn_of_a_gap_is_closed() -> None:
    house = House("catch_up", history=local_history(50), is_resumable=False)
    house.publish(500)
    await house.outbound.read_all()
    assert house.outbound.ended_for is Reason.SLOW_CLIENT
    assert house.number("disconnected_slow_clients_total") == 1


# Others, and other messages


@in_loop
async def test_others_get_everything_at_once() -> None:
    house = House("keep_latest")
    other = house.connect(MemoryOutbound())
    assert other.messages == []
    sent = house.publish(50)
    assert other.messages == sent
    assert len(house.got) == ROOM_FRAMES


@in_loop
async def test_presence_changes_are_not_dropped() -> None:
    house = House("keep_latest")
    others = [house.connect(MemoryOutbound()) for _ in range(5)]
    house.publish(3)
    for number, each in enumerate(others):
        house.heart.node.execute(each.session, Join(ROOM, str(number), "{}"))
        house.publish(2)
    await house.outbound.read_all()
    joined = [
        each["message"]["id"] for each in house.client.heard if each.get("type") == "presence"
    ]
    assert joined == [str(each) for each in range(5)]
    assert house.got[-1] == 13


@in_loop
async def test_whispers_are_lost_with_a_policy_that_drops_messages() -> None:
    house = House("catch_up")
    other = house.connect(MemoryOutbound())
    sent = house.publish(3)
    house.heart.node.execute(other.session, Whisper(ROOM, '"psst"'))
    sent += house.publish(2 * CATCH_UP_LIMIT)
    await house.outbound.read_all()
    assert house.got == sent
    assert house.number("slow_dropped_messages_total") == 1


@in_loop
async def test_a_request_for_history_replaces_what_waits() -> None:
    house = House("keep_latest")
    sent = house.publish(50)
    position = {"epoch": "e", "offset": 3}
    house.client.say("history", ROOM, history={"streams": {STREAM: position}})
    sent += house.publish(1)
    await house.outbound.read_all()
    assert house.got == sent


@in_loop
async def test_a_slow_client_may_leave_or_unsubscribe() -> None:
    for policy in ("drop_oldest", "keep_latest", "catch_up"):
        house = House(policy)
        house.publish(500)
        house.client.say("unsubscribe", ROOM)
        await house.outbound.read_all()
        assert len(house.got) <= 3 + 1
        assert house.heart.hub.streams_num == 0
        house = House(policy)
        house.publish(500)
        house.client.leave()
        await settle()
        assert house.heart.hub.streams_num == 0


@in_loop
async def test_a_stream_gets_its_policy_while_it_has_listeners() -> None:
    house = House("disconnect")
    other = house.connect(SocketOutbound())
    assert (house.outbound.tolerates, other.outbound.tolerates) == (0, 0)  # type: ignore[attr-defined]
    house.heart.hub.rules.replace((StreamRule(match="*", slow_consumer="keep_latest"),))
    await settle()
    sent = house.publish(50)
    await house.outbound.read_all()
    assert house.got == [*sent[:3], sent[-1]]
    assert house.outbound.tolerates > 0
    house.heart.hub.rules.replace(())
    await settle()
    sent = house.publish(50)
    await house.outbound.read_all()
    assert house.got[-50:] == sent


# In any order of events

Steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from([1, 2, 7, CATCH_UP_LIMIT + 1])),
        st.tuples(st.just("read"), st.sampled_from([1, 2, 5])),
        st.tuples(st.just("wait"), st.sampled_from([1, 3])),
        st.tuples(st.just("release"), st.just(1)),
        st.tuples(st.just("other"), st.just(1)),
    ),
    max_size=40,
)


async def carried_out(house: House, steps: list[tuple[str, int]]) -> list[int]:
    """The messages that were published."""
    sent: list[int] = []
    history = house.heart.hub._slow_consumers._history
    others = []
    for step, number in steps:
        if step == "publish":
            sent += house.publish(number)
        elif step == "read":
            house.outbound.read(number)
        elif step == "wait":
            await settle(number)
        elif step == "other":
            others.append(house.connect(MemoryOutbound()))
        elif isinstance(history, SlowHistory):
            history.release()
    quiet = 0
    while quiet < 5:
        quiet = 0 if house.outbound.is_behind else quiet + 1
        if isinstance(history, SlowHistory):
            quiet = 0 if history.asked else quiet
            history.release()
        house.outbound.read(9)
        await settle(3)
    return sent


@pytest.mark.parametrize("kind", ["at once", "late", "early"])
@settings(max_examples=50)
@given(steps=Steps)
def test_catching_up_neither_loses_nor_doubles_nor_reorders(
    kind: str, steps: list[tuple[str, int]]
) -> None:
    @in_loop
    async def scenario() -> None:
        kept = local_history()
        history = kept if kind == "at once" else SlowHistory(kept, is_early=kind == "early")
        house = House("catch_up", history=history)
        sent = await carried_out(house, steps)
        assert house.got == sent, steps

    scenario()


@pytest.mark.parametrize("policy", ["drop_oldest", "keep_latest"])
@settings(max_examples=50)
@given(steps=Steps)
def test_what_was_not_dropped_is_in_order_and_ends_with_the_latest(
    policy: SlowConsumer, steps: list[tuple[str, int]]
) -> None:
    @in_loop
    async def scenario() -> None:
        house = House(policy)
        sent = await carried_out(house, steps)
        got = [each for each in house.got if isinstance(each, int)]
        assert all(one < other for one, other in pairwise(got))
        assert got[-1:] == sent[-1:]
        dropped = house.number("slow_dropped_messages_total")
        conflated = house.number("slow_conflated_messages_total")
        assert dropped + conflated == len(sent) - len(got)

    scenario()
