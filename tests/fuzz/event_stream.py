"""What must hold for requests for event streams, and for events, whatever bytes they are made of."""

import contextlib
import json
from random import Random
from typing import Final

from catenary.errors import RequestRefused
from catenary.messages.commands import HistoryRequest
from catenary.messages.names import Identifier, Stream
from catenary.messages.publications import Position
from catenary.messages.replies import Delivery
from catenary.protocols import event_stream
from catenary.wire import http1
from tests.parts.events import events_of

LONGEST: Final = 4096
"""Of what is published here: each is read by a parser in Python, eight times."""


def check(data: bytes, random: Random) -> None:
    """Reads a request and its body, and publishes the body as a message, too."""
    head, _, body = data.partition(b"\r\n\r\n")
    with contextlib.suppress(RequestRefused):
        request = http1.read_request(head)
        asked = event_stream.is_subscription(request.query)
        last_event_id = request.headers.get("last-event-id", "")
        if asked:
            _, subscribe = event_stream.read_subscription(request.query, last_event_id)
            subscribe.identifier.encode()
        for _ in event_stream.commands_of(body):
            pass
    _check_events(body)


def _check_events(message: bytes) -> None:
    """Whatever was published, and whatever its stream and kind are called, a client gets one event."""
    text = message[:LONGEST].decode(errors="replace")
    position = Position("e", len(text))
    for protocol in (event_stream.MESSAGES, event_stream.WHOLE_MESSAGES):
        codec = protocol.codec()
        for content in (text.encode(), json.dumps(text).encode()):
            for kind in ("", text):
                delivery = Delivery(Identifier(text), content, kind, Stream(text), position)
                encoded = codec.encode_delivery(delivery) or b""
                (event,) = events_of(encoded + b"\n\n")
                assert event.id.isascii(), "an id can be repeated in a header"
                _, asked = event_stream.read_subscription("channel=C", event.id)
                assert asked.history == HistoryRequest(None, {Stream(text): position})


SEEDS: Final = (
    b"GET /events?channel=Chat&raw=1 HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 1/chat/e\r\n\r\n",
    b"GET /events?stream=%C3%A9&history_since=17 HTTP/1.1\r\nHost: a\r\n"
    b'Last-Event-ID: 12/%C3%A9/e\r\n\r\n"a\nb"',
    b"GET /events?signed_stream=a&turbo_signed_stream_name=b HTTP/1.1\r\n\r\n{\n}",
    b"POST /events HTTP/1.1\r\nHost: a\r\n\r\n"
    b'{"command":"subscribe","identifier":"{\\"channel\\":\\"Chat\\"}"}\n\r\n'
    b'{"command":"message","identifier":"{\\"channel\\":\\"Chat\\"}","data":"{}"}',
)
WORDS: Final = (
    *(b"%", b"%ff", b"/", b"\ndata: ", b"\nid: 1", b"\r", b"\0", b"\nevent: ping", b"\n\n"),
    *(b"&stream=", b"history_since=99999999999999999999", b"identifier=%7B", b"&" * 200),
)
