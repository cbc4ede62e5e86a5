"""The listeners of one stream: which of them share a frame, and which are detached."""

import asyncio
import json

import pytest

from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import Position, Publication
from catenary.metrics.counters import Counters
from catenary.node.audience import Audience, json_of
from catenary.node.detached import Detached
from catenary.node.encoder import Encoder
from catenary.node.session import Session, Subscription
from catenary.ports import Outbound
from catenary.protocols.actioncable_json import ActionCableJson
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
    assert sorted(len(outbounds) for _, outbounds, _ in frames) == [1, 2, 3]
    served = [outbound for _, outbounds, _ in frames for outbound in outbounds]
    assert {id(each) for each in served} == {id(each.session.outbound) for each in crowd}


def test_a_batch_is_a_row_of_frames() -> None:
    ((frame, _, _),) = audience_of(listener("a")).frames([message("1", 7), message("2")])
    first, second = map(json.loads, payloads(frame))
    assert first == {
        "identifier": "a",
        "message": 1,
        "stream_id": "s",
        "epoch": "e",
        "offset": 7,
    }
    assert second == {"identifier": "a", "message": 2}


def test_the_recipients_of_a_group_are_listed_again_only_where_it_changed() -> None:
    group = [listener() for _ in range(5)]
    audience = audience_of(*group)

    def recipients() -> list[Outbound]:
        ((_, outbounds, _),) = audience.frames([message("1")])
        return outbounds

    begun = recipients()
    assert begun == [each.session.outbound for each in group]
    assert recipients() is begun
    audience.remove(group[1])
    audience.join(late := listener())
    # A delivery that has begun with this list is not disturbed.
    assert begun == [each.session.outbound for each in group]
    expected = [*group[:1], *group[2:], late]
    assert recipients() == [each.session.outbound for each in expected]


def test_size_counts_all_listeners_detached_or_not() -> None:
    first, second, third = listener(), listener(), listener()
    audience = audience_of(first, second)
    audience.join_detached(third, Detached())
    audience.detach(first, Counters())
    assert audience.size == 3
    for each, left in ((first, 2), (second, 1), (third, 0)):
        audience.remove(each)
        assert audience.size == left
    assert not audience.groups
    assert not audience.detached


def test_waiting_messages_are_buffered_for_a_listener_that_is_detached() -> None:
    staying, leaving = listener(), listener()
    audience = audience_of(staying, leaving)
    audience.waiting.append(message("1"))
    audience.detach(leaving, Counters())
    assert audience.detached[leaving].take() == [message("1")]
    ((_, outbounds, _),) = audience.frames([message("1")])
    assert outbounds == [staying.session.outbound]


def test_a_waiting_message_that_excludes_a_listener_is_not_buffered_for_it() -> None:
    leaving = listener()
    audience = audience_of(listener(), leaving)
    own = Publication(STREAM, "own", exclude_socket=leaving.session.sid)
    audience.waiting.extend((own, message("1")))
    audience.detach(leaving, Counters())
    assert audience.detached[leaving].take() == [message("1")]


def test_a_listener_is_reattached_when_nothing_waits_for_its_group() -> None:
    audience = audience_of(listener(), apart := listener())
    audience.detach(apart, Counters())
    assert audience.detached[apart].take() == []
    audience.reattach_all()
    assert not audience.detached
    assert audience.size == 2
    ((_, outbounds, _),) = audience.frames([message("1")])
    assert len(outbounds) == 2


def test_listeners_stay_detached_while_their_history_is_read_or_ahead() -> None:
    reading, ahead, done = listener(), listener(), listener()
    audience = audience_of(reading, ahead, done)
    for each in (reading, ahead, done):
        audience.detach(each, Counters())
    for each in (ahead, done):
        audience.detached[each].take()
    audience.detached[ahead].sent_up_to = Position("e", 7)
    audience.reattach_all()
    assert list(audience.detached) == [reading, ahead]
    assert audience.size == 3


def test_a_pending_detach_passes_over_listeners_that_have_left() -> None:
    async def detach_pending() -> None:
        loop = asyncio.get_running_loop()
        audience = audience_of(staying := listener(), left := listener())
        waits = {each: loop.create_future() for each in (staying, left)}
        audience.pending_detach = list(waits.items())
        left.remove_streams()
        audience.remove(left)
        waits[left].cancel()
        audience.detach_pending(Counters())
        assert waits[staying].done()
        assert list(audience.detached) == [staying]
        assert audience.pending_detach == []

    asyncio.run(detach_pending())


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
