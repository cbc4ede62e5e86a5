"""Subscribes to a channel or a stream, and prints what arrives.

  catenary subscribe ChatChannel id=42
  catenary subscribe --stream chat/1 --history 5m
  catenary subscribe ChatChannel id=42 --perform speak text=hi --count 1
  catenary subscribe --stream chat/1 --presence
  catenary subscribe --stream chat/1 --join ann name=Ann --timeout 60

Each message is a line: JSON unless standard output is a terminal. A broken connection is opened again, and
missed messages are requested (actioncable-v1-ext-json).

Exit status: 0 after --count messages, or after --timeout without a --count; 1 if the server refuses the
connection, disconnects for good or rejects the subscription, or if --timeout comes first.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from catenary.errors import BackendError, ConfigError
from catenary.messages.lenient_json import reader
from catenary.messages.publications import Position
from catenary.protocols.actioncable import EXTENDED, SUBPROTOCOL
from catenary.terminal.argument_values import count, fields, header, seconds, token
from catenary.terminal.cable_socket import CableSocket, HandshakeRequest, address, connect
from catenary.terminal.console import Console, consoles, printable
from catenary.terminal.running import Invocation
from catenary.terminal.server_settings import ServerSettings, add_key_arguments, server_settings

WELCOME_S: Final = 10.0
"""Time limit of a connection attempt, until the welcome."""

PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0
"""Pause between reconnection attempts: doubled each time, with jitter."""

PINGS: Final = 2.5
"""Number of ping intervals without a message after which the connection counts as dead."""

EVERYTHING_SINCE: Final = 1
"""For --history=all: a second of 1970, because 0 requests no history."""


class SubscriptionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do on the subscription.

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("channel", metavar="CHANNEL", nargs="?", help="or an identifier as JSON")
    parser.add_argument("params", metavar="NAME=VALUE", nargs="*")
    stream = parser.add_mutually_exclusive_group()
    stream.add_argument("--stream", metavar="NAME", help="a stream; signed if a key is known")
    stream.add_argument("--signed", metavar="NAME", help="a signed stream name")
    parser.add_argument("--plain", action="store_true", help="do not sign the name of --stream")
    parser.add_argument("--url", help="the cable, ws://…/cable")
    add_key_arguments(parser, "the key that signs stream names")
    parser.add_argument("--jwt", type=token, metavar="TOKEN", help="authenticate with this token")
    parser.add_argument("--header", action="append", type=header, default=[], metavar="NAME:VALUE")
    parser.add_argument(
        "--history", metavar="TIME", type=_since, help="start so far back, such as 5m, or: all"
    )
    parser.add_argument("--presence", action="store_true", help="print presence and its changes")
    parser.add_argument(
        "--join", nargs="+", metavar="ID", help="join presence as ID, with name=value …"
    )
    parser.add_argument(
        "--perform", nargs="+", metavar="ACTION", help="call an action with name=value …"
    )
    parser.add_argument("--count", type=count, metavar="N", help="end after N messages")
    parser.add_argument("--timeout", type=seconds, metavar="TIME", help="end after this time")
    parser.add_argument(
        "--bare", action="store_true", help="print only messages, without positions"
    )


def run(invocation: Invocation) -> int:
    arguments, server = invocation.arguments, server_settings(invocation, "streams_secret")
    plan = _plan(arguments, server)
    shown = (f"anycable-token.{arguments.jwt}",) if arguments.jwt else ()
    opening = HandshakeRequest(
        address=address(arguments.url or server.cable_url),
        # The extended one only: a server that is offered both may choose the older one.
        subprotocols=(EXTENDED, *shown),
        headers=tuple(arguments.header),
    )
    return asyncio.run(_listen(opening, plan, arguments.timeout, *consoles(invocation.environ)))


def _plan(arguments: argparse.Namespace, server: ServerSettings) -> SubscriptionPlan:
    perform = join = None
    if arguments.perform:
        action, *params = arguments.perform
        perform = json.dumps({"action": action, **fields(params)})
    if arguments.join:
        member_id, *info = arguments.join
        join = {"id": member_id, "info": fields(info)}
    return SubscriptionPlan(
        identifier=_identifier(arguments, server),
        since=None if arguments.history is None else _moment(arguments.history),
        presence=arguments.presence,
        join=join,
        perform=perform,
        count=arguments.count,
        bare=arguments.bare,
    )


def _identifier(arguments: argparse.Namespace, server: ServerSettings) -> str:
    if arguments.stream or arguments.signed:
        if arguments.channel:
            raise ConfigError(f"expected a channel or a stream, got both: {arguments.channel}")
        if arguments.signed:
            return json.dumps({"channel": "$pubsub", "signed_stream_name": arguments.signed})
        return server.identifier(arguments.stream, is_plain=arguments.plain)
    if not arguments.channel:
        raise ConfigError("expected a channel, or --stream=NAME, got neither")
    if arguments.channel.startswith("{"):
        return json.dumps(fields([arguments.channel, *arguments.params]))
    return json.dumps({"channel": arguments.channel, **fields(arguments.params)})


def _since(text: str) -> float:
    return -1.0 if text == "all" else seconds(text)


def _moment(history_s: float) -> int:
    return EVERYTHING_SINCE if history_s < 0 else int(time.time() - history_s)


async def _listen(
    opening: HandshakeRequest,
    plan: SubscriptionPlan,
    timeout_s: float | None,
    out: Console,
    notes: Console,
) -> int:
    listener = SubscriptionClient(opening, plan, out, notes)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, listener.end, 0)
    staying: asyncio.Future[None] = asyncio.ensure_future(listener.stay())
    try:
        async with asyncio.timeout(timeout_s):
            await _first(staying, listener.ended)
    except TimeoutError:
        listener.time_out()
    if staying.done():
        staying.result()
    staying.cancel()
    await asyncio.wait([staying])
    listener.close()
    return await listener.ended


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


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
        self._taken = 0
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
        self._gone = False
        self._pinged_at: float | None = None
        self._interval_s: float | None = None
        self._heard_at = 0.0

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
        pause_s = PAUSE_S
        while not self.ended.done():
            self._welcomed = self._connected = self._gone = False
            self._reason = ""
            self._pinged_at = self._interval_s = None
            try:
                async with asyncio.timeout(WELCOME_S):
                    await connect(self, self._where, tls)
                    self._connected = True
                    await self._until(lambda: self._welcomed or self._gone)
            except (OSError, TimeoutError) as error:
                self._reason = str(error) or f"no welcome within {WELCOME_S:.0f} s"
                self.abort()
            if self._welcomed:
                pause_s = PAUSE_S
                await self._until_gone()
            elif self._connected and EXTENDED in self._opening.subprotocols:
                self._opening = _plainer(self._opening)
                continue
            elif not self._subscribed:
                raise BackendError(
                    f"{self._where.authority} refuses the connection: {self._reason}"
                )
            self._note(f"away: {self._reason or 'the connection broke'}")
            await asyncio.sleep(pause_s * (0.5 + random.random()))  # noqa: S311  (no secret)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    # Called by the socket

    def query(self) -> str:
        return f"sid={self._sid}" if self._sid else ""

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._gone = True
        self._changed.set()

    def failed(self, reason: str) -> None:
        self._reason = self._reason or reason

    def message_received(self, payload: bytes) -> None:
        if self.ended.done():
            return
        self._heard_at = time.monotonic()
        try:
            said = _read(payload)
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
        }.get(said.type)
        if answer is None and said.type in ("confirm_history", "pong"):
            return
        try:
            (answer or self._message)(said)
        except BrokenPipeError:
            # The reader of our output has gone; do not mistake it for an error of the connection.
            self.end(0)

    # Handlers of messages

    def _welcome(self, said: _ServerMessage) -> None:
        self._welcomed = True
        self._changed.set()
        if self.subprotocol == EXTENDED:
            self._sid = said.sid
        missed: dict[str, Any] = {}
        if self._positions:
            missed["history"] = {"streams": self._positions}
        elif self._plan.since is not None and not self._taken:
            missed["history"] = {"since": self._plan.since}
        if said.restored and self._plan.identifier in said.restored_ids:
            self._note("session resumed")
            if missed:
                self._command("history", **missed)
            self._take_part()
        else:
            self._command("subscribe", **missed)

    def _ping(self, said: _ServerMessage) -> None:
        now = time.monotonic()
        if self._pinged_at is not None:
            self._interval_s = now - self._pinged_at
            self._changed.set()
        self._pinged_at = now
        if self.subprotocol == EXTENDED:
            self.send(b'{"command":"pong"}')

    def _confirmed(self, said: _ServerMessage) -> None:
        self._subscribed = True
        self._note(f"subscribed to {printable(self._plan.identifier)}")
        if self._plan.since is not None and self.subprotocol != EXTENDED:
            self._note(
                "the server does not support the extended protocol: history may be unavailable"
            )
        self._take_part()

    def _take_part(self) -> None:
        if self._plan.join is not None:
            self._command("join", presence=self._plan.join)
        if self._plan.presence:
            self._command("presence")
        if self._plan.perform is not None and not self._performed:
            self._performed = True
            self._command("message", data=self._plan.perform)

    def _rejected(self, said: _ServerMessage) -> None:
        self._note(f"rejected: {printable(self._plan.identifier)}", style="red")
        self.end(1)

    def _history_rejected(self, said: _ServerMessage) -> None:
        self._positions.clear()
        self._note(
            "the history does not reach back far enough: messages may be missing", style="red"
        )

    def _disconnected(self, said: _ServerMessage) -> None:
        self._reason = f"disconnected: {printable(said.reason)}"
        if not said.reconnect:
            self._note(self._reason, style="red")
            self.end(1)

    def _message(self, said: _ServerMessage) -> None:
        if said.stream_id is not None and said.offset >= 0:
            self._positions[said.stream_id] = Position(said.epoch, said.offset)
        told = bytes(said.message).decode()
        if self._out.is_terminal:
            mark = f"#{said.offset} " if said.offset >= 0 and not self._plan.bare else ""
            kind = f"{said.type} " if said.type else ""
            self._tell(self._out.painted("dim", f"{mark}{kind}") + self._out.json(printable(told)))
        elif self._plan.bare:
            self._out.say(told)
        else:
            self._out.say(_write(_line(said)).decode())
        self._count()

    def _presence(self, said: _ServerMessage) -> None:
        if not self._plan.presence:
            return
        if not self._out.is_terminal:
            self._out.say(_write({"type": "presence", "message": said.message}).decode())
        else:
            self._tell_presence(_read_event(bytes(said.message)))
        self._count()

    def _tell_presence(self, event: _PresenceEvent) -> None:
        styles = {"join": "green", "leave": "yellow"}
        if event.type not in styles:
            here = _write(event.records).decode()
            self._tell(f"{self._out.painted('blue', 'here ')} {self._out.json(printable(here))}")
            return
        told = bytes(event.info).decode()
        info = "" if told == "null" else self._out.json(printable(told))
        word = self._out.painted(styles[event.type], f"{event.type:5}")
        self._tell(f"{word} {printable(str(event.id))} {info}".rstrip())

    def _count(self) -> None:
        self._taken += 1
        if self._plan.count is not None and self._taken >= self._plan.count:
            self.end(0)

    # Waiting and sending

    async def _until_gone(self) -> None:
        """Waits until the connection is lost, or pings stop."""
        while not self._gone:
            self._changed.clear()
            patience_s = None
            if self._interval_s is not None:
                patience_s = max(1.0, PINGS * self._interval_s) - (
                    time.monotonic() - self._heard_at
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

    def _tell(self, text: str) -> None:
        moment = self._out.painted("dim", time.strftime("%H:%M:%S"))
        self._out.say(f"{moment} {text}")

    def _note(self, text: str, style: str = "dim") -> None:
        self._notes.say(self._notes.painted(style, text))


def _plainer(opening: HandshakeRequest) -> HandshakeRequest:
    """The same handshake for a server that does not support the extended protocol."""
    known = tuple(SUBPROTOCOL if name == EXTENDED else name for name in opening.subprotocols)
    return msgspec.structs.replace(opening, subprotocols=known)


def _line(said: _ServerMessage) -> dict[str, Any]:
    """A message as data, without its identifier."""
    line: dict[str, Any] = {"type": said.type} if said.type else {}
    line["message"] = said.message
    if said.stream_id is not None and said.offset >= 0:
        line |= {"stream_id": said.stream_id, "epoch": said.epoch, "offset": said.offset}
    return line
