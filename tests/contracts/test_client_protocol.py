"""The contracts of ClientProtocol and Codec, run over every protocol of the table, and those of event streams.

A protocol joins by a row of ``PROTOCOLS``, with a function that reads what its codec writes.
"""

import contextlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import pytest

from catenary.errors import CommandError
from catenary.messages.commands import CloseConnection, DirectReply, Perform
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.presence import Member
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    Failed,
    Ping,
    Pong,
    PresenceState,
    Rejected,
    Reply,
    Welcome,
)
from catenary.ports import SLICE_BYTES, Codec, IntroducedCodec, Introduction
from catenary.protocols import event_stream, long_polling, table
from catenary.protocols.graphql import GraphqlRules
from catenary.protocols.graphql_protocols import graphql_protocols
from catenary.protocols.ocpp_messages import V16, V21, V201
from catenary.protocols.table import ClientProtocol
from catenary.wire.frames import Close, FrameReader, close_frame, unmask
from tests.parts.binary_cable import EXTENDED_PROTOBUF, MESSAGE_PACK, PROTOBUF
from tests.parts.events import events_of
from tests.parts.introduced_protocol import INTRODUCED
from tests.parts.pusher import pusher_protocol
from tests.parts.stations import station_protocol
from tests.parts.strict_protocol import STRICT

Written = dict[str, Any]
"""A message of the server: ``type``, ``identifier``, ``message`` as Action Cable names them."""


def whole(delivery: Delivery) -> Written:
    return {"identifier": delivery.identifier, "message": json.loads(delivery.message)}


def unwrapped(delivery: Delivery) -> Written:
    """The message alone, unless it has a type of its own."""
    return whole(delivery) if delivery.kind else {"message": json.loads(delivery.message)}


def unwrapped_or_nothing(delivery: Delivery) -> Written:
    return {} if delivery.kind else unwrapped(delivery)


def read_event(payload: bytes) -> Written:
    """A message that has a type is its data; of another the data is what was published: JSON, or a text."""
    events = events_of(payload + b"\n\n")
    if not events:
        return {}
    ((kind, data, *_),) = events
    if kind != "message":
        return json.loads(data)  # type: ignore[no-any-return]
    try:
        return {"message": json.loads(data)}
    except ValueError:
        return {"message": data}


def read_call(payload: bytes) -> Written:
    """A command for a charging station."""
    if not payload:
        return {}
    _, message_id, command, content = json.loads(payload)
    return {"message": {"id": message_id, "command": command, "payload": content}}


def command_or_nothing(delivery: Delivery) -> Written:
    """Stations get only messages that are commands."""
    return {}


def read_whole_event(payload: bytes) -> Written:
    (event,) = events_of(payload + b"\n\n")
    return json.loads(event.data)  # type: ignore[no-any-return]


def read_pusher(payload: bytes) -> Written:
    """A publication without an event is the event ``message``, whose data is a string."""
    if not payload:
        return {}
    event = json.loads(payload)
    assert isinstance(event["data"], str)
    try:
        data = json.loads(event["data"])
    except ValueError:
        data = event["data"]
    return {"identifier": event["channel"], "message": data}


def read_graphql(payload: bytes) -> Written:
    """The last of the messages that are written at once."""
    return json.loads(payload.split(b"\x1e")[-1]) if payload else {}


def nothing(delivery: Delivery) -> Written:
    """For protocols with messages for operations only: see their own tests."""
    return {}


GRAPHQL = graphql_protocols(GraphqlRules())


class Case(NamedTuple):
    """One protocol, how a client reads its payloads, and what is no message of it."""

    protocol: ClientProtocol
    read: Callable[[bytes], Written]
    garbage: Sequence[bytes]
    shown: Callable[[Delivery], Written] = whole
    """The parts of a delivery that a client receives."""
    fatal: Sequence[Sequence[bytes]] = ()
    """Messages of a client, of which the last ends the connection."""
    introductions: Sequence[bytes] = ()
    """Messages with which a client introduces itself, if the protocol has such."""
    is_introduced_once: bool = True
    """Whether a second introduction ends the connection, and a late one has a close code of its own."""


BOOTS = [b'[2,"1","BootNotification",{"chargePointModel":"M"}]', b'[2,"2","Heartbeat",{}]']
PUSHER = pusher_protocol()

REPLIES: list[Reply] = [
    Welcome(Sid("s")),
    Ping(1),
    Pong(),
    Confirmed(Identifier('{"channel":"é"}')),
    Rejected(Identifier("x")),
    Failed(Perform(Identifier("x"), "{}")),
    Disconnected(Reason.SERVER_RESTART, True),
    Delivery(Identifier("x"), b"1", "whisper"),
]

JSON_GARBAGE = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"{",
    b"1",
    b"[" * 100_000,
    b'{"command":"subscribe","identifier":' + b"[" * 50_000,
    b'{"command":{}}',
    b'{"command":"no such command"}',
]

GARBAGE = [b"", b"\x00", b"\xff\xfe", b"\xc1" * 9, b"\x91" * 100_000, b"\x12\x01\x01"]

PROTOCOLS = {
    "actioncable-v1-json": Case(table.ACTION_CABLE_JSON, json.loads, JSON_GARBAGE),
    "actioncable-v1-ext-json": Case(table.ACTION_CABLE_EXTENDED_JSON, json.loads, JSON_GARBAGE),
    "actioncable-v1-msgpack": Case(table.ACTION_CABLE_MESSAGE_PACK, MESSAGE_PACK.read, GARBAGE),
    "actioncable-v1-ext-msgpack": Case(
        table.ACTION_CABLE_EXTENDED_MESSAGE_PACK, MESSAGE_PACK.read, GARBAGE
    ),
    "actioncable-v1-protobuf": Case(table.ACTION_CABLE_PROTOBUF, PROTOBUF.read, GARBAGE),
    "actioncable-v1-ext-protobuf": Case(
        table.ACTION_CABLE_EXTENDED_PROTOBUF, EXTENDED_PROTOBUF.read, GARBAGE
    ),
    "actioncable-unsupported": Case(table.ACTION_CABLE_UNSUPPORTED, json.loads, JSON_GARBAGE),
    "events": Case(event_stream.MESSAGES, read_event, JSON_GARBAGE, unwrapped),
    "raw events": Case(event_stream.RAW_MESSAGES, read_event, JSON_GARBAGE, unwrapped_or_nothing),
    "events of whole messages": Case(event_stream.WHOLE_MESSAGES, read_whole_event, JSON_GARBAGE),
    "long polling": Case(long_polling.ACTION_CABLE_POLLS, json.loads, JSON_GARBAGE),
    "strict-v1": Case(
        STRICT,
        json.loads,
        (),
        fatal=[
            [b"\xff"],
            [b"[" * 100_000],
            [b'{"type":"subscribe"}'],
            [b'{"type":"init"}', b'{"type":"init"}'],
            [b'{"type":"init"}', *[b'{"type":"subscribe","id":"%b"}' % (b"x" * 200)] * 2],
        ],
    ),
    "graphql-transport-ws": Case(
        GRAPHQL.choose(["graphql-transport-ws"])[0],
        read_graphql,
        (),
        nothing,
        fatal=[
            *([each] for each in JSON_GARBAGE),
            [b'{"type":"subscribe","id":"1","payload":{"query":"{a}"}}'],
            [b'{"type":"connection_init"}', b'{"type":"connection_init"}'],
            [b'{"type":"connection_init"}', b'{"type":"next","id":"1"}'],
        ],
        introductions=[
            b'{"type":"connection_init"}',
            b'{"type":"connection_init","payload":null}',
            b'{"type":"connection_init","payload":{"jid":"\\ud83c"}}',
        ],
    ),
    "graphql-ws": Case(
        GRAPHQL.choose(["graphql-ws"])[0],
        read_graphql,
        (),
        nothing,
        fatal=[
            *([each] for each in JSON_GARBAGE),
            [b'{"type":"start","id":"1","payload":{"query":"{a}"}}'],
            [b'{"type":"connection_init"}', b'{"type":"connection_init"}'],
        ],
        introductions=[
            b'{"type":"connection_init"}',
            b'{"type":"connection_init","payload":{"jid":1}}',
        ],
    ),
    "no GraphQL protocol": Case(
        GRAPHQL.choose([])[0], read_graphql, (), nothing, fatal=[[b""], [b"{"]]
    ),
    "introduced-v1": Case(
        INTRODUCED,
        json.loads,
        (),
        fatal=[[b"\xff"], [b'{"type":"init"}', b'{"type":"init"}']],
        introductions=[
            b'{"type":"init"}',
            b'{"type":"init","params":{"a":1}}',
            b'{"type":"hello"}',
        ],
    ),
    "ocpp1.6": Case(
        station_protocol(V16),
        read_call,
        [*JSON_GARBAGE, b"[]", b'[3,"1",{}]', b'[2,1,"Reset",{}]'],
        command_or_nothing,
        introductions=BOOTS,
        is_introduced_once=False,
    ),
    "ocpp2.0.1": Case(
        station_protocol(V201),
        read_call,
        [b'[3,"1",{}]', b'[4,"1"]'],
        command_or_nothing,
        introductions=BOOTS,
        is_introduced_once=False,
    ),
    "ocpp2.1": Case(
        station_protocol(V21),
        read_call,
        [b'[3,"1",{}]', b'[6,"1"]'],
        command_or_nothing,
        introductions=BOOTS,
        is_introduced_once=False,
    ),
    "pusher-7": Case(PUSHER, read_pusher, ()),
}

ROWS = [
    each
    for module in (table, event_stream, long_polling)
    for each in vars(module).values()
    if isinstance(each, ClientProtocol)
]


@pytest.fixture(params=list(PROTOCOLS))
def case(request: pytest.FixtureRequest) -> Case:
    return PROTOCOLS[request.param]


@pytest.fixture
def codec(case: Case) -> Codec:
    return case.protocol.codec()


def test_every_row_of_the_table_is_here() -> None:
    """Others depend on options or on the client's request, or belong to these tests."""
    assert [each.protocol for each in PROTOCOLS.values() if each.protocol in ROWS] == ROWS


def test_subprotocols_are_tokens_and_name_one_protocol_each() -> None:
    names = [name for protocol in ROWS for name in protocol.subprotocols]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names)


def test_a_codec_is_shared_unless_it_has_state(case: Case) -> None:
    protocol = case.protocol
    assert (protocol.codec() is protocol.codec()) is not protocol.has_state


def test_each_session_has_a_reader_of_its_own(case: Case) -> None:
    """It answers garbage or refuses it; nothing else is raised. The codec that encodes is shared."""
    reader = case.protocol.reader
    if reader is None:
        return
    first, second = (reader(Environment(Sid(f"{number}.1"), "/", {})) for number in (1, 2))
    assert first is not second
    assert not case.protocol.has_state
    for garbage in (*JSON_GARBAGE, *GARBAGE):
        with contextlib.suppress(CommandError):
            assert isinstance(first(garbage), DirectReply)


def test_what_is_not_a_command_is_a_command_error(case: Case, codec: Codec) -> None:
    for garbage in case.garbage:
        with pytest.raises(CommandError, match="expected"):
            codec.decode(garbage)


@pytest.mark.parametrize(
    "name", [name for name, each in PROTOCOLS.items() if not each.protocol.is_binary]
)
@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_a_text_protocol_writes_utf8(name: str, reply: Reply) -> None:
    (PROTOCOLS[name].protocol.codec().encode(reply) or b"").decode()


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_every_reply_is_bytes_or_nothing_and_always_the_same(codec: Codec, reply: Reply) -> None:
    encoded = codec.encode(reply)
    assert encoded is None or isinstance(encoded, bytes)
    assert codec.encode(reply) == encoded


def test_a_transmission_says_what_the_application_wrote(case: Case, codec: Codec) -> None:
    written = codec.encode_transmission('{"identifier":"x","message":{"as":"it came é"}}')
    delivery = Delivery(Identifier("x"), '{"as":"it came é"}'.encode())
    assert written is not None or not case.shown(delivery)
    assert case.read(written or b"").items() >= case.shown(delivery).items()


@pytest.mark.parametrize("kind", ["", "whisper"])
@pytest.mark.parametrize(
    "message", [b"1", b'"x"', b"{}", b'{\r\n"a":\n\n1\r}', '{"é":["\U0001f600"]}'.encode()]
)
def test_both_ways_to_encode_a_delivery_agree(
    case: Case, codec: Codec, message: bytes, kind: str
) -> None:
    delivery = Delivery(Identifier('{"channel":"a \\"b\\""}'), message, kind)
    assert codec.encode(delivery) == codec.encode_delivery(delivery)
    read = case.read(codec.encode_delivery(delivery) or b"")
    assert read.items() >= case.shown(delivery).items()


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_every_goodbye_is_a_legal_close_frame(codec: Codec, reason: Reason) -> None:
    goodbye = codec.goodbye(reason)
    assert goodbye.reason is reason
    sent = close_frame(goodbye.code, goodbye.text)
    assert read_close(sent) == Close(goodbye.code, goodbye.text), (
        "whole, and a code that may be sent"
    )


def read_close(sent: bytes) -> object:
    """A close frame of the server, as a strict reader sees it."""
    (close,) = FrameReader(0).receive(
        bytes((sent[0], sent[1] | 0x80)) + b"mask" + unmask(sent[2:], b"mask")
    )
    return close


def test_a_fatal_message_ends_the_connection_with_a_code_that_may_be_sent(case: Case) -> None:
    for messages in case.fatal:
        codec = case.protocol.codec()
        *_, decoded = read_all(codec, case, messages)
        fatal_end(decoded)


def test_a_client_introduces_itself_once(case: Case) -> None:
    for introduction in case.introductions:
        codec = introduced(case)
        said = codec.introduce(introduction)
        assert isinstance(said, Introduction)
        assert all(name == name.lower() for name in said.headers)
        if said.is_command:
            codec.decode(introduction)
        if not case.is_introduced_once:
            continue
        (again,) = fatal_end(codec.decode(case.introductions[0]))
        assert again.code != introduced(case).goodbye(Reason.IDLE_TIMEOUT).code


def test_other_messages_before_the_introduction_are_answered_or_fatal(case: Case) -> None:
    if not case.introductions:
        return
    others = [message for messages in case.fatal for message in messages]
    for message in (*JSON_GARBAGE, *GARBAGE, *others, case.introductions[0][:-1]):
        try:
            said = introduced(case).introduce(message)
        except CommandError:
            continue
        if isinstance(said, Introduction):
            assert message in case.introductions
            continue
        assert all(isinstance(each, DirectReply) for each in said[:-1])
        if isinstance(said[-1], CloseConnection):
            fatal_end(said)


def test_a_late_introduction_has_a_close_code_of_its_own(case: Case) -> None:
    if case.introductions and case.is_introduced_once:
        assert introduced(case).goodbye(Reason.IDLE_TIMEOUT).code >= 4000


def read_all(codec: Any, case: Case, messages: Sequence[bytes]) -> list[Any]:
    """What a codec makes of a client's messages, the first of which may introduce it."""
    is_known = not case.introductions
    read = []
    for message in messages:
        read.append(codec.decode(message) if is_known else codec.introduce(message))
        is_known = is_known or isinstance(read[-1], Introduction)
    return read


def introduced(case: Case) -> IntroducedCodec:
    return cast("IntroducedCodec", case.protocol.codec())


def fatal_end(decoded: Any) -> tuple[CloseConnection]:
    """The last of the commands, which ends the connection."""
    *before, last = decoded if isinstance(decoded, tuple) else (decoded,)
    assert isinstance(last, CloseConnection)
    assert not any(isinstance(each, CloseConnection) for each in before)
    sent = read_close(close_frame(last.code, last.text))
    assert isinstance(sent, Close)
    assert sent.code == last.code
    assert last.text.startswith(sent.reason), "cut to what fits"
    return (last,)


def test_a_session_with_state_of_its_own_does_not_change_another(case: Case) -> None:
    for messages in case.fatal:
        used, fresh = case.protocol.codec(), case.protocol.codec()
        *_, after = read_all(used, case, messages)
        (alone,) = read_all(fresh, case, messages[-1:])
        if len(messages) > 1:
            assert after != alone


MEMBERS = tuple(Member(f"é{number}", f'{{"n":{number}}}') for number in range(1_000))


@pytest.mark.parametrize(
    "state",
    [
        PresenceState(Identifier("x"), 0, ()),
        PresenceState(Identifier("x"), 3, None),
        PresenceState(Identifier("é"), 1, MEMBERS[:1]),
        PresenceState(Identifier("x"), len(MEMBERS), MEMBERS),
        PresenceState(Identifier("x"), 2, (Member("a", f'"{"x" * 100_000}"'), *MEMBERS[:1])),
    ],
    ids=["empty", "count", "one", "many", "large"],
)
def test_the_pieces_of_a_reply_are_the_reply(codec: Codec, state: PresenceState) -> None:
    assert b"".join(codec.encode_pieces(state)) == (codec.encode(state) or b"")


def test_a_reply_that_is_no_more_than_a_slice_is_one_piece(codec: Codec) -> None:
    for state in (
        PresenceState(Identifier("x"), 0, ()),
        PresenceState(Identifier("x"), 3, MEMBERS[:3]),
    ):
        encoded = codec.encode(state)
        assert list(codec.encode_pieces(state)) == ([] if encoded is None else [encoded])


def test_many_members_are_written_in_pieces_of_a_slice(codec: Codec) -> None:
    state = PresenceState(Identifier("x"), 1_000, MEMBERS)
    sizes = [len(each) for each in codec.encode_pieces(state)]
    assert len(sizes) > 5 or codec.encode(state) is None
    assert max(sizes, default=0) < 2 * SLICE_BYTES
