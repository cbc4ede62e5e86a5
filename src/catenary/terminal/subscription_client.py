"""A client with one subscription, which prints the messages that it receives.

It connects again after each loss, resumes its session if the server supports that, and requests the messages after the
last one received. Source: docs/misc/action_cable_protocol.md (docs.anycable.io).
Knows: the messages of the server. Does not know: command lines.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from catenary.errors import BackendError
from catenary.messages.lenient_json import reader
from catenary.messages.publications import Position
from catenary.protocols.actioncable_json import EXTENDED, SUBPROTOCOL
from catenary.supervision.backoff import Backoff
from catenary.terminal.cable_socket import CableSocket, HandshakeRequest, connect
from catenary.terminal.console import Console, printable

WELCOME_S: Final = 10.0
"""Time limit of a connection attempt, until the welcome."""

PINGS: Final = 2.5
"""Number of ping intervals without a message after which the connection counts as dead."""


class SubscriptionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The subscription, and the commands that are sent on it.

    ``since`` is in seconds since 1970. ``join`` is the presence to join with, ``perform`` the JSON of an
    action that is called once. ``count`` None: unlimited.
    """

    identifier: str
    since: int | None = None
    presence: bool = False
    join: dict[str, Any] | None = None
    perform: str | None = None
    count: int | None = None
    bare: bool = False


class _ServerMessage(msgspec.Struct):
    """A message of the server, of any type."""

    type: str = ""
    sid: str = ""
    identifier: str = ""
    message: msgspec.Raw = msgspec.Raw(b"null")
    restored: bool = False
    restored_ids: list[str] = []
    reason: str = ""
    reconnect: bool = True
    stream_id: str | None = None
    epoch: str = ""
    offset: int = -1


class _PresenceEvent(msgspec.Struct):
    type: str = ""
    id: str | int = ""
    info: msgspec.Raw = msgspec.Raw(b"null")
    records: list[msgspec.Raw] = []


_write = msgspec.json.Encoder().encode
_read = reader(_ServerMessage)
_read_event = reader(_PresenceEvent)


class SubscriptionClient(CableSocket):
    """One subscription over several connections. ``ended`` completes with the exit status."""

    def __init__(
        self, opening: HandshakeRequest, plan: SubscriptionPlan, out: Console, notes: Console
    ) -> None:
        super().__init__(opening)
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._where = opening.address
        self._plan = plan
        self._out = out
        self._notes = notes
        self._received = 0
        # For resuming
        self._sid = ""
        self._positions: dict[str, Position] = {}
        self._subscribed = False
        self._performed = False
        # This connection
        self._connected = False
        self._welcomed = False
        self._reason = ""
        self._changed = asyncio.Event()
        self._lost = False
        self._pinged_at: float | None = None
        self._interval_s: float | None = None
        self._received_at = 0.0

    def end(self, status: int) -> None:
        """Sets the exit status; the first call wins."""
        if not self.ended.done():
            self.ended.set_result(status)

    def time_out(self) -> None:
        """Ends at the timeout: with success if subscribed and no count was requested."""
        if not self._subscribed:
            self._note("not subscribed in time", style="red")
        self.end(0 if self._subscribed and self._plan.count is None else 1)

    async def stay(self) -> None:
        """Connects, and reconnects after each loss. Raises :class:`BackendError` if the first attempt fails."""
        tls = self._where.tls
        outage = Backoff()
        while not self.ended.done():
            self._welcomed = self._connected = self._lost = False
            self._reason = ""
            self._pinged_at = self._interval_s = None
            try:
                async with asyncio.timeout(WELCOME_S):
                    await connect(self, self._where, tls)
                    self._connected = True
                    await self._until(lambda: self._welcomed or self._lost)
            except (OSError, TimeoutError) as error:
                self._reason = (
                    error.strerror or str(error) or f"no welcome within {WELCOME_S:.0f} s"
                )
                self.abort()
            if self._welcomed:
                outage.works()
                await self._until_lost()
            elif self._connected and EXTENDED in self._opening.subprotocols:
                self._opening = _plainer(self._opening)
                continue
            elif not self._subscribed:
                raise BackendError(
                    f"{self._where.url} refuses the connection: {self._reason}"
                    if self._connected
                    else f"no server answers at {self._where.url} ({self._reason}): start it, or"
                    " name another with --url"
                )
            pause = outage.failed()
            if pause.is_logged:
                self._note(f"away: {self._reason or 'the connection broke'}")
            await asyncio.sleep(pause.seconds)

    # Called by the socket

    def query(self) -> str:
        return f"sid={self._sid}" if self._sid else ""

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._lost = True
        self._changed.set()

    def failed(self, reason: str) -> None:
        self._reason = self._reason or reason

    def message_received(self, payload: bytes) -> None:
        if self.ended.done():
            return
        self._received_at = time.monotonic()
        try:
            message = _read(payload)
        except msgspec.DecodeError as error:
            self._note(f"expected Action Cable's JSON, got something else: {error}")
            return
        answer = {
            "": self._message,
            "welcome": self._welcome,
            "ping": self._ping,
            "confirm_subscription": self._confirmed,
            "reject_subscription": self._rejected,
            "reject_history": self._history_rejected,
            "disconnect": self._disconnected,
            "presence": self._presence,
        }.get(message.type)
        if answer is None and message.type in ("confirm_history", "pong"):
            return
        try:
            (answer or self._message)(message)
        except BrokenPipeError:
            # The reader of our output has gone; do not mistake it for an error of the connection.
            self.end(0)

    # Handlers of messages

    def _welcome(self, message: _ServerMessage) -> None:
        self._welcomed = True
        self._changed.set()
        if self.subprotocol == EXTENDED:
            self._sid = message.sid
        missed: dict[str, Any] = {}
        if self._positions:
            missed["history"] = {"streams": self._positions}
        elif self._plan.since is not None and not self._received:
            missed["history"] = {"since": self._plan.since}
        if message.restored and self._plan.identifier in message.restored_ids:
            self._note("session resumed")
            if missed:
                self._command("history", **missed)
            self._join_and_perform()
        else:
            self._command("subscribe", **missed)

    def _ping(self, message: _ServerMessage) -> None:
        now = time.monotonic()
        if self._pinged_at is not None:
            self._interval_s = now - self._pinged_at
            self._changed.set()
        self._pinged_at = now
        if self.subprotocol == EXTENDED:
            self.send(b'{"command":"pong"}')

    def _confirmed(self, message: _ServerMessage) -> None:
        self._subscribed = True
        self._note(f"subscribed to {printable(self._plan.identifier)}")
        if self._plan.since is not None and self.subprotocol != EXTENDED:
            self._note(
                "the server does not support the extended protocol: history may be unavailable"
            )
        self._join_and_perform()

    def _join_and_perform(self) -> None:
        if self._plan.join is not None:
            self._command("join", presence=self._plan.join)
        if self._plan.presence:
            self._command("presence")
        if self._plan.perform is not None and not self._performed:
            self._performed = True
            self._command("message", data=self._plan.perform)

    def _rejected(self, message: _ServerMessage) -> None:
        self._note(f"rejected: {printable(self._plan.identifier)}", style="red")
        self.end(1)

    def _history_rejected(self, message: _ServerMessage) -> None:
        self._positions.clear()
        self._note(
            "the history does not reach back far enough: messages may be missing", style="red"
        )

    def _disconnected(self, message: _ServerMessage) -> None:
        self._reason = f"disconnected: {printable(message.reason)}"
        if not message.reconnect:
            self._note(self._reason, style="red")
            self.end(1)

    def _message(self, message: _ServerMessage) -> None:
        if message.stream_id is not None and message.offset >= 0:
            self._positions[message.stream_id] = Position(message.epoch, message.offset)
        text = bytes(message.message).decode()
        if self._out.is_terminal:
            mark = f"#{message.offset} " if message.offset >= 0 and not self._plan.bare else ""
            kind = f"{message.type} " if message.type else ""
            self._print(self._out.painted("dim", f"{mark}{kind}") + self._out.json(printable(text)))
        elif self._plan.bare:
            self._out.say(text)
        else:
            self._out.say(_write(_line(message)).decode())
        self._count()

    def _presence(self, message: _ServerMessage) -> None:
        if not self._plan.presence:
            return
        if not self._out.is_terminal:
            self._out.say(_write({"type": "presence", "message": message.message}).decode())
        else:
            self._print_presence(_read_event(bytes(message.message)))
        self._count()

    def _print_presence(self, event: _PresenceEvent) -> None:
        styles = {"join": "green", "leave": "yellow"}
        if event.type not in styles:
            here = _write(event.records).decode()
            self._print(f"{self._out.painted('blue', 'here ')} {self._out.json(printable(here))}")
            return
        text = bytes(event.info).decode()
        info = "" if text == "null" else self._out.json(printable(text))
        word = self._out.painted(styles[event.type], f"{event.type:5}")
        self._print(f"{word} {printable(str(event.id))} {info}".rstrip())

    def _count(self) -> None:
        self._received += 1
        if self._plan.count is not None and self._received >= self._plan.count:
            self.end(0)

    # Waiting and sending

    async def _until_lost(self) -> None:
        """Waits until the connection is lost, or pings stop."""
        while not self._lost:
            self._changed.clear()
            patience_s = None
            if self._interval_s is not None:
                patience_s = max(1.0, PINGS * self._interval_s) - (
                    time.monotonic() - self._received_at
                )
                if patience_s <= 0:
                    self._reason = "pings stopped"
                    self.abort()
                    patience_s = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._changed.wait()

    async def _until(self, predicate: Callable[[], bool]) -> None:
        while not predicate():
            self._changed.clear()
            await self._changed.wait()

    def _command(self, command: str, **rest: Any) -> None:
        self.send(_write({"command": command, "identifier": self._plan.identifier, **rest}))

    def _print(self, text: str) -> None:
        moment = self._out.painted("dim", time.strftime("%H:%M:%S"))
        self._out.say(f"{moment} {text}")

    def _note(self, text: str, style: str = "dim") -> None:
        self._notes.say(self._notes.painted(style, text))


def _plainer(opening: HandshakeRequest) -> HandshakeRequest:
    """The same handshake for a server that does not support the extended protocol."""
    known = tuple(SUBPROTOCOL if name == EXTENDED else name for name in opening.subprotocols)
    return msgspec.structs.replace(opening, subprotocols=known)


def _line(message: _ServerMessage) -> dict[str, Any]:
    """A message as data, without its identifier."""
    line: dict[str, Any] = {"type": message.type} if message.type else {}
    line["message"] = message.message
    if message.stream_id is not None and message.offset >= 0:
        line |= {"stream_id": message.stream_id, "epoch": message.epoch, "offset": message.offset}
    return line
