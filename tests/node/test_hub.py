"""Recipients of publications and their order; the test takes the turns of the loop by hand."""

import asyncio
import json
from collections import ChainMap, deque
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import pytest

from catenary.adapters.none import NoInterest
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import Publication
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery
from catenary.metrics.counters import Counters
from catenary.node.delivery_queue import WAITING_LIMIT, WRITE_BYTES
from catenary.node.encoder import Encoder
from catenary.node.hub import TURN, Hub
from catenary.node.session import Session, Subscription
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.wire.frames import frame
from catenary.wire.framing import WEBSOCKET_TEXT, Framing
from tests.parts.heart import MemoryOutbound

NEWS = Stream("news")


class Member:
    """A session with one subscription."""

    def __init__(self, session: Session, identifier: str, outbound: MemoryOutbound) -> None:
        self.session = session
        self.subscription = Subscription(session, Identifier(identifier))
        session.subscriptions[Identifier(identifier)] = self.subscription
        self.outbound = outbound

    @property
    def heard(self) -> list[Any]:
        """The published messages."""
        return [each["message"] for each in self.outbound.heard]


class House:
    """A hub whose loop is a queue."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.turns: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.hub = Hub(
            self.counters, lambda call, *args: self.turns.append((call, args)), NoInterest()
        )
        self.encoder = Encoder(ActionCableJson(), WEBSOCKET_TEXT)
        self._numbers = count()

    def member(
        self,
        *streams: Stream,
        identifier: str = "id",
        sid: str = "",
        identifiers: str = "guest",
        encoder: Encoder | None = None,
    ) -> Member:
        environment = Environment(Sid(sid or f"sid-{next(self._numbers)}"), "", {}, identifiers)
        outbound = MemoryOutbound()
        member = Member(
            Session(environment, encoder or self.encoder, outbound), identifier, outbound
        )
        self.hub.sessions.add(member.session)
        for stream in streams:
            self.hub.listen(member.subscription, stream)
        return member

    def publish(self, message: object, stream: Stream = NEWS, **fields: Any) -> None:
        self.hub.deliver(Publication(stream, json.dumps(message), **fields))

    def turn(self) -> None:
        """One turn of the loop."""
        for _ in range(len(self.turns)):
            call, args = self.turns.popleft()
            call(*args)

    def run(self) -> None:
        while self.turns:
            self.turn()


# To whom


def test_a_stream_without_listeners() -> None:
    house = House()
    house.publish("hello")
    assert house.counters.broadcast_msg_total == 1
    assert house.counters.server_msg_total == 0


def test_one_listener() -> None:
    house = House()
    member, other = house.member(NEWS), house.member(Stream("else"))
    house.publish({"text": "é"})
    assert member.outbound.heard == [{"identifier": "id", "message": {"text": "é"}}]
    assert other.heard == []
    assert house.counters.server_msg_total == 1
    assert house.counters.data_sent_total == len(member.outbound.frames[0])


def test_an_audience_of_one_identifier_shares_one_frame() -> None:
    house = House()
    members = [house.member(NEWS) for _ in range(3)]
    house.publish("hello")
    house.run()
    assert [member.heard for member in members] == [["hello"]] * 3
    assert len({id(member.outbound.frames[0]) for member in members}) == 1
    assert house.counters.server_msg_total == 3


def test_each_listener_receives_it_under_its_own_identifier() -> None:
    house = House()
    members = [house.member(NEWS, identifier=name) for name in ("a", "b", "b", "c")]
    house.publish(1)
    house.run()
    heard = [member.outbound.heard for member in members]
    assert heard == [[{"identifier": name, "message": 1}] for name in ("a", "b", "b", "c")]


def test_each_encoder_writes_its_own_frame() -> None:
    house = House()
    shouting = Encoder(ActionCableJson(), Framing(lambda payload: frame(1, payload.upper()), iter))
    quiet, loud = house.member(NEWS), house.member(NEWS, encoder=shouting)
    house.publish("hello")
    house.run()
    assert quiet.heard == ["hello"]
    assert loud.outbound.heard == [{"IDENTIFIER": "ID", "MESSAGE": "HELLO"}]


class SilentCodec(ActionCableJson):
    """A codec without a message for publications."""

    def encode_delivery(self, delivery: Delivery) -> bytes:
        return None  # type: ignore[return-value]


@pytest.mark.parametrize("listeners", [1, 3])
def test_a_protocol_without_a_message_for_it_gets_none(listeners: int) -> None:
    house = House()
    silent = Encoder(SilentCodec(), WEBSOCKET_TEXT)
    members = [house.member(NEWS, encoder=silent) for _ in range(listeners)]
    house.publish("hello")
    house.run()
    assert [member.outbound.frames for member in members] == [[]] * listeners
    assert house.counters.server_msg_total == 0
    house.member(NEWS)
    house.publish("again")
    house.run()
    assert house.counters.server_msg_total == 1


def test_two_subscriptions_of_one_session_hear_it_each() -> None:
    house = House()
    member = house.member(NEWS, identifier="a")
    second = Subscription(member.session, Identifier("b"))
    house.hub.listen(second, NEWS)
    house.publish(1)
    house.run()
    assert [each["identifier"] for each in member.outbound.heard] == ["a", "b"]


@pytest.mark.parametrize("others", [0, 1, 2])
def test_the_excluded_session_receives_nothing_under_any_identifier(others: int) -> None:
    house = House()
    author = house.member(NEWS, sid="author")
    house.hub.listen(Subscription(author.session, Identifier("second")), NEWS)
    public = [house.member(NEWS) for _ in range(others)]
    house.publish(1, exclude_socket=Sid("author"))
    house.publish(2, exclude_socket=Sid("nobody"))
    house.run()
    assert author.heard == [2, 2]
    assert [member.heard for member in public] == [[1, 2]] * others


def test_the_excluded_session_alone_on_a_stream() -> None:
    house = House()
    author = house.member(NEWS, sid="author")
    house.publish(1, exclude_socket=Sid("author"))
    assert author.heard == []
    assert house.counters.server_msg_total == 0


def test_a_kind_becomes_the_type_of_the_message() -> None:
    house = House()
    one, crowd = house.member(Stream("one")), [house.member(NEWS) for _ in range(2)]
    for stream in (Stream("one"), NEWS):
        house.publish(1, stream, kind="whisper")
    house.run()
    for member in (one, *crowd):
        assert member.outbound.heard == [{"type": "whisper", "identifier": "id", "message": 1}]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("hello", "hello"),
        ('"hello"', "hello"),
        ('{"a":1', '{"a":1'),
        ("", ""),
        ("null", "null"),
        (" null\n", " null\n"),
        ("NaN", "NaN"),
        ("true", True),
        ('{"a":[1,{"b":null}]}', {"a": [1, {"b": None}]}),
        ('line\nwith "quotes" and é', 'line\nwith "quotes" and é'),
        ("[" * 300_000 + "]" * 300_000, "[" * 300_000 + "]" * 300_000),
    ],
)
@pytest.mark.parametrize("listeners", [1, 2])
def test_data_that_is_no_json_is_a_string(data: str, message: object, listeners: int) -> None:
    house = House()
    members = [house.member(NEWS) for _ in range(listeners)]
    house.hub.deliver(Publication(NEWS, data))
    house.run()
    assert [member.heard for member in members] == [[message]] * listeners


# Joining and leaving


def test_listening_twice_is_listening_once() -> None:
    house = House()
    member, other = house.member(NEWS), house.member(NEWS)
    for each in (member, other):
        house.hub.listen(each.subscription, NEWS)
    house.publish(1)
    house.run()
    assert (member.heard, other.heard) == ([1], [1])
    assert member.subscription.streams == (NEWS,)
    house.hub.unlisten(member.subscription, NEWS)
    house.publish(2)
    house.run()
    assert (member.heard, other.heard) == ([1], [1, 2])


def test_leaving_a_stream_that_one_is_not_on_does_nothing() -> None:
    house = House()
    member = house.member()
    house.member(NEWS)
    house.hub.unlisten(member.subscription, NEWS)
    house.hub.unlisten(member.subscription, Stream("none"))
    assert house.hub.streams_num == 1


def test_leaving_all_streams() -> None:
    house = House()
    member = house.member(NEWS, Stream("b"), Stream("c"))
    stays = house.member(NEWS)
    house.hub.unlisten_all(member.subscription)
    assert member.subscription.streams == ()
    assert house.hub.streams_num == 1
    house.publish(1)
    house.publish(1, Stream("b"))
    house.run()
    assert (member.heard, stays.heard) == ([], [1])


def test_two_sessions_with_one_sid_are_still_two() -> None:
    house = House()
    first, second = house.member(NEWS, sid="twin"), house.member(NEWS, sid="twin")
    house.publish(1)
    house.hub.forget(first.session)
    house.publish(2)
    house.run()
    assert (first.heard, second.heard) == ([1], [1, 2])
    house.publish(3, exclude_socket=Sid("twin"))
    house.hub.forget(second.session)
    house.run()
    assert second.heard == [1, 2]
    assert house.counters.clients_num == 0


def slots(hub: Hub) -> dict[str, object]:
    sessions = hub.sessions
    return {
        "streams": hub._streams,
        "sessions": dict(ChainMap(*sessions._shards)),
        "identifiers": sessions._by_identifiers,
    }


def test_nothing_is_kept_after_all_clients_have_left() -> None:
    house = House()
    members = [
        house.member(NEWS, Stream(f"own-{n}"), identifier=f"id-{n % 3}", identifiers=f"u{n % 4}")
        for n in range(50)
    ]
    assert house.hub.streams_num == 51
    assert house.hub.sessions.identifiers_num == 4
    assert house.counters.clients_num == 50
    house.publish(1)
    for member in members:
        house.hub.forget(member.session)
    house.run()
    assert slots(house.hub) == {"streams": {}, "sessions": {}, "identifiers": {}}
    assert house.counters.clients_num == 0


# Order


def crowded(house: House, size: int = 2 * TURN + TURN // 2) -> list[Member]:
    return [house.member(NEWS, identifier=f"id-{n % 2}") for n in range(size)]


def test_a_large_delivery_is_cut_into_turns() -> None:
    house = House()
    members = crowded(house)
    house.publish(1)
    served = [sum(bool(member.outbound.frames) for member in members)]
    while house.turns:
        house.turn()
        served.append(sum(bool(member.outbound.frames) for member in members))
    in_a_turn = [after - before for before, after in pairwise([0, *served])]
    assert max(in_a_turn) <= TURN
    assert in_a_turn[:2] >= [TURN - 2, TURN - 2]  # each of two frames takes its share, too
    assert served[2] == len(members)


def test_fewer_are_served_in_a_turn_where_frames_are_large() -> None:
    house = House()
    members = crowded(house, 100)
    house.publish("x" * (100 * WRITE_BYTES))
    served = [sum(bool(member.outbound.frames) for member in members)]
    while house.turns:
        house.turn()
        served.append(sum(bool(member.outbound.frames) for member in members))
    in_a_turn = [after - before for before, after in pairwise([0, *served])]
    assert max(in_a_turn) <= TURN // 100
    assert served[-1] == len(members)


def test_encoding_for_each_identifier_takes_its_share_of_a_turn() -> None:
    house = House()
    members = [house.member(NEWS, identifier=f"id-{n}") for n in range(TURN)]
    for number in range(100):
        house.publish(number)
    sent = [house.counters.server_msg_total]
    while house.turns:
        house.turn()
        sent.append(house.counters.server_msg_total)
    in_a_turn = [after - before for before, after in pairwise(sent)]
    assert max(in_a_turn) <= TURN + 100
    assert sent[-1] == len(members) * 100


def test_a_burst_of_small_deliveries_is_cut_into_turns_too() -> None:
    house = House()
    streams = [Stream(f"s{n}") for n in range(30)]
    members = [house.member(stream) for stream in streams for _ in range(100)]
    for stream in streams:
        house.publish(1, stream)
    assert TURN - 30 <= sum(len(member.outbound.frames) for member in members) <= TURN
    house.run()
    assert all(member.heard == [1] for member in members)


def test_order_is_kept_whatever_is_published_meanwhile() -> None:
    house = House()
    members = crowded(house)
    for message in range(40):
        house.publish(message)
        if message % 7 == 3:
            house.publish(f"not for {message}", exclude_socket=members[message].session.sid)
        if message % 5 == 4:
            house.turn()
    house.run()
    expected: list[object] = []
    for message in range(40):
        expected += [message, f"not for {message}"] if message % 7 == 3 else [message]
    for position, member in enumerate(members):
        mine = [m for m in expected if m != f"not for {position}"]
        assert member.heard == mine
    assert house.counters.server_msg_total == len(expected) * len(members) - 6


def test_a_busy_stream_does_not_keep_a_quiet_one_waiting() -> None:
    house = House()
    crowded(house)
    quiet = [house.member(Stream("quiet")) for _ in range(2)]
    for message in range(50):
        house.publish(message)
    house.publish("psst", Stream("quiet"))
    for _ in range(6):
        house.turn()
    assert [member.heard for member in quiet] == [["psst"]] * 2


def test_clients_that_join_leave_or_close_during_a_delivery_do_not_disturb_others() -> None:
    house = House()
    members = crowded(house)
    house.publish("first")
    leaver, closer, stayers = members[-1], members[-2], members[:-2]
    house.publish("second")
    house.hub.forget(leaver.session)
    closer.outbound.close(house.encoder.goodbye(Reason.REMOTE))
    heard_before = closer.heard
    late = house.member(NEWS, identifier="id-0")
    later = house.member(NEWS, identifier="new")
    house.publish("third")
    house.run()
    for member in stayers:
        assert member.heard == ["first", "second", "third"]
    assert "third" not in leaver.heard
    assert closer.heard == heard_before
    for member in (late, later):
        # What was under way when it joined, it may hear or not; never out of order.
        assert member.heard in (["third"], ["second", "third"], ["first", "second", "third"])


def test_all_clients_leave_during_a_delivery() -> None:
    house = House()
    members = crowded(house)
    house.publish("first")
    house.publish("second")
    for member in members:
        house.hub.forget(member.session)
        member.outbound.close(house.encoder.goodbye(Reason.REMOTE))
    house.run()
    assert house.hub.streams_num == 0
    again = [house.member(NEWS) for _ in range(2)]
    house.publish("third")
    house.run()
    assert [member.heard for member in again] == [["third"]] * 2


def test_a_client_that_returns_to_an_abandoned_stream_receives_messages_in_order() -> None:
    house = House()
    members = crowded(house)
    house.publish("first")
    back = next(
        each for each in members if not each.heard and each.subscription.identifier == "id-0"
    )
    for member in members:
        house.hub.unlisten(member.subscription, NEWS)
    house.hub.listen(back.subscription, NEWS)
    house.publish("second")
    house.run()
    assert back.heard in (["second"], ["first", "second"])


def test_publishers_are_asked_to_wait_where_deliveries_do_not_keep_up() -> None:
    async def publish() -> None:
        house = House()
        crowded(house)
        for message in range(WAITING_LIMIT):
            assert house.hub.caught_up() is None
            house.publish(message, exclude_socket=Sid("nobody"))
        house.publish("one more", exclude_socket=Sid("nobody"))
        caught_up = house.hub.caught_up()
        assert caught_up is not None
        waiting = asyncio.ensure_future(caught_up)
        house.turn()
        house.run()
        await asyncio.wait_for(waiting, 1)
        assert house.hub.caught_up() is None

    asyncio.run(publish())


class Interests(NoInterest):
    """The streams that have listeners, each once."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []

    def listen(self, stream: Stream) -> None:
        self.streams.append(stream)

    def unlisten(self, stream: Stream) -> None:
        self.streams.remove(stream)


def test_a_follower_gets_what_listeners_get_and_the_stream_lasts_as_long_as_either() -> None:
    house, interest = House(), Interests()
    house.hub = Hub(house.counters, lambda call, *args: None, interest)
    followed: list[Publication] = []
    house.hub.follow(NEWS, followed.append)
    assert (interest.streams, house.hub.streams_num) == ([NEWS], 1)
    house.publish(1)
    listener = house.member(NEWS)
    assert (interest.streams, house.hub.streams_num) == ([NEWS], 1)
    house.publish(2)
    house.publish(3, Stream("other"))
    assert listener.heard == [2]
    assert [each.data for each in followed] == ["1", "2"]
    house.hub.unfollow(NEWS)
    house.publish(4)
    assert (listener.heard, len(followed), interest.streams) == ([2, 4], 2, [NEWS])
    house.hub.follow(NEWS, followed.append)
    house.hub.unlisten(listener.subscription, NEWS)
    assert interest.streams == [NEWS]
    house.hub.unfollow(NEWS)
    assert (interest.streams, house.hub.streams_num) == ([], 0)
