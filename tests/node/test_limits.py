"""Limits of a decision about one client: it is applied as a whole, or not at all."""

from typing import Any

import pytest

from catenary.messages.decisions import WHISPER_STATE, Decision, PresenceCommand, Verdict
from catenary.messages.names import Stream
from catenary.messages.replies import Confirmed
from catenary.node.limits import ClientLimits
from tests.parts.heart import Heart, in_loop, room, settle

LIMITS = ClientLimits(max_streams=10, max_stream_name_size=20, max_state_keys=5, max_state_size=50)
ROOM = room("1")
LONG = Stream("x" * 21)


def streams(number: int, start: int = 0) -> tuple[Stream, ...]:
    return tuple(Stream(f"s{each}") for each in range(start, start + number))


def keys(number: int, size: int = 1) -> dict[str, str]:
    return {f"k{each}": "v" * size for each in range(number)}


def confirmation(**decided: Any) -> Decision:
    return Decision(**{"replies": (Confirmed(ROOM),), "streams": streams(1), **decided})


class World:
    """A node with limits, and a client at it."""

    def __init__(self, limits: ClientLimits = LIMITS) -> None:
        self.heart = Heart(limits=limits)
        self.client = self.heart.connect()
        self.client.outbound.take()

    def subscribe(self, **decided: Any) -> list[str]:
        """What the client hears, by its type."""
        self.heart.application.prepare("subscribe", confirmation(**decided))
        self.client.say("subscribe", ROOM)
        return self.types()

    def perform(self, decision: Decision) -> list[str]:
        self.heart.application.prepare("perform", decision)
        self.client.say("message", ROOM, data="{}")
        return self.types()

    def types(self) -> list[str]:
        return [each["type"] for each in self.client.outbound.take()]

    @property
    def refused(self) -> int:
        return self.heart.counters.refused_answers_total

    def heard_on(self) -> int:
        return self.heart.hub.streams_num


@pytest.mark.parametrize(
    ("decided", "limit"),
    [
        ({"streams": streams(11)}, "max_streams"),
        ({"streams": (*streams(2), LONG)}, "max_stream_name_size"),
        ({"whisper_stream": LONG}, "max_stream_name_size"),
        ({"presence_stream": LONG}, "max_stream_name_size"),
        ({"istate": keys(6)}, "max_state_keys"),
        ({"cstate": keys(6)}, "max_state_keys"),
        ({"istate": keys(2, 30)}, "max_state_size"),
        ({"cstate": {"k" * 51: "v"}}, "max_state_size"),
        ({"istate": {WHISPER_STATE: "x" * 51}}, "max_state_size"),
        ({"presence": PresenceCommand("join", "ann", "x" * 51)}, "max_state_size"),
    ],
)
@in_loop
async def test_a_subscription_with_too_much_is_rejected_and_leaves_nothing(
    decided: dict[str, Any], limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    assert world.subscribe(**decided) == ["reject_subscription"]
    session = world.client.session
    assert session.subscriptions == {}
    assert (session.environment.cstate, session.environment.istate) == (None, None)
    assert world.heard_on() == 0
    assert world.refused == 1
    (told,) = [each.getMessage() for each in caplog.records]
    assert told.startswith("Answer to Subscribe refused: expected ")
    assert f"({limit})" in told
    assert len(told) < 250
    # The next one is as good as any.
    assert world.subscribe() == ["confirm_subscription"]
    assert world.refused == 1


@in_loop
async def test_a_decision_within_the_limits_is_applied() -> None:
    world = World()
    heard = world.subscribe(
        streams=(*streams(9), Stream("x" * 20)),
        whisper_stream=Stream("w" * 20),
        cstate=keys(5),
        istate=keys(5, 8),
    )
    assert heard == ["confirm_subscription"]
    assert world.heard_on() == 10
    assert world.refused == 0


@in_loop
async def test_streams_of_several_answers_count_together_and_each_once() -> None:
    world = World()
    world.subscribe(streams=streams(8))
    world.perform(Decision(streams=streams(10)))
    assert (world.heard_on(), world.refused) == (10, 0)
    world.perform(Decision(streams=streams(1, 10), cstate=keys(1)))
    assert (world.heard_on(), world.refused) == (10, 1)
    assert world.client.session.environment.cstate is None
    world.perform(Decision(stop_all_streams=True, streams=streams(10, 20)))
    assert (world.heard_on(), world.refused) == (10, 1)


@in_loop
async def test_state_of_several_answers_counts_together_and_can_be_replaced() -> None:
    world = World()
    world.subscribe(istate=keys(4))
    for number in range(3):
        world.perform(Decision(istate={"other": str(number)}))
    assert world.refused == 0
    world.perform(Decision(istate={"one": "more"}))
    assert world.refused == 1
    assert len(world.client.session.environment.istate_of(ROOM)) == 5
    assert world.heart.counters.failed_client_msg_total == 1


@in_loop
async def test_a_client_accepted_beyond_the_limits_is_closed_and_ends_once() -> None:
    heart = Heart(limits=LIMITS)
    for decision in (Decision(cstate=keys(6)), Decision(identifiers="x" * 51)):
        heart.application.prepare("connect", decision)
        client = heart.connect()
        assert client.outbound.goodbye is not None
        client.leave()
        await settle()
    assert [environment.sid for environment, _ in heart.application.ended] == ["sid-1", "sid-2"]
    assert heart.counters.refused_answers_total == 2
    assert heart.counters.clients_num == 0


@in_loop
async def test_a_refused_client_stays_refused() -> None:
    heart = Heart(limits=LIMITS)
    heart.application.prepare("connect", Decision(verdict=Verdict.FAILURE, cstate=keys(6)))
    client = heart.connect()
    client.leave()
    await settle()
    assert heart.application.ended == []


@in_loop
async def test_an_unsubscribe_command_takes_effect_whatever_the_decision() -> None:
    world = World()
    world.subscribe(istate=keys(1))
    world.heart.application.prepare("unsubscribe", Decision(cstate=keys(6), streams=streams(11)))
    world.client.say("unsubscribe", ROOM)
    assert world.client.session.subscriptions == {}
    assert (world.heard_on(), world.refused) == (0, 1)
    assert world.client.session.environment.cstate is None


@in_loop
async def test_without_limits_everything_counts() -> None:
    world = World(ClientLimits())
    heard = world.subscribe(streams=(*streams(1_000), LONG), cstate=keys(100), istate=keys(9, 99))
    assert heard == ["confirm_subscription"]
    assert world.heard_on() == 1_001
