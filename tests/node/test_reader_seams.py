"""What the node offers protocols with a reader for each session: bound members, the last message, later identifiers."""

from typing import Any

from catenary.adapters.memory.history import LocalHistory
from catenary.adapters.memory.presence import LocalPresence
from catenary.messages.commands import (
    Command,
    HistoryRequest,
    Identify,
    Join,
    ReadPresence,
    Subscribe,
)
from catenary.messages.decisions import Decision
from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Publication
from catenary.messages.replies import HistoryConfirmed
from catenary.node.answers import Answers
from catenary.node.encoder import Encoder
from catenary.node.session import Traits
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.wire.framing import WEBSOCKET_TEXT
from tests.parts.heart import NEVER, Client, Heart, in_loop, room, settle

ROOM = room("s")


class House:
    """A node with a history and members, whose clients are all granted the stream of their room."""

    def __init__(self) -> None:
        self.now = 0.0
        self.presence = LocalPresence(ttl_s=10, clock=lambda: self.now)
        self.history = LocalHistory(limit=100, ttl_s=100, epoch="e", clock=lambda: self.now)
        self.heart = Heart(presence=self.presence, history=self.history)

    def member(self, name: str, *, is_bound: bool = True) -> Client:
        client = self.heart.connect()
        stream = Stream("s")
        self.heart.application.prepare(
            "subscribe", Decision(streams=(stream,), presence_stream=stream)
        )
        join = Join(ROOM, name, '{"n":1}', is_bound)
        self.execute(client, Subscribe(ROOM, None, join))
        return client

    def execute(self, client: Client, command: Command) -> None:
        self.heart.node.execute(client.session, command)

    def keep(self, *data: str) -> None:
        for each in data:
            self.history.append(Publication(Stream("s"), each))


def changes(client: Client) -> list[tuple[Any, ...]]:
    return [
        (each["message"]["type"], each["message"]["id"])
        for each in client.outbound.take()
        if each.get("type") == "presence" and each["message"]["type"] != "info"
    ]


@in_loop
async def test_a_bound_member_does_not_hear_of_itself_and_leaves_with_its_connection() -> None:
    house = House()
    ann, ben = house.member("ann"), house.member("ben")
    assert changes(ann) == [("join", "ben")]
    assert changes(ben) == []
    ben.leave()
    assert changes(ann) == [("leave", "ben")]
    assert [each.id for each in house.presence.members(Stream("s"))] == ["ann"]


@in_loop
async def test_the_last_connection_of_a_bound_member_leaves_for_it() -> None:
    house = House()
    ann, first, second = house.member("ann"), house.member("ben"), house.member("ben")
    assert changes(ann) == [("join", "ben")]
    first.leave()
    assert changes(ann) == []
    second.leave()
    assert changes(ann) == [("leave", "ben")]


@in_loop
async def test_others_are_not_notified_of_new_info_of_a_bound_member() -> None:
    house = House()
    ann, ben = house.member("ann"), house.member("ben")
    ann.outbound.take()
    house.execute(ben, Join(ROOM, "ben", '{"n":2}', is_bound=True))
    assert changes(ann) == []
    assert [each.info for each in house.presence.members(Stream("s"))] == ['{"n":1}', '{"n":2}']


@in_loop
async def test_other_members_stay_for_their_time_to_live() -> None:
    house = House()
    ann, ben = house.member("ann"), house.member("ben", is_bound=False)
    assert changes(ben) == [("join", "ben")]
    ben.leave()
    await settle()
    assert changes(ann) == [("join", "ben")]
    house.now += 11
    house.heart.node.tick()
    assert ("leave", "ben") in changes(ann)


@in_loop
async def test_members_are_read_after_the_own_join_and_before_the_history() -> None:
    house = House()
    house.keep('"old"', '"last"')
    client = house.heart.connect()
    client.outbound.take()
    stream = Stream("s")
    house.heart.application.prepare(
        "subscribe", Decision(streams=(stream,), presence_stream=stream)
    )
    join = Join(ROOM, "ann", "null", is_bound=True)
    last = HistoryRequest(since_s=0, newest=1)
    house.execute(client, Subscribe(ROOM, last, join, reads_members=True))
    members, message, confirmed = client.outbound.take()
    assert [each["id"] for each in members["message"]["records"]] == ["ann"]
    assert message["message"] == "last"
    assert confirmed["type"] == "confirm_history"


def test_an_answer_says_whether_there_were_messages() -> None:
    class Codec(ActionCableJson):
        def encode(self, reply: Any) -> bytes | None:
            return str(reply.is_empty).encode() if type(reply) is HistoryConfirmed else None

    encoder = Encoder(Codec(), WEBSOCKET_TEXT)
    empty: Any = Answers().answer(encoder, ROOM, [()])
    full: Any = Answers().answer(encoder, ROOM, [(Publication(Stream("s"), "1"),)])
    assert empty.row.endswith(b"True")
    assert full.row.endswith(b"False")


@in_loop
async def test_a_reader_of_the_session_replaces_that_of_its_codec() -> None:
    heart = Heart()
    read: list[bytes] = []

    def reader(payload: bytes) -> Command:
        read.append(payload)
        return Identify('{"user":7}')

    client = heart.connect(traits=Traits(NEVER, decode=reader))
    other = heart.connect()
    client.say_raw("anything")
    assert read == [b"anything"]
    assert client.session.environment.identifiers == '{"user":7}'
    assert client.session.encoder is other.session.encoder
    other.say("subscribe", Identifier(ROOM))
    assert len(read) == 1


@in_loop
async def test_members_can_be_read_by_command() -> None:
    house = House()
    ann = house.member("ann")
    house.execute(ann, ReadPresence(ROOM))
    assert ann.outbound.take()[-1]["message"]["total"] == 1
