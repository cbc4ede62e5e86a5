"""Listens to a channel or a stream, and tells what arrives.

  catenary subscribe ChatChannel id=42
  catenary subscribe --stream chat/1 --history 5m
  catenary subscribe ChatChannel id=42 --perform speak text=hi --count 1
  catenary subscribe --stream chat/1 --presence
  catenary subscribe --stream chat/1 --join ann name=Ann --timeout 60

Each message is a line: JSON where standard output is no terminal. A connection that breaks is
opened again, and what was missed meanwhile is asked for (actioncable-v1-ext-json).

Exit status: 0 after --count messages, or after --timeout without a --count; 1 where the server does
not let us in, sends us away, or we were not subscribed, or --count was not reached, in time.
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
from catenary.terminal.cable_socket import CableSocket, Opening, address, connect
from catenary.terminal.running import Given
from catenary.terminal.screen import Paper, papers, visible
from catenary.terminal.surroundings import Surroundings, declare_keys, surroundings
from catenary.terminal.words import count, fields, header, seconds, token

WELCOME_S: Final = 10.0
"""For a connection, until its welcome."""

PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0
"""Between attempts to come back: twice as long each time, and somewhat at random."""

PINGS: Final = 2.5
"""So many intervals without anything, and the connection counts as dead."""

EVERYTHING_SINCE: Final = 1
"""For --history=all: a second of 1970, since 0 would ask for nothing."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done on the subscription.

    ``since`` is seconds since 1970. ``join`` is the presence to be seen with, ``perform`` the JSON of
    an action that is called once. ``count`` None: no end.
    """

    identifier: str
    since: int | None = None
    presence: bool = False
    join: dict[str, Any] | None = None
    perform: str | None = None
    count: int | None = None
    bare: bool = False


class _Heard(msgspec.Struct):
    """What a server may say, of all kinds."""

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


class _Event(msgspec.Struct):
    type: str = ""
    id: str | int = ""
    info: msgspec.Raw = msgspec.Raw(b"null")
    records: list[msgspec.Raw] = []


_write = msgspec.json.Encoder().encode
_read = reader(_Heard)
_read_event = reader(_Event)


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("channel", metavar="CHANNEL", nargs="?", help="or an identifier as JSON")
    parser.add_argument("params", metavar="NAME=VALUE", nargs="*")
    stream = parser.add_mutually_exclusive_group()
    stream.add_argument("--stream", metavar="NAME", help="signed where a key is known")
    stream.add_argument("--signed", metavar="NAME", help="the name of a stream that is signed")
    parser.add_argument("--plain", action="store_true", help="do not sign the name of --stream")
    parser.add_argument("--url", help="the cable, ws://…/cable")
    declare_keys(parser, "the key of stream names")
    parser.add_argument("--jwt", type=token, metavar="TOKEN", help="show this token")
    parser.add_argument("--header", action="append", type=header, default=[], metavar="NAME:VALUE")
    parser.add_argument("--history", metavar="TIME", type=_since, help="begin so far back, or: all")
    parser.add_argument("--presence", action="store_true", help="tell who is there, comes and goes")
    parser.add_argument("--join", nargs="+", metavar="ID", help="be there, as ID name=value …")
    parser.add_argument("--perform", nargs="+", metavar="ACTION", help="call it, name=value …")
    parser.add_argument("--count", type=count, metavar="N", help="end after so many messages")
    parser.add_argument("--timeout", type=seconds, metavar="TIME", help="end after so long")
    parser.add_argument(
        "--bare", action="store_true", help="only messages, without where they stand"
    )


def run(given: Given) -> int:
    arguments, around = given.arguments, surroundings(given, "streams_secret")
    wish = _wish(arguments, around)
    shown = (f"anycable-token.{arguments.jwt}",) if arguments.jwt else ()
    opening = Opening(
        address=address(arguments.url or around.cable_url),
        # Alone: who is offered both takes the older one.
        subprotocols=(EXTENDED, *shown),
        headers=tuple(arguments.header),
    )
    return asyncio.run(_listen(opening, wish, arguments.timeout, *papers(given.environ)))


def _wish(arguments: argparse.Namespace, around: Surroundings) -> Wish:
    perform = join = None
    if arguments.perform:
        action, *params = arguments.perform
        perform = json.dumps({"action": action, **fields(params)})
    if arguments.join:
        who, *info = arguments.join
        join = {"id": who, "info": fields(info)}
    return Wish(
        identifier=_identifier(arguments, around),
        since=None if arguments.history is None else _moment(arguments.history),
        presence=arguments.presence,
        join=join,
        perform=perform,
        count=arguments.count,
        bare=arguments.bare,
    )


def _identifier(arguments: argparse.Namespace, around: Surroundings) -> str:
    if arguments.stream or arguments.signed:
        if arguments.channel:
            raise ConfigError(f"expected a channel or a stream, got both: {arguments.channel}")
        if arguments.signed:
            return json.dumps({"channel": "$pubsub", "signed_stream_name": arguments.signed})
        return around.identifier(arguments.stream, is_plain=arguments.plain)
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
    opening: Opening, wish: Wish, timeout_s: float | None, out: Paper, notes: Paper
) -> int:
    listener = Listener(opening, wish, out, notes)
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


class Listener(CableSocket):
    """One subscription over all of its connections. ``ended`` is done with the exit status."""

    def __init__(self, opening: Opening, wish: Wish, out: Paper, notes: Paper) -> None:
        super().__init__(opening)
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._where = opening.address
        self._wish = wish
        self._out = out
        self._notes = notes
        self._taken = 0
        # Where it was
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
        """Says that nothing more is to be done."""
        if not self.ended.done():
            self.ended.set_result(status)

    def time_out(self) -> None:
        """No more time: that is as it was wanted, if it was there to count nothing."""
        if not self._subscribed:
            self._note("not subscribed in time", style="red")
        self.end(0 if self._subscribed and self._wish.count is None else 1)

    async def stay(self) -> None:
        """Connects, again and again. Raises :class:`BackendError` where the first time fails."""
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
                self.cut()
            if self._welcomed:
                pause_s = PAUSE_S
                await self._until_gone()
            elif self._connected and EXTENDED in self._opening.subprotocols:
                self._opening = _plainer(self._opening)
                continue
            elif not self._subscribed:
                raise BackendError(f"{self._where.authority} does not let us in: {self._reason}")
            self._note(f"away: {self._reason or 'the connection broke'}")
            await asyncio.sleep(pause_s * (0.5 + random.random()))  # noqa: S311  (no secret)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    # What the socket calls

    def query(self) -> str:
        return f"sid={self._sid}" if self._sid else ""

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._gone = True
        self._changed.set()

    def refused(self, reason: str) -> None:
        self._reason = self._reason or reason

    def heard(self, payload: bytes) -> None:
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
            "reject_history": self._forgotten,
            "disconnect": self._sent_away,
            "presence": self._presence,
        }.get(said.type)
        if answer is None and said.type in ("confirm_history", "pong"):
            return
        try:
            (answer or self._message)(said)
        except BrokenPipeError:
            # Whoever read has had enough; the loop would take it for the connection's.
            self.end(0)

    # What it answers

    def _welcome(self, said: _Heard) -> None:
        self._welcomed = True
        self._changed.set()
        if self.subprotocol == EXTENDED:
            self._sid = said.sid
        missed: dict[str, Any] = {}
        if self._positions:
            missed["history"] = {"streams": self._positions}
        elif self._wish.since is not None and not self._taken:
            missed["history"] = {"since": self._wish.since}
        if said.restored and self._wish.identifier in said.restored_ids:
            self._note("back")
            if missed:
                self._command("history", **missed)
            self._take_part()
        else:
            self._command("subscribe", **missed)

    def _ping(self, said: _Heard) -> None:
        now = time.monotonic()
        if self._pinged_at is not None:
            self._interval_s = now - self._pinged_at
            self._changed.set()
        self._pinged_at = now
        if self.subprotocol == EXTENDED:
            self.say(b'{"command":"pong"}')

    def _confirmed(self, said: _Heard) -> None:
        self._subscribed = True
        self._note(f"subscribed to {visible(self._wish.identifier)}")
        if self._wish.since is not None and self.subprotocol != EXTENDED:
            self._note("the server speaks no extended protocol: it may have no history for us")
        self._take_part()

    def _take_part(self) -> None:
        if self._wish.join is not None:
            self._command("join", presence=self._wish.join)
        if self._wish.presence:
            self._command("presence")
        if self._wish.perform is not None and not self._performed:
            self._performed = True
            self._command("message", data=self._wish.perform)

    def _rejected(self, said: _Heard) -> None:
        self._note(f"rejected: {visible(self._wish.identifier)}", style="red")
        self.end(1)

    def _forgotten(self, said: _Heard) -> None:
        self._positions.clear()
        self._note("the history does not reach back: messages may be missing", style="red")

    def _sent_away(self, said: _Heard) -> None:
        self._reason = f"disconnected: {visible(said.reason)}"
        if not said.reconnect:
            self._note(self._reason, style="red")
            self.end(1)

    def _message(self, said: _Heard) -> None:
        if said.stream_id is not None and said.offset >= 0:
            self._positions[said.stream_id] = Position(said.epoch, said.offset)
        told = bytes(said.message).decode()
        if self._out.is_terminal:
            mark = f"#{said.offset} " if said.offset >= 0 and not self._wish.bare else ""
            kind = f"{said.type} " if said.type else ""
            self._tell(self._out.painted("dim", f"{mark}{kind}") + self._out.json(visible(told)))
        elif self._wish.bare:
            self._out.say(told)
        else:
            self._out.say(_write(_line(said)).decode())
        self._count()

    def _presence(self, said: _Heard) -> None:
        if not self._wish.presence:
            return
        if not self._out.is_terminal:
            self._out.say(_write({"type": "presence", "message": said.message}).decode())
        else:
            self._tell_presence(_read_event(bytes(said.message)))
        self._count()

    def _tell_presence(self, event: _Event) -> None:
        styles = {"join": "green", "leave": "yellow"}
        if event.type not in styles:
            here = _write(event.records).decode()
            self._tell(f"{self._out.painted('blue', 'here ')} {self._out.json(visible(here))}")
            return
        told = bytes(event.info).decode()
        info = "" if told == "null" else self._out.json(visible(told))
        word = self._out.painted(styles[event.type], f"{event.type:5}")
        self._tell(f"{word} {visible(str(event.id))} {info}".rstrip())

    def _count(self) -> None:
        self._taken += 1
        if self._wish.count is not None and self._taken >= self._wish.count:
            self.end(0)

    # How it waits and speaks

    async def _until_gone(self) -> None:
        """Until the connection is lost, or nothing has come for much longer than between pings."""
        while not self._gone:
            self._changed.clear()
            patience_s = None
            if self._interval_s is not None:
                patience_s = max(1.0, PINGS * self._interval_s) - (
                    time.monotonic() - self._heard_at
                )
                if patience_s <= 0:
                    self._reason = "no ping any more"
                    self.cut()
                    patience_s = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._changed.wait()

    async def _until(self, predicate: Callable[[], bool]) -> None:
        while not predicate():
            self._changed.clear()
            await self._changed.wait()

    def _command(self, command: str, **rest: Any) -> None:
        self.say(_write({"command": command, "identifier": self._wish.identifier, **rest}))

    def _tell(self, text: str) -> None:
        moment = self._out.painted("dim", time.strftime("%H:%M:%S"))
        self._out.say(f"{moment} {text}")

    def _note(self, text: str, style: str = "dim") -> None:
        self._notes.say(self._notes.painted(style, text))


def _plainer(opening: Opening) -> Opening:
    """The same for a server that may not know the extended protocol."""
    known = tuple(SUBPROTOCOL if name == EXTENDED else name for name in opening.subprotocols)
    return msgspec.structs.replace(opening, subprotocols=known)


def _line(said: _Heard) -> dict[str, Any]:
    """A message as data: what came, without whose it is."""
    line: dict[str, Any] = {"type": said.type} if said.type else {}
    line["message"] = said.message
    if said.stream_id is not None and said.offset >= 0:
        line |= {"stream_id": said.stream_id, "epoch": said.epoch, "offset": said.offset}
    return line
