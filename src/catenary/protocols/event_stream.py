r"""Action Cable over server-sent events: a request ↔ commands, replies → events.

An event is its lines without the empty one that ends it: ``event: ping\ndata: {…}``. Source: docs/sse.md
(anycable/anycable). Knows: Action Cable's JSON, the lines of events. Does not know: HTTP connections, framings.
"""

import io
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, quote, unquote

import msgspec

from catenary.errors import CommandError, RequestRefused
from catenary.messages.commands import Command, HistoryRequest, Subscribe
from catenary.messages.lenient_json import JSON_ERRORS
from catenary.messages.names import Identifier
from catenary.messages.publications import Position
from catenary.messages.reasons import Reason
from catenary.messages.replies import Delivery, Disconnected, Ping, PresenceState, Reply
from catenary.ports import Goodbye
from catenary.protocols.actioncable import GOODBYES, message_of
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.protocols.actioncable_transmissions import read_reply
from catenary.protocols.table import ClientProtocol

RETRY_NEVER_MS: Final = 31_536_000_000
"""A year: EventSource has no other way to be told that it must not reconnect. docs/sse.md, "retry"."""

_COMMENT: Final = b":"
"""An event of which a client sees nothing: it keeps proxies from closing the connection."""

_LINE_BREAK: Final = re.compile(rb"\r\n|\r|\n")
_NEXT_LINE: Final = b"\ndata: "
_NOT_IN_A_LINE: Final = re.compile("[\r\n\0]")
_NOT_IN_AN_ID: Final = re.compile("[^ -$&-~]")
_SAFE_IN_AN_ID: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_TRUE: Final = frozenset({"1", "true", "t", "y"})

_json: Final = ActionCableJson()
_read_text: Final = msgspec.json.Decoder(str).decode
_write: Final = msgspec.json.Encoder().encode


class ActionCableEvents:
    """Satisfies :class:`catenary.ports.Codec`. Has no state: one of each kind serves every session.

    With ``unwraps``, the data of a message is what was published, without its identifier. With
    ``is_raw`` there are no events but messages.
    """

    __slots__ = ("_is_raw", "_unwraps")

    def __init__(self, *, unwraps: bool, is_raw: bool = False) -> None:
        self._unwraps = unwraps
        self._is_raw = is_raw

    def decode(self, payload: bytes) -> Command | None:
        """Reads one line of a request's body. Raises :class:`CommandError`."""
        return _json.decode(payload)

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply; None for a disconnect whose reason has no word, and for what a raw stream leaves out."""
        if type(reply) is Delivery:
            return self.encode_delivery(reply)
        ends = type(reply) is Disconnected and not reply.reconnect
        if self._is_raw:
            if ends:
                return b"retry: %d" % RETRY_NEVER_MS
            return _COMMENT if type(reply) is Ping else None
        data = _json.encode(reply)
        if data is None:
            return None
        message = message_of(reply)
        assert message is not None, "it was written"
        event = b"event: %b\n%b" % (message["type"].encode(), _data(data))
        return event + b"\nretry: %d" % RETRY_NEVER_MS if ends else event

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """The pieces of the JSON encoding, after the name of the event."""
        if self._is_raw:
            return
        head = b"event: presence\ndata: "
        for piece in _json.encode_pieces(reply):
            yield head + _LINE_BREAK.sub(_NEXT_LINE, piece)
            head = b""

    def encode_transmission(self, text: str) -> bytes | None:
        """The event of a message in Action Cable's JSON; None for text that is no such message."""
        reply = read_reply(text)
        return None if reply is None else self.encode(reply)

    def encode_delivery(self, delivery: Delivery) -> bytes:
        """Messages with a type of their own are events of that type, with all of their fields."""
        if delivery.kind:
            if self._is_raw:
                return _COMMENT
            event = b"event: %b\n" % delivery.kind.encode() if _is_line(delivery.kind) else b""
            return event + _data(_json.encode_delivery(delivery)) + _id(delivery)
        if self._unwraps:
            return _data(_unwrapped(delivery.message)) + _id(delivery)
        return _data(_json.encode_delivery(delivery)) + _id(delivery)

    def goodbye(self, reason: Reason) -> Goodbye:
        """The transport derives a status from the reason, or ends the response."""
        return GOODBYES[reason]


def _data(payload: bytes) -> bytes:
    """A line for each line of a payload: JSON that was published may have several."""
    return b"data: " + _LINE_BREAK.sub(_NEXT_LINE, payload)


def _unwrapped(message: bytes) -> bytes:
    """What was published: a text as it is, anything else as JSON."""
    if message.startswith(b'"'):
        try:
            return _read_text(message).encode(errors="replace")
        except JSON_ERRORS:
            pass
    return message


def _id(delivery: Delivery) -> bytes:
    """``offset/stream/epoch``. A client repeats it in a header, which some clients encode in Latin-1, others in UTF-8,
    so that everything but printable ASCII is percent-encoded in the name of the stream, and the percent sign."""
    position, stream = delivery.position, delivery.stream
    if position is None or stream is None:
        return b""
    name: str = stream
    if _NOT_IN_AN_ID.search(name) is not None:
        name = quote(name, safe=_SAFE_IN_AN_ID, errors="surrogatepass")
    return f"\nid: {position.offset}/{name}/{position.epoch}".encode()


def _is_line(text: str) -> bool:
    return _NOT_IN_A_LINE.search(text) is None


def _protocol(*, unwraps: bool, is_raw: bool = False) -> ClientProtocol:
    codec = ActionCableEvents(unwraps=unwraps, is_raw=is_raw)
    return ClientProtocol(subprotocols=(), codec=lambda: codec)


MESSAGES: Final = _protocol(unwraps=True)
"""For requests by GET, such as EventSource's."""

RAW_MESSAGES: Final = _protocol(unwraps=True, is_raw=True)
"""The same with ``?raw=1``."""

WHOLE_MESSAGES: Final = _protocol(unwraps=False)
"""For requests by POST, whose subscriptions may be several."""


# Requests


def subscription_asked(query: str, last_event_id: str) -> tuple[ClientProtocol, Subscribe]:
    """What a request by GET asks for. Raises :class:`RequestRefused` with 400."""
    try:
        asked = {name: values[-1] for name, values in parse_qs(query, max_num_fields=100).items()}
    except ValueError as error:
        raise RequestRefused(400, f"expected a query of up to 100 fields: {error}") from error
    identifier = _identifier(asked)
    since = (
        _whole_number("history_since", asked["history_since"]) if "history_since" in asked else None
    )
    positions = {} if not last_event_id else _positions(last_event_id)
    history = HistoryRequest(since or None, positions) if since or positions else None
    protocol = RAW_MESSAGES if asked.get("raw", "").lower() in _TRUE else MESSAGES
    return protocol, Subscribe(identifier, history)


def asks_for_a_subscription(query: str) -> bool:
    """Whether :func:`subscription_asked` can read a query."""
    try:
        subscription_asked(query, "")
    except RequestRefused:
        return False
    return True


def _identifier(asked: dict[str, str]) -> Identifier:
    if "identifier" in asked:
        return Identifier(asked["identifier"])
    for name, channel, param in (
        ("channel", "", ""),
        ("stream", "$pubsub", "stream_name"),
        ("signed_stream", "$pubsub", "signed_stream_name"),
        ("turbo_signed_stream_name", "Turbo::StreamsChannel", "signed_stream_name"),
    ):
        if name in asked:
            fields = {"channel": channel, param: asked[name]} if param else {"channel": asked[name]}
            return Identifier(_write(fields).decode())
    raise RequestRefused(400, "expected channel, identifier, stream or signed_stream in the query")


def _positions(last_event_id: str) -> dict[str, Position]:
    """Of an id that this server has sent; any other is ignored, as of a page that was served elsewhere before."""
    offset, _, rest = last_event_id.partition("/")
    stream, slash, epoch = rest.rpartition("/")
    if not slash or not offset.isascii() or not offset.isdecimal() or len(offset) > 19:
        return {}
    try:
        return {unquote(stream, errors="surrogatepass"): Position(epoch, int(offset))}
    except UnicodeDecodeError:
        return {}


def _whole_number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise RequestRefused(400, f"expected {name} in seconds since 1970, got {text[:40]!r}")
    return int(text)


def commands_of(body: bytes) -> Iterator[Command | None]:
    """The commands of a request by POST, a line of JSON each; None for a line without one. Raises
    :class:`RequestRefused` with 400."""
    for number, line in enumerate(io.BytesIO(body), 1):
        try:
            yield _json.decode(line) if line.strip() else None
        except CommandError as error:
            raise RequestRefused(400, f"line {number}: {error}") from error
