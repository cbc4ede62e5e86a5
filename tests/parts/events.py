"""Server-sent events as a client reads them: HTML Living Standard, section 9.2.6, "Interpreting an event stream"."""

import re
from typing import NamedTuple


class Event(NamedTuple):
    """One event that a page receives."""

    type: str
    data: str
    id: str = ""
    retry_ms: int | None = None


def events_of(stream: bytes) -> list[Event]:
    """The complete events of a stream; a block without data is not an event."""
    events = []
    fields: dict[str, str] = {}
    data: list[str] = []
    for line in re.split(r"\r\n|\r|\n", stream.decode()):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                retry = int(fields["retry"]) if "retry" in fields else None
                kind = fields.get("event") or "message"
                events.append(Event(kind, "\n".join(data), fields.get("id", ""), retry))
            fields, data = {}, []
        elif name == "data":
            data.append(value)
        elif name:
            fields[name] = value
    return events


def chunks_of(body: bytes) -> list[bytes]:
    """The chunks of a body (RFC 9112, section 7.1); an empty one ends it, and nothing may follow."""
    chunks = []
    while body:
        size, separator, body = body.partition(b"\r\n")
        assert separator, f"expected the size of a chunk, got {size[:40]!r}"
        length = int(size, 16)
        chunk, end, body = body[:length], body[length : length + 2], body[length + 2 :]
        assert end == b"\r\n", f"expected a whole chunk of {length} bytes, got {len(chunk)}"
        chunks.append(chunk)
        assert chunk or not body, f"expected nothing after the last chunk, got {body[:40]!r}"
    return chunks
