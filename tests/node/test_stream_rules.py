"""Presence and whispers on streams that have a rule."""

import asyncio

import pytest

from catenary.adapters.memory.presence import LocalPresence
from catenary.auth.streams import Grant
from catenary.broker.stream_rules import StreamRules
from catenary.config.stream_rules import StreamRule
from catenary.messages.commands import Join, Whisper
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.replies import Confirmed
from catenary.routing.streams import StreamChannel
from tests.parts.heart import Heart, in_loop, room

ROOM = room("a")
SILENT = StreamRule(match="*", whisper=False, presence=False)


def subscribed() -> Decision:
    stream = Stream("room/a")
    return Decision(
        streams=(stream,),
        replies=(Confirmed(ROOM),),
        whisper_stream=stream,
        presence_stream=stream,
    )


@in_loop
async def test_a_rule_ends_whispers_and_presence_for_clients_that_are_subscribed() -> None:
    presence = LocalPresence(ttl_s=9, clock=asyncio.get_running_loop().time)
    heart = Heart(presence=presence, rules=StreamRules())
    heart.application.prepare("subscribe", *[subscribed()] * 2)
    one, other = heart.member("a"), heart.member("a")
    heart.node.execute(one.session, Whisper(ROOM, "1"))
    heart.node.execute(one.session, Join(ROOM, "7", "{}"))
    seen = len(other.outbound.frames)
    assert (seen, presence.sessions) == (2, 1)
    heart.hub.rules.replace((SILENT,))
    heart.node.execute(other.session, Whisper(ROOM, "2"))
    heart.node.execute(other.session, Join(ROOM, "8", "{}"))
    assert (len(one.outbound.frames), presence.sessions) == (1, 1)


@pytest.mark.parametrize(
    ("granted", "rule", "expected"),
    [
        (False, None, None),
        (True, None, "s"),
        (False, True, "s"),
        (True, False, None),
    ],
)
def test_a_rule_comes_before_the_option_for_all_signed_streams(
    granted: bool, rule: bool | None, expected: str | None
) -> None:
    stream = Stream("s")
    channel = StreamChannel(
        lambda identifier: Grant(stream, whisper=granted, presence=granted),
        StreamRules((StreamRule(match="s", whisper=rule, presence=rule),)),
    )
    decision = channel.subscribe(Environment(Sid("u"), "", {}), Identifier("i"))
    assert (decision.whisper_stream, decision.presence_stream) == (expected, expected)
