"""A reader of a server's live events, over HTTP."""

import http.client
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

DEADLINE_S = 20.0


class TraceReader:
    """Reads ``GET /api/events``. Every wait longer than :data:`DEADLINE_S` raises TimeoutError."""

    def __init__(
        self, port: int, *, key: str = "", path: str = "/api/events", **query: str
    ) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._connection.request("GET", f"{path}?{urlencode(query)}", headers=headers)
        self.response = self._connection.getresponse()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.response.close()
        self._connection.close()

    def next(self) -> dict[str, Any] | None:
        """The next event; None at the end of the stream."""
        deadline = time.monotonic() + DEADLINE_S
        while line := self.response.readline():
            if time.monotonic() > deadline:
                raise TimeoutError("only comments came")
            if line.startswith(b"data: "):
                found: dict[str, Any] = json.loads(line[6:])
                return found
        return None

    def until(self, is_last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """The events up to the first one that is the last."""
        found = []
        while event := self.next():
            found.append(event)
            if is_last(event):
                return found
        raise AssertionError(f"the stream ended after {found}")

    def wait_until_following(self, nodes: int) -> None:
        """Returns once so many nodes send their events."""
        self.until(lambda event: event["event"] == "following" and event["total"] == nodes)
