"""What must hold for any bytes that reach a pure core.

Each check raises where something does not hold: an error that is not the documented one comes
through as it is.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from catenary.adapters import packing
from catenary.adapters.nats import payload as nats_payload
from catenary.adapters.nats import wire as nats_wire
from catenary.adapters.redis import payload as redis_payload
from catenary.auth import jwt
from catenary.auth.origins import Origins
from catenary.auth.signatures import Signatures
from catenary.auth.streams import CableReadyStreams, PubSubStreams, TurboStreams
from catenary.edge.request import Peer, Proxied, environment_of, heartbeat_of, resumed_sid
from catenary.errors import (
    AppFailed,
    CommandError,
    FrameError,
    ProtocolError,
    PublicationError,
    RequestRefused,
)
from catenary.messages.commands import (
    Checkpoint,
    ClientPing,
    ClientPong,
    CloseConnection,
    DirectReply,
    Identify,
    Subscribe,
)
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Position, Publication, RemoteDisconnect, parse
from catenary.messages.replies import Confirmed, Delivery, Rejected
from catenary.ports import Codec
from catenary.protocols import rpc, rpc_json, rpc_protobuf, table
from catenary.wire import deflate, handshake, hpack, http1, http2, http2_events
from catenary.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    Event,
    FrameReader,
    Message,
)
from catenary.wire.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Http2Error,
    frame,
)
from catenary.wire.request_bodies import ChunkedBody
from tests.fuzz import (
    durable_streams,
    event_stream,
    graphql,
    long_polling,
    ocpp,
    proxies,
    pusher,
    pusher_rest,
)
from tests.parts.binary_cable import EXTENDED_PROTOBUF, MESSAGE_PACK
from tests.parts.raw_socket import masked, upgrade

MAX_MESSAGE: Final = 1000
_SECRET: Final = "s3Krit"


class Core(NamedTuple):
    """One pure core: seeds to damage, words it knows, and what must hold."""

    name: str
    seeds: Sequence[bytes]
    words: Sequence[bytes]
    check: Callable[[bytes, Random], None]


def pieces(data: bytes, random: Random) -> Iterator[bytes]:
    """The same bytes as a network may bring them."""
    if len(data) < 300 and random.getrandbits(3) == 0:
        for at in range(len(data)):
            yield data[at : at + 1]
        return
    at = 0
    while at < len(data):
        size = 1 + int(random.random() * len(data))
        yield data[at : at + size]
        at += size


# Frames


def _told(events: list[Event]) -> list[object]:
    """Events that can be compared: of an error its code."""
    return [each.close_code if isinstance(each, FrameError) else each for each in events]


def _check_reader(
    make: Callable[[], FrameReader], data: bytes, random: Random, *, max_held: int
) -> None:
    whole = make()
    events = whole.receive(data)
    for event in events:
        if isinstance(event, Message):
            assert len(event.payload) <= MAX_MESSAGE
            if event.is_text:
                event.payload.decode()
    assert all(not isinstance(each, FrameError) for each in events[:-1]), "an error is the last"
    reader = make()
    split: list[Event] = []
    for piece in pieces(data, random):
        split += reader.receive(piece)
        assert _held(reader) <= max_held, "what is refused is not awaited"
    assert _told(split) == _told(events), "however it is split"
    assert reader.finished == whole.finished
    if whole.finished:
        assert whole.receive(data) == []
        assert _held(whole) == 0, "after the end nothing is kept"


def _held(reader: FrameReader) -> int:
    return len(reader._tail or b"") + len(reader._fragments or b"")


def check_frames(data: bytes, random: Random) -> None:
    _check_reader(lambda: FrameReader(MAX_MESSAGE), data, random, max_held=2 * MAX_MESSAGE + 14)


def check_compressed_frames(data: bytes, random: Random) -> None:
    _check_reader(
        lambda: FrameReader(MAX_MESSAGE, deflate.inflated),
        data,
        random,
        max_held=2 * (MAX_MESSAGE + MAX_MESSAGE // 8 + 64) + 14,
    )


def check_deflate(data: bytes, random: Random) -> None:
    try:
        assert len(deflate.inflated(data, MAX_MESSAGE)) <= MAX_MESSAGE
    except FrameError:
        pass
    if len(data) <= MAX_MESSAGE:
        bits = random.choice(deflate.WINDOWS)
        assert deflate.inflated(deflate.deflated(data, bits), MAX_MESSAGE) == data


_FRAMES: Final = (
    masked(b"hello") + masked(b"\xc3\xa4", BINARY) + masked(b"p", PING) + masked(b"", PONG),
    masked(b"\xc3", first=TEXT) + masked(b"ping", PING) + masked(b"\xa4", CONTINUATION),
    masked(b"x" * 130) + masked(b"\x03\xe8bye", CLOSE) + masked(b"late"),
    masked(b"y" * MAX_MESSAGE),
    masked(b"a", first=BINARY) + masked(b"b", first=CONTINUATION) + masked(b"c", CONTINUATION),
    # Without a mask, which leaves the bytes of the text as they are.
    b"\x81\x85\0\0\0\0hello\x89\x81\0\0\0\0p",
)
_COMPRESSED: Final = (
    *_FRAMES,
    masked(deflate.deflated(b"hello " * 30, 12), first=0x80 | RSV1 | TEXT),
    masked(deflate.deflated(bytes(MAX_MESSAGE), 9), first=0x80 | RSV1 | BINARY),
    masked(deflate.deflated(bytes(100_000), 9), first=0x80 | RSV1 | BINARY),
)
_FRAME_WORDS: Final = (b"\x81\x80", b"\x01\x81", b"\x80\x80", b"\xfe", b"\x88\x82", b"\0" * 8)


# The handshake


_PROXIED: Final = Proxied(("Cookie", "Origin", "X-Token"), ("a",), "x-jid")
_ORIGINS: Final = Origins(("www.example.com", "*.example.io"))


def check_chunked_body(data: bytes, random: Random) -> None:
    """However it is cut, it gives the same body, or is refused."""
    assert _chunked(data, [len(data)]) == _chunked(data, [random.randrange(1, 9) for _ in data])


def _chunked(data: bytes, sizes: Sequence[int]) -> tuple[bytes, bytes] | int:
    reader, body, rest = ChunkedBody(), b"", b""
    for size in sizes:
        piece, data = data[:size], data[size:]
        try:
            part, rest = reader.receive(piece)
        except RequestRefused as refused:
            return refused.status
        body += part
        if reader.is_complete:
            break
    return body, rest + data


def check_handshake(data: bytes, random: Random) -> None:
    try:
        request = http1.read_request(data.partition(http1.END_OF_HEADERS)[0])
        environment = environment_of(request, Peer("http", "::1"), _PROXIED)
        assert 0 < len(environment.sid) <= 255
        heartbeat_of(request, Heartbeat(3))
        resumed_sid(request)
        _ORIGINS.allow(request.headers.get("origin", ""))
        accept = handshake.check_upgrade(request)
        agreed = deflate.agree(handshake.offered_extensions(request))
        offered = handshake.offered_subprotocols(request)
        extra = () if agreed is None else (("Sec-WebSocket-Extensions", agreed.header),)
        answer = handshake.switching(accept, None, extra)
        assert len(accept) == 28
        assert request.method == "GET"
        assert all(offered)
    except RequestRefused as error:
        answer = http1.refusal(error)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 ")
    assert b"\n" not in head.replace(b"\r\n", b""), "no line of the client's in the answer"
    assert len(head) + len(body) < 1000, "an answer repeats little of what it refuses"


_HANDSHAKES: Final = (
    upgrade(),
    upgrade("/cable?pi=3&ptp=ms&sid=a", "Cookie: a=1; b=2", "Origin: https://www.example.com"),
    upgrade(
        "/%F0%9F%98%80?x=ä",
        'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x; y="z"',
        "X-JID: abc",
        "X-Request-ID: 1",
        "X-AnyCable-Restore-SID: s",
        "Cookie: c=ä",
    ),
    b"POST /_broadcast HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"GET / HTTP/1.0\r\n\r\n",
)
_HANDSHAKE_WORDS: Final = (
    b"Host: b\r\n",
    b"Upgrade: h2c, websocket\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"permessage-deflate; server_max_window_bits=9",
    b"\r\n folded",
    b": ",
    b", ",
    b"; ",
    b"=",
    b"\t",
)


# HTTP/2


def check_hpack(data: bytes, random: Random) -> None:
    reader = hpack.BlockReader(max_list_bytes=500)
    cut = int(random.random() * (len(data) + 1))
    for block in (data[:cut], data[cut:], data):
        try:
            fields = reader.read(block)
        except (hpack.HpackError, hpack.HeaderListTooLarge):
            return
        assert sum(len(name) + len(value) + 32 for name, value in fields) <= 500
    fields_written = tuple(fields)
    again = hpack.BlockReader(max_list_bytes=2000)
    assert again.read(hpack.BlockWriter().write(fields_written)) == fields, "written and read"


def _connection() -> http2.Http2Connection:
    connection = http2.Http2Connection(((b":method", b"POST"), (b"te", b"trailers")), 2000)
    connection.receive(_SETTINGS)
    for _ in range(3):
        connection.request(b"/path", b"", b"body")
    connection.data_to_send()
    return connection


def _compared(events: list[http2_events.Event]) -> list[object]:
    return [each.code if isinstance(each, Http2Error) else each for each in events]


def check_http2(data: bytes, random: Random) -> None:
    whole = _connection()
    events = whole.receive(data)
    ended = [
        each.stream_id
        for each in events
        if isinstance(each, http2_events.Response | http2_events.Reset | http2_events.Oversized)
    ]
    assert len(set(ended)) == len(ended), "each call ends once"
    split = _connection()
    told: list[http2_events.Event] = []
    for piece in pieces(data, random):
        told += split.receive(piece)
    assert _compared(told) == _compared(events), "however it is split"
    assert split.data_to_send() == whole.data_to_send()


def _block(*fields: tuple[bytes, bytes]) -> bytes:
    return hpack.BlockWriter().write(fields)


_SETTINGS: Final = frame(SETTINGS, 0, 0, b"")
_HEAD: Final = _block((b":status", b"200"), (b"content-type", b"application/grpc"))
_TRAILERS: Final = _block((b"grpc-status", b"0"), (b"grpc-message", b"x" * 60))
_ANSWER: Final = (
    frame(HEADERS, END_HEADERS, 1, _HEAD)
    + frame(DATA, 0, 1, b"hello")
    + frame(HEADERS, END_HEADERS | END_STREAM, 1, _TRAILERS)
)
_HTTP2: Final = (
    _ANSWER,
    frame(HEADERS, 0, 3, _HEAD[:5])
    + frame(9, END_HEADERS, 3, _HEAD[5:])
    + frame(DATA, END_STREAM | 8, 3, b"\x02hello\0\0"),
    frame(SETTINGS, 0, 0, b"\0\x04\0\0\x10\0\0\x01\0\0\0\0") + frame(6, 0, 0, bytes(8)) + _ANSWER,
    frame(RST_STREAM, 0, 1, b"\0\0\0\x08") + frame(WINDOW_UPDATE, 0, 0, b"\0\0\x10\0"),
    frame(GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0bye") + _ANSWER,
    frame(HEADERS, END_HEADERS | END_STREAM, 5, _TRAILERS),
)
_HTTP2_WORDS: Final = (_HEAD, _TRAILERS, b"\0\0\0\x04\x01\0\0\0\0", b"\0\0\0\x01", b"\x3f\xe1\x1f")


# JSON


def check_actioncable(data: bytes, random: Random) -> None:
    _check_codec(table.ACTION_CABLE_JSON.codec(), json.loads, data)


def check_message_pack(data: bytes, random: Random) -> None:
    _check_codec(table.ACTION_CABLE_MESSAGE_PACK.codec(), MESSAGE_PACK.read, data)


def check_protobuf(data: bytes, random: Random) -> None:
    _check_codec(table.ACTION_CABLE_EXTENDED_PROTOBUF.codec(), EXTENDED_PROTOBUF.read, data)


def _check_codec(codec: Codec, read: Callable[[bytes], dict[str, Any]], data: bytes) -> None:
    try:
        command = codec.decode(data)
    except CommandError:
        return
    if command is None or isinstance(command, ClientPing | ClientPong):
        return
    assert not isinstance(command, tuple | DirectReply | CloseConnection | Checkpoint | Identify), (
        "one command"
    )
    identifier = command.identifier
    for reply in (Confirmed(identifier), Rejected(identifier)):
        told = read(codec.encode(reply) or b"")
        assert told.get("identifier", "") == identifier, "the client recognises its own"
    if isinstance(command, Subscribe) and command.join is not None:
        json.loads(command.join.info)
    message = b'{"a":1}'
    delivery = Delivery(identifier, message, "kind", Stream("s"), Position("e", 1))
    assert read(codec.encode_delivery(delivery) or b"")["message"] == {"a": 1}


_IDENTIFIER: Final = json.dumps({"channel": "Chat", "id": "ä"})


def _say(command: str, **fields: Any) -> bytes:
    return json.dumps({"command": command, "identifier": _IDENTIFIER, **fields}).encode()


_COMMANDS: Final = (
    _say("subscribe"),
    _say(
        "subscribe",
        history={"since": 1700000000, "streams": {"s": {"epoch": "e", "offset": 3}}},
        presence={"id": "7", "info": {"name": "\u00e4\ud83d\ude00"}},
    ),
    _say("message", data='{"action":"speak","text":"hi"}'),
    _say("whisper", data={"a": [1, 2.5, None, True, "x"]}),
    _say("history", history={"since": 1.5e9}),
    _say("join", presence={"id": 7, "info": None}),
    _say("presence", data={"return_records": False}),
    b'{"command":"ping"}',
    b'{"type":"pong","command":"pong"}',
)
_PACKED: Final = tuple(MESSAGE_PACK.write(json.loads(each)) for each in _COMMANDS)
_PROTOBUF: Final = tuple(EXTENDED_PROTOBUF.write(json.loads(each)) for each in _COMMANDS)
_BINARY_WORDS: Final = (b"\x10\x01", b"\x1a\x05", b"\x42", b"\x80", b"\xd9\xff", b"\x91", b"\xa7")
_JSON_WORDS: Final = (
    b'"command":"subscribe",',
    b'"identifier":',
    b'"\\ud800"',
    b"\\u0000",
    b"1e400",
    b"-1e308",
    b"99999999999999999999999",
    b"null",
    b"[" * 8,
    b"[" * 1500,  # deeper than Python goes
    b"{}",
    b"true,",
    b"{",
    b"}",
    b"[",
    b"]",
)


def check_publications(data: bytes, random: Random) -> None:
    try:
        found = parse(data)
    except PublicationError:
        return
    for each in found:
        if isinstance(each, RemoteDisconnect):
            continue
        assert each.stream, "a publication has a stream"
        assert each.position is None, "no publisher names a position"
        packed = redis_payload.NOWHERE + redis_payload.pack(each)
        assert redis_payload.unpack(each.stream, packed) == each
        assert nats_payload.unpack(nats_payload.pack(each), None) == each


_PUBLICATIONS: Final = (
    b'{"stream":"chat","data":"{\\"text\\":\\"hi\\"}"}',
    b'{"stream":"a","data":"1","meta":{"exclude_socket":"s","broadcast_type":"t","transient":true}}',
    b'[{"stream":"a","data":"1"},{"stream":"b","data":"\\u00e4","meta":null}]',
    b'{"command":"disconnect","payload":{"identifier":"jack","reconnect":false}}',
)


# Calls to the application


_DECODERS: Final = (
    (
        rpc_json.decode_connection_response,
        rpc_json.decode_command_response,
        rpc_json.decode_disconnect_response,
        rpc_json.decode_connection_request,
        rpc_json.decode_command_message,
        rpc_json.decode_disconnect_request,
    ),
    (
        rpc_protobuf.decode_connection_response,
        rpc_protobuf.decode_command_response,
        rpc_protobuf.decode_disconnect_response,
        rpc_protobuf.decode_connection_request,
        rpc_protobuf.decode_command_message,
        rpc_protobuf.decode_disconnect_request,
    ),
)


def _check_rpc(decoders: Sequence[Callable[[bytes], object]], data: bytes) -> None:
    for decode in decoders:
        try:
            message = decode(data)
            if isinstance(message, rpc.ConnectionResponse):
                rpc.connection_decision(message)
            elif isinstance(message, rpc.CommandResponse):
                rpc.command_decision(message)
        except (AppFailed, ProtocolError):
            pass


def check_rpc_json(data: bytes, random: Random) -> None:
    _check_rpc(_DECODERS[0], data)


def check_rpc_protobuf(data: bytes, random: Random) -> None:
    _check_rpc(_DECODERS[1], data)


_RESPONSES: Final = (
    rpc.ConnectionResponse(
        rpc.Status.SUCCESS, "jack", ('{"type":"welcome"}',), "", rpc.EnvResponse({"c": "1"}, {})
    ),
    rpc.CommandResponse(
        rpc.Status.SUCCESS,
        streams=("a", "b"),
        stopped_streams=("c",),
        transmissions=('{"type":"confirm_subscription"}',),
        presence=rpc.PresenceResponse("join", "7", '{"name":"x"}'),
        env=rpc.EnvResponse({}, {"$w": "a"}),
    ),
    rpc.DisconnectResponse(rpc.Status.ERROR, "no"),
)


# Tokens and signed names


_KEYS: Final = (jwt.SecretKey(_SECRET),)
_RULES: Final = jwt.Rules(frozenset(jwt.HMAC_ALGORITHMS))
_TOKEN: Final = (
    b"eyJhbGciOiJIUzI1NiJ9.eyJleHQiOiJ7fSIsImV4cCI6NDAwMDAwMDAwMH0."
    b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)
_SIGNATURES: Final = Signatures(_SECRET)
_GRANTING: Final = (
    PubSubStreams(_SIGNATURES, is_public=False, whisper=True, presence=True),
    TurboStreams(_SIGNATURES),
    CableReadyStreams(_SIGNATURES),
)


def check_tokens(data: bytes, random: Random) -> None:
    text = data.decode("latin-1")
    assert isinstance(jwt.check(text, _KEYS, _RULES, 0), jwt.TokenError), "nobody has signed it"
    assert _SIGNATURES.verified(text) is None


def check_signed_streams(data: bytes, random: Random) -> None:
    text = Identifier(data.decode(errors="surrogateescape"))
    for resolve in _GRANTING:
        assert resolve(text) is None, "nobody has signed it"


_SIGNED: Final = (
    b'{"channel":"$pubsub","signed_stream_name":"ImNoYXQi--' + b"0" * 64 + b'"}',
    b'{"channel":"$pubsub","stream_name":"chat"}',
    b'{"channel":"CableReady::Stream","identifier":"ImEi--abc"}',
)


# What lies between nodes


def check_payloads(data: bytes, random: Random) -> None:
    stream = Stream("s")
    try:
        publication = redis_payload.unpack(stream, data)
        packed = redis_payload.pack(publication)
        position = publication.position
        front = b"  " if position is None else f"{position.epoch} {position.offset} ".encode()
        assert redis_payload.unpack(stream, front + packed) == publication
    except ValueError:
        pass
    packed = data.partition(b"\x95")[2]
    for read in (
        packing.unpack_command,
        lambda raw: nats_payload.unpack(raw, None),
        lambda raw: nats_payload.unpack(b"\x95" + packed, None),
    ):
        try:
            read(data)
        except ValueError:
            pass


_PUBLICATION: Final = Publication(Stream("s"), '{"a":1}', None, "kind", transient=True)
_PAYLOADS: Final = (
    b"epoch 12 " + redis_payload.pack(_PUBLICATION),
    b"  " + redis_payload.pack(_PUBLICATION),
    packing.pack_command(RemoteDisconnect("jack", reconnect=True)),
    nats_payload.pack(_PUBLICATION),
)


_PACK_WORDS: Final = (b" ", b"\x94", b"\xc0", b"\xd9\x05", b"\x91" * 1500)


def check_nats_wire(data: bytes, random: Random) -> None:
    def reader(told: list[object]) -> nats_wire.NatsReader:
        return nats_wire.NatsReader(
            lambda *message: told.append(message), lambda *line: told.append(line)
        )

    def fed(said: Iterator[bytes]) -> list[object]:
        told: list[object] = []
        whole = reader(told)
        try:
            for piece in said:
                whole.feed(piece)
                while whole.read():
                    pass
        except nats_wire.WireError:
            told.append("broken")
        return told

    told = fed(iter((data,)))
    assert fed(pieces(data, random)) == told, "however it is split"
    for each in told:
        if isinstance(each, tuple) and len(each) == 4:
            nats_wire.status_of(each[2])
            nats_wire.value_of(each[2], b"Nats-Sequence")


_NATS: Final = (
    b'INFO {"server_id":"x"}\r\nMSG a.b 1 5\r\nhello\r\nPING\r\n+OK\r\n',
    b"HMSG a 2 reply 22 27\r\nNATS/1.0\r\nA: value\r\n\r\nhello\r\n",
    b"HMSG a 2 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
    b"-ERR 'Authorization Violation'\r\n",
)

CORES: Final = (
    Core("wire/frames", _FRAMES, _FRAME_WORDS, check_frames),
    Core("wire/frames, deflate", _COMPRESSED, _FRAME_WORDS, check_compressed_frames),
    Core(
        "wire/deflate",
        [deflate.deflated(each, 12) for each in (b"hello " * 30, bytes(900), b"", bytes(5000))],
        (b"\x00", b"\x00\x00\xff\xff", b"\x01"),
        check_deflate,
    ),
    Core("wire/handshake", _HANDSHAKES, _HANDSHAKE_WORDS, check_handshake),
    Core(
        "wire/request_bodies",
        [b"4\r\nWiki\r\n5;a=b\r\npedia\r\n0\r\nA: b\r\n\r\nGET"],
        [b"\r\n", b"0\r\n", b"ffffffff\r\n", b";", b"-1"],
        check_chunked_body,
    ),
    Core("wire/proxy_protocol", proxies.SEEDS, proxies.WORDS, proxies.check_header),
    Core("edge/proxies", proxies.CHAINS, proxies.CHAIN_WORDS, proxies.check_chain),
    Core("wire/hpack", [_HEAD, _TRAILERS, _HEAD + _TRAILERS], _HTTP2_WORDS, check_hpack),
    Core("wire/http2", _HTTP2, _HTTP2_WORDS, check_http2),
    Core("protocols/actioncable", _COMMANDS, _JSON_WORDS, check_actioncable),
    Core("protocols/event_stream", event_stream.SEEDS, event_stream.WORDS, event_stream.check),
    Core("protocols/long_polling", long_polling.SEEDS, long_polling.WORDS, long_polling.check),
    Core("protocols/ocpp", ocpp.SEEDS, ocpp.WORDS, ocpp.check),
    Core(
        "protocols/durable_streams",
        durable_streams.SEEDS,
        durable_streams.WORDS,
        durable_streams.check,
    ),
    Core("protocols/pusher_reader", pusher.SEEDS, pusher.WORDS, pusher.check),
    Core("protocols/pusher_rest", pusher_rest.SEEDS, pusher_rest.WORDS, pusher_rest.check),
    Core("protocols/graphql", graphql.SEEDS, graphql.WORDS, graphql.check),
    Core("protocols/actioncable_msgpack", _PACKED, _BINARY_WORDS, check_message_pack),
    Core("protocols/actioncable_protobuf", _PROTOBUF, _BINARY_WORDS, check_protobuf),
    Core(
        "protocols/rpc_json",
        [rpc_json.encode_response(each) for each in _RESPONSES],
        _JSON_WORDS,
        check_rpc_json,
    ),
    Core(
        "protocols/rpc_protobuf",
        [rpc_protobuf.encode_response(each) for each in _RESPONSES],
        (b"\x0a\x02", b"\x12", b"\x7a\x00", b"\x80\x80\x80\x80\x10"),
        check_rpc_protobuf,
    ),
    Core("messages/publications", _PUBLICATIONS, _JSON_WORDS, check_publications),
    Core("auth/tokens", [_TOKEN, b"ImNoYXQi--" + b"0" * 64], (b".", b"--", b"="), check_tokens),
    Core("auth/streams", _SIGNED, _JSON_WORDS, check_signed_streams),
    Core("adapters/payloads", _PAYLOADS, _PACK_WORDS, check_payloads),
    Core(
        "adapters/nats/wire", _NATS, (b"MSG a 1 3\r\n", b" ", b"-1", b"99999999"), check_nats_wire
    ),
)
"""Every core, by the path of its module."""
