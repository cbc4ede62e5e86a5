"""A WebSocket that is open on a socket in memory, whose client reads when a test says so."""

import asyncio
from typing import cast

from catenary.edge.connection import Stage
from catenary.edge.deadlines import NoDeadlines
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.node.session import Session, Traits
from catenary.node.turns import CLIENTS_BUDGET_US, Turns
from catenary.transports.websocket import (
    Acceptance,
    WebSocketConnection,
    WebSocketLimits,
    WebSocketServices,
)
from tests.parts.heart import NEVER, Heart


class MemorySocket(asyncio.Transport):
    """A transport; its client reads at once unless it ``is_stuck``."""

    def __init__(self) -> None:
        super().__init__()
        self.stage: Stage
        self.taken = bytearray()
        self.unsent = b""
        self.is_stuck = False
        self.calls: list[str] = []
        self._high = self._low = 0
        self._is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.unsent += bytes(data)
        if not self.is_stuck:
            self.read()
        self._maybe_pause()

    def read(self, size: int | None = None) -> None:
        """The client reads some bytes."""
        size = len(self.unsent) if size is None else size
        self.taken += self.unsent[:size]
        self.unsent = self.unsent[size:]
        if self._is_paused and len(self.unsent) <= self._low:
            self._is_paused = False
            self.stage.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high, self._low = high, high // 4
        self._maybe_pause()

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def _maybe_pause(self) -> None:
        if not self._is_paused and len(self.unsent) > self._high:
            self._is_paused = True
            self.stage.pause_writing()

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.calls.append("eof")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class OpenWebSocket:
    """A client of a node, by default a new one."""

    def __init__(
        self,
        heart: Heart | None = None,
        *,
        limits: WebSocketLimits = WebSocketLimits(),  # noqa: B008  (never changed)
        budget: int = CLIENTS_BUDGET_US,
        sid: str = "s",
    ) -> None:
        self.heart = heart or Heart()
        self.socket = MemorySocket()
        services = WebSocketServices(
            self.heart.node,
            limits,
            self.heart.counters,
            NoDeadlines(),
            Turns(budget, asyncio.get_running_loop().call_soon),
        )
        environment = Environment(Sid(sid), "ws://test/", {})
        self.connection = WebSocketConnection(
            services,
            cast("asyncio.Transport", self.socket),
            Acceptance(environment, self.heart.encoder, Traits(NEVER), b""),
        )
        self.socket.stage = self.connection
        self.connection.begin(b"")
        self.socket.taken.clear()

    @property
    def session(self) -> Session:
        return cast("Session", self.connection._session)
