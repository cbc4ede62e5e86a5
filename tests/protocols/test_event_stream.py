"""Events as EventSource reads them, and requests as it makes them."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import RequestRefused
from catenary.messages.commands import HistoryRequest, Perform, Subscribe
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Position
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    Ping,
    PresenceState,
    Rejected,
    Reply,
    Welcome,
)
from catenary.protocols.event_stream import (
    MESSAGES,
    RAW_MESSAGES,
    WHOLE_MESSAGES,
    commands_of,
    read_subscription,
)
from catenary.protocols.table import ClientProtocol
from tests.parts.events import Event, events_of

CHAT = Identifier('{"channel":"Chat"}')
AT_3 = (Stream("chat/1"), Position("e1", 3))
YEAR_MS = 31_536_000_000


def read(reply: Reply, protocol: ClientProtocol = MESSAGES) -> list[Event]:
    encoded = protocol.codec().encode(reply)
    return [] if encoded is None else events_of(encoded + b"\n\n")


@pytest.mark.parametrize(
    ("reply", "event"),
    [
        (Welcome(Sid("s")), Event("welcome", '{"type":"welcome","sid":"s"}')),
        (Ping(5), Event("ping", '{"type":"ping","message":5}')),
        (
            Confirmed(CHAT),
            Event(
                "confirm_subscription",
                '{"type":"confirm_subscription","identifier":"{\\"channel\\":\\"Chat\\"}"}',
            ),
        ),
        (
            Disconnected(Reason.REMOTE, False),
            Event(
                "disconnect",
                '{"type":"disconnect","reason":"remote","reconnect":false}',
                retry_ms=YEAR_MS,
            ),
        ),
        (
            Disconnected(Reason.SERVER_RESTART, True),
            Event("disconnect", '{"type":"disconnect","reason":"server_restart","reconnect":true}'),
        ),
        (Delivery(CHAT, b'{"a":1}'), Event("message", '{"a":1}')),
        (Delivery(CHAT, b'{"a":1}', "", *AT_3), Event("message", '{"a":1}', "3/chat/1/e1")),
        (Delivery(CHAT, b'"a\\nb\\r\\nc\\rd"'), Event("message", "a\nb\nc\nd")),
        (Delivery(CHAT, b'"\\ud83c"'), Event("message", '"\\ud83c"')),
        (
            Delivery(CHAT, b'"x"', "", Stream("a\nb/é 5%"), Position("e", 1)),
            Event("message", "x", "1/a%0Ab/%C3%A9 5%25/e"),
        ),
        (
            Delivery(CHAT, b'{"t":1}', "whisper"),
            Event(
                "whisper",
                '{"type":"whisper","identifier":"{\\"channel\\":\\"Chat\\"}","message":{"t":1}}',
            ),
        ),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_a_page_gets(reply: Reply, event: Event) -> None:
    assert read(reply) == [event]


def test_a_request_by_post_gets_whole_messages() -> None:
    (event,) = read(Delivery(CHAT, b'"x"', "", *AT_3), WHOLE_MESSAGES)
    assert event.id == "3/chat/1/e1"
    assert json.loads(event.data) == {
        "identifier": CHAT,
        "message": "x",
        "stream_id": "chat/1",
        "epoch": "e1",
        "offset": 3,
    }


@pytest.mark.parametrize("protocol", [MESSAGES, WHOLE_MESSAGES])
@pytest.mark.parametrize("kind", ["", "whisper"])
def test_json_on_several_lines_arrives_whole(protocol: ClientProtocol, kind: str) -> None:
    message = b'{\n "a": 1,\r\n\r\n "b": [\r2]\n}'
    (event,) = read(Delivery(CHAT, message, kind), protocol)
    told = json.loads(event.data)
    assert told.get("message", told) == {"a": 1, "b": [2]}


def test_members_on_several_lines_arrive_whole() -> None:
    members = tuple(Member(f"{n}", f'{{\r\n"n":\n{n}}}' + "\r\n" * 500) for n in range(100))
    pieces = list(MESSAGES.codec().encode_pieces(PresenceState(CHAT, 100, members)))
    assert len(pieces) > 1
    (event,) = events_of(b"".join(pieces) + b"\n\n")
    records = json.loads(event.data)["message"]["records"]
    assert [each["info"]["n"] for each in records] == list(range(100))


def test_a_raw_stream_has_messages_only_and_comments_for_proxies() -> None:
    codec = RAW_MESSAGES.codec()
    for reply in (Welcome(Sid("s")), Confirmed(CHAT), Rejected(CHAT), PresenceState(CHAT, 0, ())):
        assert codec.encode(reply) is None
    assert list(codec.encode_pieces(PresenceState(CHAT, 0, ()))) == []
    assert codec.encode(Ping(1)) == b":"
    assert codec.encode_delivery(Delivery(CHAT, b"1", "presence")) == b":"
    assert read(Delivery(CHAT, b"1"), RAW_MESSAGES) == [Event("message", "1")]
    assert codec.encode(Disconnected(Reason.REMOTE, False)) == b"retry: %d" % YEAR_MS
    assert codec.encode(Disconnected(Reason.SERVER_RESTART, True)) is None


def test_members_are_one_event() -> None:
    state = PresenceState(CHAT, 9, tuple(Member(f"{n}", f'"{"x" * 9_000}"') for n in range(9)))
    pieces = list(MESSAGES.codec().encode_pieces(state))
    (event,) = events_of(b"".join(pieces) + b"\n\n")
    assert event.type == "presence"
    assert len(json.loads(event.data)["message"]["records"]) == 9
    assert len(pieces) > 1


@given(text=st.text())
def test_any_text_arrives_with_its_lines(text: str) -> None:
    (event,) = read(Delivery(CHAT, json.dumps(text).encode()))
    expected = text.encode(errors="replace").decode() if json.dumps(text).isascii() else text
    lines = expected.replace("\r\n", "\n").replace("\r", "\n")
    if "\ud800" <= max(text, default="") <= "\udfff":
        return  # half an emoji is passed on as JSON
    assert event.data == lines


@pytest.mark.parametrize(
    ("query", "last", "identifier", "history"),
    [
        ("channel=Chat", "", '{"channel":"Chat"}', None),
        ("identifier=%7B%22channel%22%3A%22C%22%7D&channel=x", "", '{"channel":"C"}', None),
        ("stream=a%2Fb", "", '{"channel":"$pubsub","stream_name":"a/b"}', None),
        ("signed_stream=s--1", "", '{"channel":"$pubsub","signed_stream_name":"s--1"}', None),
        (
            "turbo_signed_stream_name=t",
            "",
            '{"channel":"Turbo::StreamsChannel","signed_stream_name":"t"}',
            None,
        ),
        ("channel=C&history_since=100", "", '{"channel":"C"}', HistoryRequest(100, {})),
        ("channel=C&history_since=0", "", '{"channel":"C"}', None),
        (
            "channel=C&history_since=9",
            "7/a/b/c/e1",
            '{"channel":"C"}',
            HistoryRequest(9, {"a/b/c": Position("e1", 7)}),
        ),
        (
            "channel=C",
            "7/a%0Ab/%C3%A9 5%25/e1",
            '{"channel":"C"}',
            HistoryRequest(None, {"a\nb/é 5%": Position("e1", 7)}),
        ),
        ("channel=C", "7/%FF/e1", '{"channel":"C"}', None),
        ("channel=C", "not ours", '{"channel":"C"}', None),
        ("channel=C", "x/y/z", '{"channel":"C"}', None),
        ("channel=C", f"{'9' * 40}/y/z", '{"channel":"C"}', None),
    ],
)
def test_what_a_page_asks_for(
    query: str, last: str, identifier: str, history: HistoryRequest | None
) -> None:
    protocol, subscribe = read_subscription(query, last)
    assert protocol is MESSAGES
    assert subscribe == Subscribe(Identifier(identifier), history)


@given(stream=st.text(st.characters(codec=None)), offset=st.integers(0, 10**19 - 1))
def test_an_id_comes_back_as_the_position_that_it_names(stream: str, offset: int) -> None:
    position = Position("e1", offset)
    (event,) = read(Delivery(CHAT, b"1", "", Stream(stream), position))
    assert event.id.isascii()
    assert event.id.isprintable()
    _, subscribe = read_subscription("channel=C", event.id)
    assert subscribe.history == HistoryRequest(None, {stream: position})


@pytest.mark.parametrize("raw", ["1", "true", "T", "y"])
def test_a_raw_stream_is_asked_for(raw: str) -> None:
    assert read_subscription(f"channel=C&raw={raw}", "")[0] is RAW_MESSAGES
    assert read_subscription("channel=C&raw=0", "")[0] is MESSAGES


@pytest.mark.parametrize(
    "query",
    [
        "",
        "raw=1",
        "channel=",
        "channel=C&history_since=soon",
        "channel=C&history_since=-1",
        "channel=C&history_since=" + "9" * 30,
        "&".join(f"a{n}=1" for n in range(200)),
    ],
)
def test_a_request_that_asks_for_nothing_known(query: str) -> None:
    with pytest.raises(RequestRefused, match="expected") as refused:
        read_subscription(query, "")
    assert refused.value.status == 400


def test_a_body_has_a_command_a_line() -> None:
    perform = '{"command":"message","identifier":"a","data":"{}"}\r'
    lines = ['{"command":"subscribe","identifier":"a"}', "", perform]
    assert list(commands_of("\n".join(lines).encode())) == [
        Subscribe(Identifier("a")),
        None,
        Perform(Identifier("a"), "{}"),
    ]
    assert list(commands_of(b"")) == []
    with pytest.raises(RequestRefused, match=r"line 2: expected .*") as refused:
        list(commands_of(b'{"command":"pong"}\n{'))
    assert refused.value.status == 400


@given(query=st.text(), last=st.text(), body=st.binary())
def test_whatever_is_asked_is_understood_or_refused(query: str, last: str, body: bytes) -> None:
    with contextlib.suppress(RequestRefused):
        read_subscription(query, last)
    with contextlib.suppress(RequestRefused):
        list(commands_of(body))
