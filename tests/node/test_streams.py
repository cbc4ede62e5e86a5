"""Public streams: every decision as a table."""

import json

import pytest

from catenary.errors import AppFailed
from catenary.messages.decisions import Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.replies import Confirmed, Rejected
from catenary.node.streams import PublicStreams

CLIENT = Environment(Sid("s"), "ws://test/", {})


def test_the_stream_that_is_named_may_be_heard_and_whispered_to() -> None:
    identifier = Identifier('{"channel":"$pubsub","stream_name":"chat/1 é"}')
    decision = PublicStreams(is_allowed=True).subscribe(CLIENT, identifier)
    assert decision.verdict is Verdict.SUCCESS
    assert decision.streams == ("chat/1 é",)
    assert decision.whispers_to == "chat/1 é"
    assert decision.replies == (Confirmed(identifier),)
    assert decision.disconnect_wanted is False


@pytest.mark.parametrize(
    "identifier",
    [
        '{"channel":"$pubsub"}',
        '{"channel":"$pubsub","stream_name":""}',
        '{"channel":"$pubsub","stream_name":7}',
        '{"channel":"$pubsub","stream_name":null}',
        '{"channel":"$pubsub","signed_stream_name":"abc--def"}',
        '{"channel":"$pubsub","stream_name":"a","signed_stream_name":"abc--def"}',
        "garbage",
        json.dumps({"channel": "$pubsub"})[:-1],
        '{"x":' + "[" * 30_000 + "]" * 30_000 + "}",
    ],
)
def test_everything_else_is_rejected(identifier: str) -> None:
    decision = PublicStreams(is_allowed=True).subscribe(CLIENT, Identifier(identifier))
    assert decision.verdict is Verdict.FAILURE
    assert decision.streams == ()
    assert decision.whispers_to is None
    assert decision.replies == (Rejected(Identifier(identifier)),)


def test_nothing_is_public_where_that_is_not_allowed() -> None:
    identifier = Identifier('{"channel":"$pubsub","stream_name":"a"}')
    decision = PublicStreams(is_allowed=False).subscribe(CLIENT, identifier)
    assert decision.verdict is Verdict.FAILURE
    assert decision.streams == ()


def test_unsubscribing_is_silent() -> None:
    decision = PublicStreams(is_allowed=True).unsubscribe(CLIENT, Identifier("{}"))
    assert decision.stop_all_streams
    assert not decision.replies
    assert not decision.transmissions


def test_there_are_no_actions() -> None:
    with pytest.raises(AppFailed, match="expected no actions"):
        PublicStreams(is_allowed=True).perform(CLIENT, Identifier("{}"), "{}")
