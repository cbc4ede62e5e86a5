"""A client of the extended protocol that is cut off, reconnects to any node, and counts what it receives.

It does what `@anycable/core` does: it resumes by its session's id, and subscribes again if that is refused. In both
cases it requests the messages after the last position that it knows.
Source: extended Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, WebSocketException
from websockets.typing import Subprotocol

EXTENDED = Subprotocol("actioncable-v1-ext-json")
RETRY_S = 0.05

PATIENCE_S = 60.0
"""Longer than JetStream needs after a node was killed: each of its elections takes up to 9 s, and the first may fail."""


class ResumingClient:
    """One client of one public stream. ``port`` returns the port of its next attempt."""

    def __init__(self, stream: str, port: Callable[[], int], *, member_id: str = "") -> None:
        self.identifier = json.dumps({"channel": "$pubsub", "stream_name": stream})
        self.stream = stream
        self.heard: list[Any] = []
        """Every message, in order of arrival."""
        self.events: list[tuple[str, str]] = []
        """Every change of presence: its type and the member."""
        self.lost: list[str] = []
        """The reasons of rejected histories."""
        self.restored = 0
        """The number of resumed sessions."""
        self.welcomes = 0
        """The number of welcomes."""
        self.subscribed = asyncio.Event()
        self._port = port
        self._member_id = member_id
        self._sid = ""
        self._position: dict[str, Any] | None = None
        self._changed = asyncio.Condition()
        self._connection: ClientConnection | None = None
        self._task = asyncio.create_task(self._live())

    async def until(
        self, predicate: Callable[["ResumingClient"], bool], timeout_s: float = PATIENCE_S
    ) -> None:
        """Waits until a condition holds. Raises TimeoutError with what it has received."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: predicate(self))
        except TimeoutError:
            heard = f"{len(self.heard)} messages, the last {self.heard[-5:]}"
            raise TimeoutError(
                f"{heard}; {self.lost}; restored {self.restored}; {self.events[-5:]}"
            ) from None

    def drop(self) -> None:
        """Loses its connection without a close frame."""
        if self._connection is not None:
            self.subscribed.clear()
            self._connection.transport.abort()

    async def close(self) -> None:
        """Leaves."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _live(self) -> None:
        while True:
            try:
                await self._visit(self._port())
            except (OSError, WebSocketException, InvalidHandshake, InvalidMessage, TimeoutError):
                self.subscribed.clear()
                await asyncio.sleep(RETRY_S)

    async def _visit(self, port: int) -> None:
        """One connection, from its welcome to its end."""
        query = f"?sid={self._sid}" if self._sid else ""
        async with connect(
            f"ws://127.0.0.1:{port}/cable{query}",
            subprotocols=[EXTENDED],
            compression=None,
            ping_interval=None,
            open_timeout=2,
            close_timeout=0.2,
            proxy=None,
        ) as connection:
            self._connection = connection
            async for text in connection:
                await self._take(connection, json.loads(text))

    async def _take(self, connection: ClientConnection, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "welcome":
            self.welcomes += 1
            self._sid = message["sid"]
            await self._enter(connection, restored=bool(message.get("restored")))
        elif kind == "confirm_subscription":
            await self._join(connection)
        elif kind in ("reject_subscription", "reject_history", "disconnect"):
            self.lost.append(json.dumps(message))
        elif kind == "presence":
            event = message["message"]
            if event["type"] in ("join", "leave"):
                self.events.append((event["type"], event["id"]))
        elif "message" in message and kind is None:
            self.heard.append(message["message"])
            if "offset" in message:
                self._position = {"epoch": message["epoch"], "offset": message["offset"]}
        async with self._changed:
            self._changed.notify_all()

    async def _enter(self, connection: ClientConnection, *, restored: bool) -> None:
        missed = {"history": {"streams": {self.stream: self._position}}} if self._position else {}
        if restored:
            self.restored += 1
            if missed:
                await self._say(connection, "history", **missed)
            await self._join(connection)
        else:
            await self._say(connection, "subscribe", **missed)

    async def _join(self, connection: ClientConnection) -> None:
        self.subscribed.set()
        if self._member_id:
            await self._say(connection, "join", presence={"id": self._member_id, "info": {}})

    async def _say(self, connection: ClientConnection, command: str, **fields: object) -> None:
        said = {"command": command, "identifier": self.identifier, **fields}
        await connection.send(json.dumps(said))
