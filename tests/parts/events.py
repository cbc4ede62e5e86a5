"""Server-sent events as a client reads them: HTML Living Standard, section 9.2.6, "Interpreting an event stream"."""

import re
from typing import NamedTuple


class Event(NamedTuple):
    """One event that a page hears."""

    type: str
    data: str
    id: str = ""
    retry_ms: int | None = None


def events_of(stream: bytes) -> list[Event]:
    """The complete events of a stream; what has no data is no event."""
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
