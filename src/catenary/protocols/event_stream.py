r"""Action Cable over server-sent events: requests → commands, replies → events.

An event is written without the empty line that ends it: ``event: ping\ndata: {…}``. Source: docs/sse.md
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
"""A year: the only way to tell EventSource not to reconnect (docs/sse.md, "retry")."""

_COMMENT: Final = b":"
"""An event without effect at the client: it keeps proxies from closing the connection."""

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
    """Satisfies :class:`catenary.ports.Codec`. It has no state, so all sessions of a protocol share one.

    With ``unwraps``, the data of a message is the published message, without its identifier. With ``is_raw``, messages
    are the only events.
    """

    __slots__ = ("_is_raw", "_unwraps")

    def __init__(self, *, unwraps: bool, is_raw: bool = False) -> None:
        self._unwraps = unwraps
        self._is_raw = is_raw

    def decode(self, payload: bytes) -> Command | None:
        """Reads one line of a request's body. Raises :class:`CommandError`."""
        return _json.decode(payload)

    def encode(self, reply: Reply) -> bytes | None:
        """Writes one reply; None for a disconnect whose reason has no name, and for replies that a raw stream omits."""
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
        assert message is not None, "encoded above"
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
        """The event of a message in Action Cable's JSON; None for text that is not a message of Action Cable."""
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
    """The published message: the characters of a text, JSON for other values."""
    if message.startswith(b'"'):
        try:
            return _read_text(message).encode(errors="replace")
        except JSON_ERRORS:
            pass
    return message


def _id(delivery: Delivery) -> bytes:
    """``offset/stream/epoch``. Clients repeat it in a header, where Node's fetch accepts only Latin-1 and no client a
    line break: in the name of the stream, the percent sign and everything but printable ASCII are percent-encoded."""
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
    return ClientProtocol(name="event-stream", subprotocols=(), codec=lambda: codec)


MESSAGES: Final = _protocol(unwraps=True)
"""For GET requests, such as those of EventSource."""

RAW_MESSAGES: Final = _protocol(unwraps=True, is_raw=True)
"""For GET requests with ``?raw=1``."""

WHOLE_MESSAGES: Final = _protocol(unwraps=False)
"""For POST requests, which may have several subscriptions."""


# Requests


def read_subscription(query: str, last_event_id: str) -> tuple[ClientProtocol, Subscribe]:
    """The subscription of a GET request. Raises :class:`RequestRefused` with 400."""
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


def is_subscription(query: str) -> bool:
    """Whether :func:`read_subscription` can read a query."""
    try:
        read_subscription(query, "")
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
    """The position in the id of an event; ids that this server did not write are ignored."""
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
    """The commands of a POST request, one per line of JSON; None for a line without a command. Raises
    :class:`RequestRefused` with 400."""
    for number, line in enumerate(io.BytesIO(body), 1):
        try:
            yield _json.decode(line) if line.strip() else None
        except CommandError as error:
            raise RequestRefused(400, f"line {number}: {error}") from error
