"""An Action Cable client for tests: the `websockets` library, and no code of ours below it.

Source: Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io.
"""

import json
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

DEADLINE_S = 20.0
V1 = ("actioncable-v1-json",)
PONG = {"type": "pong"}


def identifier(channel: str, **params: object) -> str:
    """A subscription's name: the JSON text that client, server and application compare."""
    return json.dumps({"channel": channel, **params})


def confirmed(identifier: str) -> dict[str, Any]:
    """The message that accepts a subscription."""
    return {"type": "confirm_subscription", "identifier": identifier}


def rejected(identifier: str) -> dict[str, Any]:
    """The message that rejects a subscription."""
    return {"type": "reject_subscription", "identifier": identifier}


def delivered(identifier: str, message: object) -> dict[str, Any]:
    """A message in its envelope."""
    return {"identifier": identifier, "message": message}


class CableClient:
    """One connection. Every wait longer than ``deadline_s`` raises TimeoutError."""

    def __init__(
        self,
        url: str,
        *,
        subprotocols: tuple[str, ...] = V1,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.deadline_s = deadline_s
        extra = dict(headers or {})
        if origin is not None:
            extra["Origin"] = origin
        self._opened = ExitStack()
        self.connection: ClientConnection = self._opened.enter_context(
            connect(
                url,
                subprotocols=[Subprotocol(name) for name in subprotocols] or None,
                additional_headers=extra,
                open_timeout=deadline_s,
                close_timeout=1,
                ping_interval=None,
                compression=None,
                proxy=None,
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Sending

    def send(self, command: str, **fields: object) -> None:
        """Sends one command, as in ``send("subscribe", identifier=…)``."""
        self.connection.send(json.dumps({"command": command, **fields}))

    def send_raw(self, payload: str | bytes) -> None:
        """Sends one frame as it is: text for str, binary for bytes."""
        self.connection.send(payload)

    def subscribe(self, identifier: str) -> dict[str, Any]:
        """Subscribes and returns the answer, which must be the next message."""
        self.send("subscribe", identifier=identifier)
        return self.receive()

    def perform(self, identifier: str, action: str, **params: object) -> None:
        """Calls an action of a channel."""
        data = json.dumps({"action": action, **params})
        self.send("message", identifier=identifier, data=data)

    # Receiving

    def receive_raw(self) -> str | bytes:
        """The next message as it arrived, pings included."""
        return self.connection.recv(timeout=self.deadline_s)

    def receive_any(self) -> dict[str, Any]:
        """The next message, pings included."""
        message = json.loads(self.receive_raw())
        assert isinstance(message, dict)
        return message

    def receive_text(self) -> str:
        """The next message that is not a ping, as it arrived."""
        deadline = time.monotonic() + self.deadline_s
        while time.monotonic() < deadline:
            text = self.receive_raw()
            assert isinstance(text, str), f"expected a text frame, got {text!r}"
            if json.loads(text).get("type") != "ping":
                return text
        raise TimeoutError(f"nothing but pings within {self.deadline_s} s")

    def receive(self) -> dict[str, Any]:
        """The next message that is not a ping."""
        message = json.loads(self.receive_text())
        assert isinstance(message, dict)
        return message

    def receive_welcome(self) -> dict[str, Any]:
        """The welcome message, which must be the next one."""
        message = self.receive()
        assert message["type"] == "welcome", message
        return message

    def expect_nothing(self) -> None:
        """Asserts that nothing was sent to this client so far, pings aside.

        Sends a ping: commands of one client are answered in order, so a message that was sent earlier arrives
        before the pong.
        """
        self.send("ping")
        message = self.receive()
        assert message == PONG, f"expected nothing before the pong, got {message}"

    # Ending

    def wait_for_close(self) -> tuple[int, str]:
        """Reads until the server closes; the code is 1006 if no close frame arrived."""
        deadline = time.monotonic() + self.deadline_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                self.connection.recv(timeout=left_s)
            except ConnectionClosed as closed:
                frame = closed.rcvd
                return (1006, "") if frame is None else (frame.code, frame.reason)
        raise TimeoutError(f"not closed within {self.deadline_s} s")

    def drop(self) -> None:
        """Breaks the connection without a close frame."""
        self.connection.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes with code 1000; a second call does nothing."""
        self._opened.close()
