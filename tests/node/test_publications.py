"""Publications and whispers: parsed, counted, sent; invalid ones refused."""

import asyncio
import json

import pytest

from catenary.errors import PublicationError
from catenary.messages.decisions import Decision
from catenary.messages.names import Stream
from catenary.node.delivery_queue import WAITING_LIMIT
from catenary.node.hub import TURN
from tests.parts.heart import Client, Heart, confirming, in_loop, room, settle

# Whispers


def whisperer(heart: Heart, *, to: str | None) -> Client:
    client = heart.connect()
    whisper_stream = None if to is None else Stream(to)
    decision = confirming(room("1"))
    heart.application.prepare(
        "subscribe",
        Decision(streams=decision.streams, replies=decision.replies, whisper_stream=whisper_stream),
    )
    client.subscribe(room("1"))
    return client


@in_loop
async def test_a_whisper_reaches_the_other_clients_and_not_the_application() -> None:
    heart = Heart()
    ann, bob = whisperer(heart, to="1"), whisperer(heart, to="1")
    asked = len(heart.application.calls)
    ann.say("whisper", room("1"), data={"typing": True})
    await settle()
    assert (ann.messages, bob.messages) == ([], [{"typing": True}])
    assert len(heart.application.calls) == asked


@in_loop
async def test_a_client_that_whispers_faster_than_deliveries_waits() -> None:
    heart = Heart()
    ann, bob = whisperer(heart, to="1"), whisperer(heart, to="1")
    for _ in range(TURN):
        whisperer(heart, to="1")
    said = list(range(WAITING_LIMIT + 10))
    for each in said:
        ann.say("whisper", room("1"), data=each)
    assert ann.session.inbox is not None
    while len(bob.messages) < len(said):
        await asyncio.wait_for(settle(), 1)
    assert bob.messages == said
    assert heart.counters.held_publishers_total > 0


@in_loop
async def test_without_a_whisper_stream_whispers_are_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heart = Heart()
    ann, bob = whisperer(heart, to=None), whisperer(heart, to="1")
    for _ in range(3):
        ann.say("whisper", room("1"), data=1)
    await settle()
    assert bob.messages == []
    (line,) = caplog.messages
    assert "Whisper ignored" in line
    assert "--streams_whisper" in line
    ann.say("whisper", room("unknown"), data=1)
    await settle()
    assert bob.messages == []


# Publications


@in_loop
async def test_publish_takes_a_message_a_batch_and_a_command() -> None:
    heart = Heart()
    client = heart.member("1")
    assert heart.node.publications.publish('{"stream":"1","data":"1"}') is None
    heart.node.publications.publish('[{"stream":"1","data":"2"},{"stream":"2","data":"3"}]')
    identifiers = client.session.environment.identifiers
    heart.node.publications.publish(
        json.dumps({"command": "disconnect", "payload": {"identifier": identifiers}}).encode()
    )
    assert client.messages == [1, 2]
    assert client.outbound.goodbye is not None
    assert heart.counters.publications_total == 4
    assert heart.counters.failed_broadcast_msg_total == 0


@in_loop
async def test_an_invalid_publication_is_counted_and_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heart = Heart()
    with pytest.raises(PublicationError, match="expected"):
        heart.node.publications.publish(b'{"stream":' + b"x" * 10_000)
    assert heart.counters.failed_broadcast_msg_total == 1
    assert heart.counters.publications_total == 0
    assert caplog.text == "", "its source is logged by the caller"
