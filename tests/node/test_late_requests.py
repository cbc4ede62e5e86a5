"""A restored client requests the history late, or never: no message twice, out of order, or missing silently."""

import time

import pytest

from catenary.adapters.memory.history import LocalHistory
from catenary.messages.decisions import Decision
from catenary.messages.names import Stream
from catenary.node import detached
from catenary.node.encoder import Encoder
from catenary.node.late_requests import UNANSWERED_TICKS
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.wire.framing import WEBSOCKET_TEXT, Framing
from tests.node.test_replay import (
    CONFIRMED,
    HISTORY,
    REJECTED,
    after,
    local_history,
    local_sessions,
    publish,
    said,
    slow_history,
    traits,
)
from tests.parts.heart import Client, Heart, in_loop, room, settle
from tests.parts.slow_history import SlowHistory

NO_PING = Framing(WEBSOCKET_TEXT.frame, WEBSOCKET_TEXT.frame_pieces, b"")
"""Of a transport that can't ping, such as that of another ASGI server."""


class World:
    """A node, and a client that is back: it missed 2, and 3 was published before it could ask."""

    def __init__(self, *streams: str, history: LocalHistory | SlowHistory | None = None) -> None:
        self.history = history or local_history()
        self.heart = Heart(history=self.history, sessions=local_sessions())
        client = self.heart.connect("before", traits=traits())
        self.streams = streams or ("s",)
        for stream in self.streams:
            client.subscribe(room(stream))
            publish(self.heart, stream, 1)
        client.leave()
        for stream in self.streams:
            publish(self.heart, stream, 2)
        self.client = self.heart.connect("again", traits=traits("before"))
        for stream in self.streams:
            publish(self.heart, stream, 3)

    def ask(self, stream: str = "s", offset: int = 1) -> None:
        self.client.say("history", room(stream), history=after((stream, offset)))

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.heart.node.tick()


def on(client: Client, stream: str) -> list[object]:
    """What a client heard on one subscription, in order."""
    return [
        each.get("offset", each.get("type"))
        for each in client.heard
        if each.get("identifier") == room(stream)
    ]


# It asks in time


@pytest.mark.parametrize("ticks", range(UNANSWERED_TICKS + 1))
@in_loop
async def test_a_slow_line_brings_nothing_twice(ticks: int) -> None:
    """The client has not answered the ping: it may not know yet that it was restored."""
    world = World()
    world.tick(ticks)
    publish(world.heart, "s", 4)
    assert said(world.client) == ["welcome"]
    world.ask()
    publish(world.heart, "s", 5)
    assert said(world.client) == ["welcome", 2, 3, 4, HISTORY, 5]


@in_loop
async def test_a_client_that_has_answered_the_ping_still_has_a_tick_to_ask() -> None:
    world = World()
    world.tick()
    world.client.answer_ping()
    world.tick()
    world.ask()
    assert said(world.client) == ["welcome", 2, 3, HISTORY]


@in_loop
async def test_requests_that_wait_after_slow_ones_are_in_time() -> None:
    """As those of a client with many subscriptions, where the history is slow."""
    history = slow_history()
    streams = [f"s{number}" for number in range(5)]
    world = World(*streams, history=history)
    for stream in streams:
        world.ask(stream)
    world.client.answer_ping()
    for stream in streams:
        await settle()
        world.tick(20)
        publish(world.heart, stream, 4)
        history.release()
        await settle()
    for stream in streams:
        assert on(world.client, stream) in ([2, 3, 4, HISTORY], [2, 3, HISTORY, 4])


@in_loop
async def test_a_client_that_is_not_read_is_in_time_with_what_it_says_later() -> None:
    """It has as many commands under way as it may; its requests wait in its socket."""
    world = World()
    answer = world.heart.application.later("perform")
    for _ in range(65):
        world.client.say("message", room("s"), data="{}")
    world.client.answer_ping()
    world.tick(20)
    assert world.client.outbound.held == [True]
    answer.set_result(Decision())
    await settle()
    assert world.client.outbound.held == [True, False]
    world.ask()
    assert said(world.client) == ["welcome", 2, 3, HISTORY]


@in_loop
async def test_a_client_that_waits_for_its_application_receives_live_messages_if_it_has_not_asked() -> (
    None
):
    world = World()
    world.heart.application.later("perform")
    world.client.say("message", room("s"), data="{}")
    world.tick()
    world.client.answer_ping()
    world.tick(2)
    assert said(world.client) == ["welcome", 3]


@in_loop
async def test_a_client_asks_once_more_with_its_subscribe_command() -> None:
    world = World()
    world.tick(3)
    world.client.say("subscribe", room("s"), history=after(("s", 1)))
    assert said(world.client) == ["welcome", CONFIRMED, 2, 3, HISTORY]


# It does not ask


@in_loop
async def test_a_client_that_does_not_ask_receives_all_messages_a_little_later() -> None:
    world = World()
    world.tick()
    assert world.client.is_pinged
    world.client.answer_ping()
    world.tick()
    assert said(world.client) == ["welcome"]
    world.tick()
    publish(world.heart, "s", 4)
    assert said(world.client) == ["welcome", 3, 4]
    assert not world.heart.node._replayer._late._late


@in_loop
async def test_a_client_that_does_not_even_answer_a_ping_is_waited_for_longer() -> None:
    world = World()
    world.tick(UNANSWERED_TICKS)
    assert said(world.client) == ["welcome"]
    world.tick()
    assert said(world.client) == ["welcome", 3]


@in_loop
async def test_a_client_that_asks_at_once_is_not_pinged() -> None:
    world = World()
    world.ask()
    world.tick(3)
    assert not world.client.is_pinged


@in_loop
async def test_where_a_transport_can_not_ping_two_ticks_are_waited_for() -> None:
    heart = Heart(history=local_history(), sessions=local_sessions())
    encoder = Encoder(ActionCableJson(), NO_PING)
    client = heart.connect("before", traits=traits(), encoder=encoder)
    client.subscribe(room("s"))
    client.leave()
    again = heart.connect("again", traits=traits("before"), encoder=encoder)
    publish(heart, "s", 1)
    heart.node.tick()
    assert said(again) == ["welcome"]
    heart.node.tick()
    assert said(again) == ["welcome", 1]
    again.say("history", room("s"), history=after(("s", 0)))
    assert said(again) == ["welcome", 1, REJECTED]


@in_loop
async def test_a_client_that_leaves_before_it_asks_is_forgotten() -> None:
    world = World()
    world.tick()
    world.client.leave()
    world.tick()
    late = world.heart.node._replayer._late
    assert (late._fresh, late._late, list(late._due)) == ({}, {}, [])
    assert world.heart.hub.streams_num == 0


@in_loop
async def test_a_subscription_that_is_given_back_before_it_asks_brings_nothing() -> None:
    world = World()
    world.client.say("unsubscribe", room("s"))
    world.tick()
    world.client.answer_ping()
    world.tick(2)
    assert said(world.client) == ["welcome"]
    world.client.say("subscribe", room("s"), history=after(("s", 1)))
    publish(world.heart, "s", 4)
    assert said(world.client) == ["welcome", CONFIRMED, 2, 3, HISTORY, 4]


# It asks too late


def gone_live() -> World:
    """The client counts as one that does not ask, and has been sent 3."""
    world = World()
    world.tick()
    world.client.answer_ping()
    world.tick(2)
    assert said(world.client) == ["welcome", 3]
    return world


@in_loop
async def test_a_late_request_is_rejected_if_messages_were_missed() -> None:
    """Else 2 would come after 3, or 3 twice."""
    world = gone_live()
    world.ask()
    publish(world.heart, "s", 4)
    assert said(world.client) == ["welcome", 3, REJECTED, 4]


@in_loop
async def test_a_late_request_is_confirmed_if_no_message_was_missed() -> None:
    world = gone_live()
    world.ask(offset=3)
    publish(world.heart, "s", 4)
    assert said(world.client) == ["welcome", 3, HISTORY, 4]


@in_loop
async def test_requests_after_a_late_one_are_answered() -> None:
    world = gone_live()
    for _ in range(2):
        world.ask()
    assert said(world.client) == ["welcome", 3, REJECTED, 2, 3, HISTORY]


@in_loop
async def test_late_requests_are_answered_in_the_same_way_from_a_remote_history() -> None:
    history = slow_history()
    world = World(history=history)
    world.tick()
    world.client.answer_ping()
    world.tick(2)
    world.ask()
    await settle()
    publish(world.heart, "s", 4)
    history.release()
    await settle()
    assert said(world.client) == ["welcome", 3, REJECTED, 4]


# More is published than is buffered


@pytest.fixture
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detached, "BUFFER_LIMIT", 3)


@pytest.mark.usefixtures("small_buffer")
@in_loop
async def test_messages_dropped_before_the_request_are_in_the_history() -> None:
    world = World()
    for number in range(4, 11):
        publish(world.heart, "s", number)
    world.ask()
    publish(world.heart, "s", 11)
    assert said(world.client) == ["welcome", *range(2, 11), HISTORY, 11]
    assert world.heart.counters.replay_overflows_total == 2


@pytest.mark.usefixtures("small_buffer")
@in_loop
async def test_messages_dropped_during_a_read_are_read_again() -> None:
    history = slow_history()
    history.is_early = True
    world = World(history=history)
    world.ask()
    await settle()
    for number in range(4, 11):
        publish(world.heart, "s", number)
    history.release()
    await settle()
    publish(world.heart, "s", 11)
    history.release()
    await settle()
    publish(world.heart, "s", 12)
    assert said(world.client) == ["welcome", *range(2, 11), HISTORY, 11, 12]


@pytest.mark.usefixtures("small_buffer")
@in_loop
async def test_a_request_is_rejected_if_more_is_published_than_can_be_read() -> None:
    history = slow_history()
    history.is_early = True
    world = World(history=history)
    world.ask()
    number = 3
    while REJECTED not in said(world.client):
        await settle()
        for _ in range(5):
            number += 1
            publish(world.heart, "s", number)
        history.release()
        await settle()
        assert number < 100
    heard = said(world.client)
    rest = heard[heard.index(REJECTED) + 1 :]
    assert rest == list(range(number + 1 - len(rest), number + 1))
    publish(world.heart, "s", number + 1)
    assert said(world.client)[-1] == number + 1


@pytest.mark.usefixtures("small_buffer")
@in_loop
async def test_a_client_that_does_not_ask_receives_a_rejection_if_messages_were_dropped() -> None:
    world = World()
    for number in range(4, 8):
        publish(world.heart, "s", number)
    world.tick()
    world.client.answer_ping()
    world.tick(2)
    publish(world.heart, "s", 8)
    assert said(world.client) == ["welcome", REJECTED, 6, 7, 8]


@pytest.mark.usefixtures("small_buffer")
@in_loop
async def test_a_client_receives_a_rejection_if_only_dropped_messages_were_published() -> None:
    heart = Heart(history=local_history(), sessions=local_sessions())
    client = heart.connect("before", traits=traits())
    client.subscribe(room("s"))
    client.leave()
    again = heart.connect("again", traits=traits("before"))
    for number in range(4):
        heart.publish("s", number, transient=True)
    again.say("history", room("s"), history=after(("s", 0)))
    assert said(again) == ["welcome", REJECTED, None]


@pytest.mark.usefixtures("small_buffer")
@in_loop
async def test_a_request_is_rejected_if_dropped_messages_are_in_no_history() -> None:
    world = World()
    world.heart.publish("s", "transient", transient=True)
    for number in range(4, 8):
        publish(world.heart, "s", number)
    world.ask()
    publish(world.heart, "s", 8)
    assert said(world.client) == ["welcome", REJECTED, 5, 6, 7, 8]


# Since a moment that is later than what was published meanwhile: the clock of the client is ahead


class Elsewhere(LocalHistory):
    """Answers at once, and is read like one that does not."""

    is_immediate = False


@pytest.mark.parametrize("kind", [LocalHistory, Elsewhere])
@pytest.mark.parametrize("ahead_s", [1, 2, 60])
@in_loop
async def test_a_clock_that_is_ahead_loses_nothing(kind: type[LocalHistory], ahead_s: int) -> None:
    began, passed = time.time(), 0
    history = kind(limit=100, ttl_s=300, epoch="e1", clock=lambda: began + passed)
    heart = Heart(history=history, sessions=local_sessions())
    publish(heart, "s", "before it was restored")
    passed = 100
    client = heart.connect("before", traits=traits())
    client.subscribe(room("s"))
    client.leave()
    began, passed = time.time(), 0
    again = heart.connect("again", traits=traits("before"))
    for second in range(4):
        passed = second
        publish(heart, "s", second)
    again.say("history", room("s"), history={"since": int(began) + ahead_s})
    await settle()
    publish(heart, "s", 4)
    assert again.messages == [0, 1, 2, 3, 4]
    assert HISTORY in said(again)


@in_loop
async def test_a_stream_without_a_position_continues_from_the_restore() -> None:
    world = World("s", "t")
    world.client.say("history", room("t"), history={"streams": {}})
    publish(world.heart, "t", 4)
    assert on(world.client, "t") == [3, HISTORY, 4] or on(world.client, "t") == [HISTORY, 3, 4]


# Streams that the application starts and stops before the client asks


@pytest.mark.parametrize(
    "decision",
    [
        Decision(streams=(Stream("s"),)),
        Decision(stop_all_streams=True, streams=(Stream("s"),)),
        Decision(stopped_streams=(Stream("s"),), streams=(Stream("s"),)),
    ],
)
@in_loop
async def test_an_action_on_what_was_restored_may_start_its_streams_again(
    decision: Decision,
) -> None:
    """As ``restored_action`` does, before anything that the client says."""
    heart = Heart(history=local_history(), sessions=local_sessions(), restored_action="restored")
    client = heart.connect("before", traits=traits())
    client.subscribe(room("s"))
    publish(heart, "s", 1)
    client.leave()
    publish(heart, "s", 2)
    heart.application.prepare("perform", decision)
    again = heart.connect("again", traits=traits("before"))
    publish(heart, "s", 3)
    again.say("history", room("s"), history=after(("s", 1)))
    publish(heart, "s", 4)
    assert said(again) == ["welcome", 2, 3, HISTORY, 4]


@in_loop
async def test_a_stream_that_is_started_before_the_client_asks_waits_as_well() -> None:
    world = World()
    world.heart.application.prepare("perform", Decision(streams=(Stream("t"),)))
    world.client.say("message", room("s"), data="{}")
    publish(world.heart, "t", "new")
    assert said(world.client) == ["welcome"]
    world.ask()
    assert said(world.client) == ["welcome", 2, 3, HISTORY, 1]
