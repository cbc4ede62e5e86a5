"""Action Cable in JSON, as clients write and read it, byte for byte."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.adapters.none import NoInterest
from catenary.errors import CommandError
from catenary.messages.commands import (
    ClientPing,
    ClientPong,
    Command,
    Join,
    Perform,
    ReadPresence,
    Subscribe,
    Unsubscribe,
    Whisper,
)
from catenary.messages.environment import Environment
from catenary.messages.lenient_json import without_surrogates
from catenary.messages.names import Identifier, Sid, Stream
from catenary.messages.publications import Publication, parse
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    Ping,
    Pong,
    Rejected,
    Reply,
    Welcome,
)
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoder
from catenary.node.hub import Hub
from catenary.node.session import Session, Subscription
from catenary.ports import Goodbye
from catenary.protocols.actioncable_json import SUBPROTOCOL, UNSUPPORTED, ActionCableJson
from catenary.wire.framing import Framing

CHAT = Identifier('{"channel":"ChatChannel","id":42}')
CHAT_JSON = r'"{\"channel\":\"ChatChannel\",\"id\":42}"'

protocol = ActionCableJson()


def written(text: str) -> bytes:
    return text.encode()


# Messages of the server


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        pytest.param(Welcome(Sid("a-1")), '{"type":"welcome","sid":"a-1"}', id="welcome"),
        pytest.param(Ping(1795373743), '{"type":"ping","message":1795373743}', id="ping"),
        pytest.param(
            Ping(1795373743000000001),
            '{"type":"ping","message":1795373743000000001}',
            id="ping in ns",
        ),
        pytest.param(Pong(), '{"type":"pong"}', id="pong"),
        pytest.param(
            Confirmed(CHAT),
            f'{{"type":"confirm_subscription","identifier":{CHAT_JSON}}}',
            id="confirmed",
        ),
        pytest.param(
            Rejected(CHAT),
            f'{{"type":"reject_subscription","identifier":{CHAT_JSON}}}',
            id="rejected",
        ),
        pytest.param(
            Disconnected(Reason.REMOTE, reconnect=False),
            '{"type":"disconnect","reason":"remote","reconnect":false}',
            id="disconnected by somebody",
        ),
        pytest.param(
            Disconnected(Reason.SERVER_RESTART, reconnect=True),
            '{"type":"disconnect","reason":"server_restart","reconnect":true}',
            id="disconnected at a restart",
        ),
        pytest.param(
            Disconnected(Reason.UNAUTHORIZED, reconnect=False),
            '{"type":"disconnect","reason":"unauthorized","reconnect":false}',
            id="disconnected without a right",
        ),
        pytest.param(
            Delivery(CHAT, b'{ "text" : "hi" }'),
            f'{{"identifier":{CHAT_JSON},"message":{{ "text" : "hi" }}}}',
            id="delivery, its JSON untouched",
        ),
        pytest.param(
            Delivery(CHAT, b"1", kind="presence"),
            f'{{"type":"presence","identifier":{CHAT_JSON},"message":1}}',
            id="delivery of a kind",
        ),
        pytest.param(
            Delivery(Identifier('a"\\\n\x00é☃😀'), b'""', kind='k"'),
            r'{"type":"k\"","identifier":"a\"\\\n\u0000é☃😀","message":""}',
            id="delivery, escaped",
        ),
        pytest.param(
            Confirmed(Identifier("not JSON é")),
            '{"type":"confirm_subscription","identifier":"not JSON é"}',
            id="confirmed, no JSON",
        ),
    ],
)
def test_writes_a_reply(reply: Reply, text: str) -> None:
    assert protocol.encode(reply) == written(text)


def test_transmissions_are_sent_unchanged() -> None:
    assert protocol.encode_transmission('{ "any" : "é"}') == '{ "any" : "é"}'.encode()


# Messages of clients


@pytest.mark.parametrize(
    ("text", "command"),
    [
        pytest.param(
            f'{{"command":"subscribe","identifier":{CHAT_JSON}}}', Subscribe(CHAT), id="subscribe"
        ),
        pytest.param(
            f'{{"identifier":{CHAT_JSON},"command":"unsubscribe"}}',
            Unsubscribe(CHAT),
            id="unsubscribe, keys in another order",
        ),
        pytest.param(
            f'{{"command":"message","identifier":{CHAT_JSON},"data":"{{\\"action\\":\\"a\\"}}"}}',
            Perform(CHAT, '{"action":"a"}'),
            id="message",
        ),
        pytest.param(
            '{"command":"message","identifier":"a","data":"no JSON"}',
            Perform(Identifier("a"), "no JSON"),
            id="message with data that is no JSON",
        ),
        pytest.param(
            '{"command":"message","identifier":"a","data":""}',
            Perform(Identifier("a"), ""),
            id="message with empty data",
        ),
        pytest.param(
            '{"command":"subscribe","identifier":"no JSON"}',
            Subscribe(Identifier("no JSON")),
            id="identifier that is no JSON",
        ),
        pytest.param(
            '{"command":"subscribe","identifier":"{ \\"channel\\" : \\"A\\" }"}',
            Subscribe(Identifier('{ "channel" : "A" }')),
            id="identifier byte for byte",
        ),
        pytest.param('{"command":"subscribe"}', Subscribe(Identifier("")), id="no identifier"),
        pytest.param(
            '{"command":"subscribe","identifier":"\\u0000\\ud83d\\ude00"}',
            Subscribe(Identifier("\x00😀")),
            id="escapes",
        ),
        pytest.param(
            ' {"command":"subscribe","identifier":"a","y":{"since":1},"x":[1,{}]}\n',
            Subscribe(Identifier("a")),
            id="unknown keys",
        ),
        pytest.param(
            '{"command":"whisper","identifier":"a","data":{"typing": [1, "é"]}}',
            Whisper(Identifier("a"), '{"typing":[1,"é"]}'),
            id="whisper an object",
        ),
        pytest.param(
            '{"command":"whisper","identifier":"a","data":"é"}',
            Whisper(Identifier("a"), '"é"'),
            id="whisper a string",
        ),
        pytest.param(
            '{"command":"whisper","identifier":"a"}',
            Whisper(Identifier("a"), "null"),
            id="whisper nothing",
        ),
        pytest.param(
            '{"command":"whisper","identifier":"a","data":123456789012345678901234567890}',
            Whisper(Identifier("a"), "123456789012345678901234567890"),
            id="whisper a large number",
        ),
        pytest.param('{"command":"ping"}', ClientPing(), id="ping"),
        pytest.param('{"command":"pong"}', ClientPong(), id="pong"),
        pytest.param('{"command":"pong","data":5}', ClientPong(), id="pong with data"),
        pytest.param("null", None, id="nothing"),
    ],
)
def test_reads_a_command(text: str, command: Command | None) -> None:
    assert protocol.decode(written(text)) == command


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" ", id="blank"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"subscribe", id="no JSON"),
        pytest.param(b'{"command":"ping"} x', id="something behind"),
        pytest.param(b'{"command":"ping"}{"command":"ping"}', id="two"),
        pytest.param(b"{'command':'ping'}", id="single quotes"),
        pytest.param(b'{"command":"ping",}', id="comma at the end"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'[{"command":"ping"}]', id="array of commands"),
        pytest.param(b'"ping"', id="string"),
        pytest.param(b"5", id="number"),
        pytest.param(b"true", id="boolean"),
        pytest.param(b"{}", id="no command"),
        pytest.param(b'{"command":""}', id="empty command"),
        pytest.param(b'{"command":"Subscribe"}', id="command in capitals"),
        pytest.param(b'{"command":"join","identifier":"a"}', id="unknown command"),
        pytest.param(b'{"command":5}', id="command that is a number"),
        pytest.param(b'{"command":"subscribe","identifier":{"channel":"A"}}', id="object"),
        pytest.param(b'{"command":"subscribe","identifier":5}', id="identifier: number"),
        pytest.param(b'{"command":"message","identifier":"a"}', id="message without data"),
        *(
            pytest.param(b'{"command":"message","identifier":"a","data":%b}' % data, id=f"{data!r}")
            for data in (b"null", b"5", b"true", b"{}", b"[]", b'{"action":"a"}')
        ),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b'{"command":"\xff"}', id="command not in UTF-8"),
        pytest.param(b'{"command":"subscribe","identifier":"\xed\xa0\x80"}', id="raw surrogate"),
        pytest.param(b'{"command":"subscribe","identifier":"a\nb"}', id="control character"),
        pytest.param(b'{"command":"whisper","data":NaN}', id="NaN"),
        pytest.param(b"[" * 60_000, id="depth, open"),
        pytest.param(b'{"a":' * 10_000, id="depth of objects"),
        pytest.param(b'{"x":%b%b}' % (b"[" * 30_000, b"]" * 30_000), id="depth, unknown key"),
        pytest.param(
            b'{"command":"whisper","data":%b%b}' % (b"[" * 300_000, b"]" * 300_000), id="depth"
        ),
        pytest.param(b"\xef\xbb\xbf" + b'{"command":"ping"}', id="byte order mark"),
    ],
)
def test_refuses_invalid_commands(payload: bytes) -> None:
    with pytest.raises(CommandError, match=r"^expected "):
        protocol.decode(payload)


@pytest.mark.parametrize(
    ("payload", "command"),
    [
        (b'{"command":"subscribe","identifier":"\\ud800"}', Subscribe(Identifier("\ufffd"))),
        (b'{"command":"subscribe","identifier":"\\udc00x"}', Subscribe(Identifier("\ufffdx"))),
        (
            b'{"command":"message","identifier":"a","data":"\\ud800\\ud83d\\ude00"}',
            Perform(Identifier("a"), "\ufffd\U0001f600"),
        ),
        (
            b'{"command":"whisper","data":{"\\ud800":["\\\\ud800"]}}',
            Whisper(Identifier(""), '{"\ufffd":["\\\\ud800"]}'),
        ),
        (b'{"command":"whisper","data":1e999}', Whisper(Identifier(""), "1e999")),
        (b'{"command":"whisper","data":%b}' % (b"9" * 5000), Whisper(Identifier(""), "9" * 5000)),
        (
            b'{"command":"join","presence":{"id":7,"info":{"far":-1e400}}}',
            Join(Identifier(""), "7", '{"far":-1e400}'),
        ),
        (
            b'{"command":"presence","data":{"return_records":false,"x":"\\ud800"}}',
            ReadPresence(Identifier(""), False),
        ),
        (b'{"command":"ping","x":[1e999,"\\ud800"]}', ClientPing()),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_reads_json_that_json_parse_accepts(payload: bytes, command: Command) -> None:
    assert protocol.decode(payload) == command


@pytest.mark.parametrize("levels", [2_000, 9_900])
def test_whispers_and_members_may_be_nested_deeply(levels: int) -> None:
    deep = '{"a":[' * (levels // 2) + "]}" * (levels // 2)
    whisper = b'{"command":"whisper","identifier":"i","data":%b}' % deep.encode()
    assert protocol.decode(whisper) == Whisper(Identifier("i"), deep)
    join = b'{"command":"join","identifier":"i","presence":{"id":"a","info":%b}}' % deep.encode()
    assert protocol.decode(join) == Join(Identifier("i"), "a", deep)
    with pytest.raises(CommandError, match="data as a string"):
        protocol.decode(b'{"command":"message","identifier":"i","data":%b}' % deep.encode())


@pytest.mark.parametrize("around", range(-12, 4))
def test_a_whisper_at_the_edge_of_depth_is_read_or_refused(around: int) -> None:
    """Reading may go deeper than writing: the depth is searched for, as it is the interpreter's."""
    low, high = 1, 30_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_read(middle) else (low, middle)

    assert isinstance(_is_read(low + around), bool)


def _is_read(depth: int) -> bool:
    try:
        protocol.decode(b'{"command":"whisper","data":%b%b}' % (b"[" * depth, b"]" * depth))
    except CommandError:
        return False
    return True


def test_an_error_repeats_little_of_a_long_command() -> None:
    with pytest.raises(CommandError) as caught:
        protocol.decode(b'{"command":"%b"}' % (b"x" * 60_000))

    assert len(str(caught.value)) < 100


def test_subprotocols() -> None:
    assert (SUBPROTOCOL, UNSUPPORTED) == ("actioncable-v1-json", "actioncable-unsupported")


# Properties

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
commands = st.fixed_dictionaries(
    {},
    optional={
        "command": st.sampled_from(
            ["subscribe", "unsubscribe", "message", "whisper", "ping", "pong", "x"]
        )
        | anything,
        "identifier": st.text() | anything,
        "data": st.text() | anything,
        "x": anything,
    },
)
# json.dumps writes halves of surrogate pairs as escapes.
nasty_text = st.text(st.characters() | st.characters(categories=["Cs"]))


@given(payload=st.binary() | commands.map(lambda said: json.dumps(said).encode()))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    try:
        command = protocol.decode(payload)
    except CommandError:
        return
    assert command is None or isinstance(command, Command)


@given(text=nasty_text, data=nasty_text)
def test_any_text_is_read_as_it_was_meant(text: str, data: str) -> None:
    said = {"command": "message", "identifier": text, "data": data}
    command = protocol.decode(json.dumps(said).encode())
    # Two halves side by side are one character, in JSON.
    text, data = (without_surrogates(json.loads(json.dumps(each))) for each in (text, data))
    assert command == Perform(Identifier(text), data)


@given(identifier=st.text(), message=anything, kind=st.text())
def test_a_delivery_has_the_content_of_its_publication(
    identifier: str, message: Any, kind: str
) -> None:
    sent = protocol.encode_delivery(
        Delivery(Identifier(identifier), json.dumps(message).encode(), kind)
    )

    expected = {"identifier": identifier, "message": message}
    assert json.loads(sent) == (expected | {"type": kind} if kind else expected)


# Goodbyes

# Disconnect reasons of docs/misc/action_cable_protocol.md (docs.anycable.io) and anycable-go.
REASONS = {
    Reason.UNAUTHORIZED: "unauthorized",
    Reason.TOKEN_EXPIRED: "token_expired",
    Reason.SERVER_RESTART: "server_restart",
    Reason.REMOTE: "remote",
    Reason.IDLE_TIMEOUT: "idle_timeout",
    Reason.NO_PONG: "no_pong",
    Reason.SLOW_CLIENT: "too_slow",
    # Our own
    Reason.TOO_MANY_CONNECTIONS: "too_many_connections",
    Reason.TOO_MANY_COMMANDS: "too_many_commands",
}

each_reason = pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)


@each_reason
@pytest.mark.parametrize("reconnect", [True, False])
def test_a_disconnect_message_has_a_word_that_clients_know(reason: Reason, reconnect: bool) -> None:
    said = protocol.encode(Disconnected(reason, reconnect))
    if reason not in REASONS:
        assert said is None
        return
    assert said is not None
    expected = {"type": "disconnect", "reason": REASONS[reason], "reconnect": reconnect}
    assert json.loads(said) == expected


@pytest.mark.parametrize(
    ("reason", "code", "text"),
    [
        (Reason.AUTH_FAILED, 1000, "Auth Failed"),
        (Reason.AUTH_ERROR, 1011, "Auth Error"),
        (Reason.COMMAND_FAILED, 1000, "Command Failed"),
        (Reason.SERVER_RESTART, 1001, "Server restart"),
        (Reason.REMOTE, 1000, "Closed remotely"),
    ],
)
def test_goodbyes_that_clients_of_anycable_go_know(reason: Reason, code: int, text: str) -> None:
    assert protocol.goodbye(reason) == Goodbye(reason, code, text)


# From a publisher to a client


class Heard:
    """A client's transport that keeps what is written."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.write = self.messages.append

    def write_slices(self, slices: Iterator[bytes]) -> None:
        raise AssertionError("expected no large answer")

    is_behind = False

    def tolerate_slowness(self) -> None:
        raise AssertionError("expected no rule for the stream")

    def close(self, goodbye: Goodbye) -> None:
        raise AssertionError(f"expected no close, got {goodbye}")

    def pause_reading(self) -> None:
        raise AssertionError("expected no pause")

    def resume_reading(self) -> None:
        raise AssertionError("expected no resumption")


def heard_of(raw: bytes) -> Any:
    """A publication as the JSON parser of a client reads it."""
    hub = Hub(Counters(), lambda *_: None, NoInterest())
    outbound = Heard()
    encoder = Encoder(protocol, Framing(lambda payload: payload, iter))
    session = Session(Environment(Sid("s"), "", {}), encoder, outbound)
    hub.listen(Subscription(session, CHAT), Stream("chat"))
    for publication in parse(raw):
        hub.deliver(publication)
    (message,) = outbound.messages
    return json.loads(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"a": [1, "é"]}', {"a": [1, "é"]}),
        ("5", 5),
        ('"text"', "text"),
        ("true", True),
        ("plain text", "plain text"),
        ('{"a":1} x', '{"a":1} x'),
        ("null", "null"),
        (" null ", " null "),
        ("", ""),
        ('"a\nb"', '"a\nb"'),
        ("NaN", "NaN"),
        ("[NaN]", "[NaN]"),
        ("-Infinity", "-Infinity"),
        ("[1,]", "[1,]"),
        ("01", "01"),
        ("\ufeff1", "\ufeff1"),
        ('"\\x"', '"\\x"'),
        ('"\\ud800"', "\ufffd"),
        ('{"a":"party \\ud83c","b":"\\ud83c\\udf89"}', {"a": "party \ufffd", "b": "\U0001f389"}),
        ('["\\\\ud800"]', ["\\ud800"]),
        ("[1e400]", [float("inf")]),
        ("</script>\u2028\x00", "</script>\u2028\x00"),
        pytest.param("[" * 5000, "[" * 5000, id="depth, open"),
    ],
)
def test_a_client_reads_the_published_message(data: str, message: Any) -> None:
    raw = json.dumps({"stream": "chat", "data": data}).encode()

    assert heard_of(raw) == {"identifier": CHAT, "message": message}


@given(data=st.text() | anything.map(json.dumps), kind=st.text())
def test_a_client_reads_anything_that_is_published(data: str, kind: str) -> None:
    raw = json.dumps({"stream": "chat", "data": data, "meta": {"broadcast_type": kind}}).encode()
    assert isinstance(parse(raw)[0], Publication)

    heard = heard_of(raw)
    assert heard.get("type", "") == kind
    try:
        meant = json.loads(data, parse_constant=_refuse)
    except ValueError:
        meant = data
    assert heard["message"] == (data if meant is None else meant)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
