"""Channels without an application: the decisions that follow from a grant."""

import pytest

from catenary.auth.streams import Grant
from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.replies import Confirmed, Rejected
from catenary.routing.streams import NOT_GRANTED, StreamChannel

CLIENT = Environment(Sid("s"), "ws://test/", {})
CHAT = Stream("chat/1")
NAME = Identifier('{"channel":"$pubsub","stream_name":"chat/1"}')


def subscribe(grant: Grant | None) -> Decision:
    return StreamChannel(lambda identifier: grant).subscribe(CLIENT, NAME)


@pytest.mark.parametrize("whisper", [True, False])
@pytest.mark.parametrize("presence", [True, False])
def test_granted_streams_are_confirmed(*, whisper: bool, presence: bool) -> None:
    assert subscribe(Grant(CHAT, whisper, presence)) == Decision(
        streams=(CHAT,),
        replies=(Confirmed(NAME),),
        whisper_stream=CHAT if whisper else None,
        presence_stream=CHAT if presence else None,
        disconnect_wanted=False,
    )


def test_streams_without_a_grant_are_rejected() -> None:
    assert subscribe(None) == Decision(
        verdict=Verdict.FAILURE,
        replies=(Rejected(NAME),),
        disconnect_wanted=False,
        error=NOT_GRANTED,
    )


def test_the_identifier_decides() -> None:
    channel = StreamChannel(lambda identifier: Grant(CHAT) if identifier == NAME else None)
    assert channel.subscribe(CLIENT, NAME).verdict is Verdict.SUCCESS
    assert channel.subscribe(CLIENT, Identifier("{}")).verdict is Verdict.FAILURE


def test_unsubscribing_is_silent() -> None:
    decision = StreamChannel(lambda identifier: None).unsubscribe(CLIENT, NAME)
    assert decision == Decision(stop_all_streams=True)


def test_there_are_no_actions() -> None:
    with pytest.raises(AppFailed, match="expected no actions"):
        StreamChannel(lambda identifier: Grant(CHAT)).perform(CLIENT, NAME, "{}")
