"""The listeners of one stream: who shares a frame, who stands apart."""

import asyncio
import json

import pytest

from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import Position, Publication
from catenary.node.audience import Audience, json_of
from catenary.node.encoder import Encoder
from catenary.node.session import Session, Subscription
from catenary.ports import Outbound
from catenary.protocols.actioncable import ActionCableJson
from catenary.wire.framing import WEBSOCKET_TEXT
from tests.parts.heart import MemoryOutbound, payloads

STREAM = Stream("s")
TEXT = Encoder(ActionCableJson(), WEBSOCKET_TEXT)
OTHER = Encoder(ActionCableJson(), WEBSOCKET_TEXT)


def listener(identifier: str = "i", encoder: Encoder = TEXT) -> Subscription:
    environment = Environment(sid=Sid("sid"), url="", headers={})
    subscription = Subscription(
        Session(environment, encoder, MemoryOutbound()), Identifier(identifier)
    )
    subscription.add_stream(STREAM)
    return subscription


def audience_of(*listeners: Subscription) -> Audience:
    audience = Audience(STREAM)
    for each in listeners:
        audience.join(each)
    return audience


def message(data: str, offset: int | None = None) -> Publication:
    position = None if offset is None else Position("e", offset)
    return Publication(STREAM, data, position=position)


def test_one_frame_for_each_identifier_and_encoder() -> None:
    crowd = [
        *(listener("a") for _ in range(3)),
        *(listener("b") for _ in range(2)),
        listener("a", OTHER),
    ]
    frames = list(audience_of(*crowd).frames([message("1")]))
    assert sorted(len(outbounds) for _, outbounds in frames) == [1, 2, 3]
    served = [outbound for _, outbounds in frames for outbound in outbounds]
    assert {id(each) for each in served} == {id(each.session.outbound) for each in crowd}


def test_a_batch_is_a_row_of_frames() -> None:
    ((frame, _),) = audience_of(listener("a")).frames([message("1", 7), message("2")])
    first, second = map(json.loads, payloads(frame))
    assert first == {
        "identifier": "a",
        "message": 1,
        "stream_id": "s",
        "epoch": "e",
        "offset": 7,
    }
    assert second == {"identifier": "a", "message": 2}


def test_a_crowd_is_a_row_that_is_made_anew_only_where_it_changed() -> None:
    crowd = [listener() for _ in range(5)]
    audience = audience_of(*crowd)

    def row() -> list[Outbound]:
        ((_, outbounds),) = audience.frames([message("1")])
        return outbounds

    begun = row()
    assert begun == [each.session.outbound for each in crowd]
    assert row() is begun
    audience.part(crowd[1])
    audience.join(late := listener())
    # Whoever goes on with the row that it has begun is not disturbed.
    assert begun == [each.session.outbound for each in crowd]
    expected = [*crowd[:1], *crowd[2:], late]
    assert row() == [each.session.outbound for each in expected]


def test_size_counts_everybody_wherever_they_are() -> None:
    first, second, third = listener(), listener(), listener()
    audience = audience_of(first, second)
    audience.join_apart(third)
    audience.set_apart(first)
    assert audience.size == 3
    for each, left in ((first, 2), (second, 1), (third, 0)):
        audience.part(each)
        assert audience.size == left
    assert not audience.groups
    assert not audience.apart


def test_who_is_set_apart_keeps_what_waits_for_the_group() -> None:
    staying, leaving = listener(), listener()
    audience = audience_of(staying, leaving)
    audience.waiting.append(message("1"))
    audience.set_apart(leaving)
    assert audience.apart[leaving] == [message("1")]
    ((_, outbounds),) = audience.frames([message("1")])
    assert outbounds == [staying.session.outbound]


def test_who_comes_back_joins_its_group_when_nothing_waits_for_that() -> None:
    audience = audience_of(listener(), apart := listener())
    audience.set_apart(apart)
    audience.is_due = True
    assert audience.bring_back(apart) == []
    assert audience.apart == {apart: None}
    audience.rejoin()
    assert not audience.apart
    assert audience.size == 2
    ((_, outbounds),) = audience.frames([message("1")])
    assert len(outbounds) == 2


def test_who_comes_back_alone_leaves_the_others_apart() -> None:
    audience = audience_of(first := listener(), second := listener())
    for each in (first, second):
        audience.set_apart(each)
    audience.apart[first] = [message("1")]
    assert audience.bring_back(first) == [message("1")]
    assert audience.apart == {second: []}
    assert audience.size == 2


def test_rejoining_leaves_those_apart_who_still_read() -> None:
    audience = audience_of(reading := listener(), done := listener())
    for each in (reading, done):
        audience.set_apart(each)
    audience.apart[done] = None
    audience.rejoin()
    assert audience.apart == {reading: []}


def test_who_is_served_at_once_may_be_kept_for_again() -> None:
    audience = audience_of(listener(), apart := listener())
    audience.set_apart(apart)
    audience.apart[apart] = None
    audience.keep(apart)
    kept = audience.apart[apart]
    assert kept == []
    kept.append(message("1"))
    audience.keep(apart)
    assert audience.apart[apart] == [message("1")]


def test_stepping_out_passes_over_who_left_or_gave_up() -> None:
    async def step_out() -> None:
        loop = asyncio.get_running_loop()
        audience = audience_of(staying := listener(), left := listener())
        waits = {each: loop.create_future() for each in (staying, left)}
        audience.stepping_out = list(waits.items())
        left.remove_streams()
        audience.part(left)
        waits[left].cancel()
        audience.step_out()
        assert waits[staying].done()
        assert list(audience.apart) == [staying]
        assert audience.stepping_out == []

    asyncio.run(step_out())


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ('{"a": 1}', b'{"a": 1}'),
        ("text", b'"text"'),
        ("null", b'"null"'),
        (" null ", b'" null "'),
        ("", b'""'),
        ("[" * 100_000, None),
    ],
)
def test_data_becomes_json(data: str, sent: bytes | None) -> None:
    assert json_of(data) == (json.dumps(data).encode() if sent is None else sent)
