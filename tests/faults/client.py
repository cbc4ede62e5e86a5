"""A client of the extended protocol that resumes its session on any node and records what it receives.

It does what ``@anycable/core`` does: it reconnects with the id of its session, and requests the messages
after the last position of each stream. It closes a connection without any data for :data:`STALE_S`,
as the monitor of that library does when pings stop.
Source: extended Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io.
Knows: one client. Does not know: publications, faults.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from catenary.terminal.cable_socket import CableAddress, CableSocket, HandshakeRequest, connect

STALE_S: Final = 4.0
"""More than two pings of a node that sends one each second."""

CONNECT_S: Final = 3.0
SHORTEST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0


class _Incoming(msgspec.Struct):
    """Any message of a server; those of streams have no ``type``."""

    type: str = ""
    identifier: str = ""
    message: Any = None
    sid: str = ""
    restored: bool = False
    restored_ids: list[str] | None = None
    stream_id: str = ""
    epoch: str = ""
    offset: int = -1


_read: Final = msgspec.json.Decoder(_Incoming).decode


class _Line(CableSocket):
    """One connection of a client."""

    def __init__(self, opening: HandshakeRequest, on_text: Callable[[bytes], None]) -> None:
        super().__init__(opening)
        self._on_text = on_text
        self.ended = asyncio.Event()

    def message_received(self, payload: bytes) -> None:
        self._on_text(payload)

    def failed(self, reason: str) -> None:
        self.ended.set()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.ended.set()


class RecordingClient:
    """Subscribes to public streams. ``received`` holds the numbers of each stream in the order of their arrival."""

    def __init__(self, streams: Sequence[str], next_port: Callable[[], int]) -> None:
        self.received: dict[str, list[int]] = {stream: [] for stream in streams}
        self.reported_gaps: set[str] = set()
        """Streams for which the server sent ``reject_history``."""
        self.connections = 0
        self.restored = 0
        self.subscribed = asyncio.Event()
        self.longest_silence_s = 0.0
        """Between two messages of one of the streams of :meth:`mark`, since then."""
        self._next_port = next_port
        self._streams = {_identifier(stream): stream for stream in streams}
        self._confirmed: set[str] = set()
        self._positions: dict[str, dict[str, Any]] = {}
        self._sid = ""
        self._began_s = 0
        self._line: _Line | None = None
        self._data_at = 0.0
        self._message_at: dict[str, float] = {}
        self._task = asyncio.create_task(self._stay_connected())

    @property
    def received_num(self) -> int:
        return sum(map(len, self.received.values()))

    def mark(self, streams: Sequence[str]) -> None:
        """Measures silences of these streams from now on."""
        self.longest_silence_s = 0.0
        self._message_at = dict.fromkeys(streams, time.monotonic())

    def cut(self) -> None:
        """Breaks the connection; the client reconnects."""
        if self._line is not None:
            self._line.abort()

    def silent_for_s(self) -> float:
        """The longest silence since :meth:`mark`, including the present one."""
        return max(self.longest_silence_s, time.monotonic() - min(self._message_at.values()))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _stay_connected(self) -> None:
        pause_s = SHORTEST_PAUSE_S
        while True:
            before = self.connections
            await self._connect_once()
            self.subscribed.clear()
            self._confirmed.clear()
            pause_s = (
                SHORTEST_PAUSE_S
                if self.connections > before
                else min(pause_s * 1.6, LONGEST_PAUSE_S)
            )
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))

    async def _connect_once(self) -> None:
        """Returns when the connection has ended, or has failed."""
        port = self._next_port()
        where = CableAddress(
            host="127.0.0.1",
            port=port,
            authority=f"127.0.0.1:{port}",
            target=f"/cable?sid={self._sid}" if self._sid else "/cable",
            is_secure=False,
        )
        opening = HandshakeRequest(address=where, subprotocols=("actioncable-v1-ext-json",))
        line = self._line = _Line(opening, self._take)
        self._data_at = time.monotonic()
        try:
            async with asyncio.timeout(CONNECT_S):
                await connect(line, where, None)
            while not line.ended.is_set():
                try:
                    async with asyncio.timeout(0.5):
                        await line.ended.wait()
                except TimeoutError:
                    if time.monotonic() - self._data_at > STALE_S:
                        return
        except (OSError, TimeoutError):
            return
        finally:
            line.abort()

    # Incoming messages

    def _take(self, payload: bytes) -> None:
        self._data_at = time.monotonic()
        message = _read(payload)
        match message.type:
            case "":
                self._receive(message)
            case "welcome":
                self._enter(message)
            case "confirm_subscription":
                self._confirm(message.identifier)
            case "reject_history":
                self.reported_gaps.add(self._streams[message.identifier])

    def _receive(self, message: _Incoming) -> None:
        stream = self._streams.get(message.identifier)
        if stream is None or not isinstance(message.message, int):
            return
        if message.offset >= 0:
            self._positions[stream] = {"epoch": message.epoch, "offset": message.offset}
        self.received[stream].append(message.message)
        before, now = self._message_at.get(stream), self._data_at
        if before is not None:
            self.longest_silence_s = max(self.longest_silence_s, now - before)
            self._message_at[stream] = now

    def _enter(self, welcome: _Incoming) -> None:
        self.connections += 1
        self._sid = welcome.sid
        restored = set(welcome.restored_ids or ()) if welcome.restored else set()
        self.restored += welcome.restored
        for identifier, stream in self._streams.items():
            command: dict[str, Any] = {"command": "subscribe", "identifier": identifier}
            position = self._positions.get(stream)
            if position is not None:
                command["history"] = {"streams": {stream: position}}
            elif self._began_s:
                command["history"] = {"since": self._began_s}
            if identifier in restored:
                command["command"] = "history"
            if "history" in command or identifier not in restored:
                self._say(command)
            if identifier in restored:
                self._confirm(identifier)

    def _confirm(self, identifier: str) -> None:
        self._confirmed.add(identifier)
        if len(self._confirmed) == len(self._streams):
            self._began_s = self._began_s or int(time.time())
            self.subscribed.set()

    def _say(self, command: dict[str, Any]) -> None:
        if self._line is not None:
            self._line.send(json.dumps(command).encode())


def _identifier(stream: str) -> str:
    return json.dumps({"channel": "$pubsub", "stream_name": stream})
