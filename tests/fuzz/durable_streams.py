"""What must hold for requests for durable streams, and for their responses, whatever bytes they are made of."""

import base64
import contextlib
import json
from random import Random
from typing import Final

from catenary.errors import RequestRefused
from catenary.node.audience import json_of
from catenary.protocols import durable_stream_writes, durable_streams
from catenary.protocols.durable_stream_writes import Record, decide_append, decide_create
from catenary.protocols.durable_streams import Chunk, Content
from catenary.wire import http1
from tests.parts.events import events_of

LONGEST: Final = 4096
RECORD: Final = Record("application/json")
CLOSED: Final = Record("text/plain", is_closed=True, seq="7")


def check(data: bytes, random: Random) -> None:
    """Reads a request, and sends its body as a message of each kind of stream."""
    head, _, body = data.partition(b"\r\n\r\n")
    with contextlib.suppress(RequestRefused):
        request = http1.read_request(head)
        query = durable_streams.read_request(request.query)
        cursor = durable_streams.cursor_at(1_800_000_000, query.cursor, random.randint(1, 180))
        assert cursor != query.cursor
        offset = durable_streams.offset_of(query.position)
        assert durable_streams.position_of(offset) == query.position
        tag = durable_streams.entity_tag(query.position, None, is_closed=False)
        durable_streams.matches_tag(request.headers.get("if-none-match", ""), tag)
        written = durable_stream_writes.write_request(
            request.headers, creates=random.random() < 0.5
        )
        for record in (None, RECORD, CLOSED):
            decide_append(record, written, body)
            decide_create(record, written, body, None)
    for content in Content:
        with contextlib.suppress(RequestRefused):
            for each in durable_stream_writes.messages_of(content, body):
                json.loads(each)
    text = body[:LONGEST].decode(errors="replace")
    for content in Content:
        message = json_of(text)
        chunk = Chunk(content, (message, message), None, is_up_to_date=True)
        first, second = events_of(chunk.events(lambda payload: payload + b"\n\n", "1"))
        assert (first.type, second.type) == ("data", "control")
        assert json.loads(second.data)["upToDate"] is True
        if content is Content.JSON:
            json.loads(chunk.body)
            json.loads(first.data)
        elif content is Content.BINARY:
            assert base64.b64decode(first.data) == chunk.body
        else:
            sent = chunk.body.decode(errors="replace")
            assert first.data == sent.replace("\r\n", "\n").replace("\r", "\n")


SEEDS: Final = (
    b'GET /ds/a?offset=-1&live=sse&cursor=12 HTTP/1.1\r\nHost: a\r\nIf-None-Match: "0:0"\r\n\r\n{\n}',
    b"HEAD /ds/a?offset=00000000000000000012_ab&signed=x HTTP/1.1\r\nHost: a\r\n\r\n a\rb\r\n",
    b'GET /ds/a?offset=now&live=long-poll HTTP/1.1\r\n\r\n{"base64":"AQID"}',
    b"POST /ds/a HTTP/1.1\r\nContent-Type: application/json\r\nProducer-Id: a\r\nProducer-Epoch: 0\r\n"
    b"Producer-Seq: 0\r\nStream-Seq: 7\r\nStream-Closed: true\r\n\r\n[1,{}]",
    b"PUT /ds/a HTTP/1.1\r\nContent-Type: text/plain\r\nStream-Expires-At: 2030-01-01T00:00:00Z\r\n\r\nx",
)
WORDS: Final = (b"&offset=", b"%00", b"\r", b"\n", b"_", b"::", b'{"base64":"', b" ")
