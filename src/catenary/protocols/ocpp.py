"""OCPP-J, the protocol of charging stations, as the commands of a client of one channel.

The first CALL of a station (BootNotification, or any other after a mere loss of the connection) asks the application to
admit it and subscribes it to the channel. Each CALL performs an action of that channel, each publication of its streams is a
CALL to the station, and each answer of the station performs ``ack`` or ``error``. A CALL to which the application has sent
no answer of its own is answered by default when its action is done.

Source: OCPP-J 1.6; docs/ocpp.md (anycable/anycable). Knows: messages of OCPP, identifiers. Does not know: frames, requests,
the clock.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec

from catenary.errors import CommandError
from catenary.messages.commands import (
    Checkpoint,
    CloseConnection,
    Command,
    DirectReply,
    Perform,
    Subscribe,
)
from catenary.messages.lenient_json import reader
from catenary.messages.names import Identifier
from catenary.messages.reasons import Reason
from catenary.messages.replies import (
    Confirmed,
    Delivery,
    Disconnected,
    Failed,
    PresenceState,
    Rejected,
    Reply,
)
from catenary.ports import Goodbye, Introduction
from catenary.protocols import ocpp_messages
from catenary.protocols.actioncable import GOODBYES
from catenary.protocols.actioncable_transmissions import read_reply
from catenary.protocols.ocpp_commands import RemoteCommands
from catenary.protocols.ocpp_messages import (
    VERSIONS,
    Call,
    CallError,
    CallRefused,
    Version,
    snake_case,
)
from catenary.protocols.table import ClientProtocol, ProtocolSet

_BOOT: Final = "BootNotification"
_HEARTBEAT: Final = "Heartbeat"
_POLICY: Final = 1008
_GOODBYES: Final = GOODBYES | {
    reason: Goodbye(reason, _POLICY, GOODBYES[reason].text)
    for reason in (
        Reason.AUTH_FAILED,
        Reason.UNAUTHORIZED,
        Reason.TOKEN_EXPIRED,
        Reason.IDLE_TIMEOUT,
    )
}
_REFUSALS: Final = frozenset(
    {
        Reason.AUTH_FAILED,
        Reason.AUTH_ERROR,
        Reason.UNAUTHORIZED,
        Reason.TOKEN_EXPIRED,
        Reason.COMMAND_FAILED,
    }
)
"""Reasons that come from the application. If they end a session whose first CALL has no answer yet, the station gets an
answer before the close frame. After other reasons, such as a restart, the station connects again and repeats the CALL."""


class _Station(msgspec.Struct, gc=False):
    serial: str | None = msgspec.field(name="serialNumber", default=None)


class _Boot(msgspec.Struct, gc=False):
    """The serial numbers in a BootNotification: the first two in 1.6, the last one in 2.0.1."""

    meter: str | None = msgspec.field(name="meterSerialNumber", default=None)
    charge_point: str | None = msgspec.field(name="chargePointSerialNumber", default=None)
    station: _Station | None = msgspec.field(name="chargingStation", default=None)


class _Written(msgspec.Struct, gc=False):
    """A message of the application: a command for the station, ``Ack`` or ``Error``."""

    command: str
    id: str | int | None = None
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    code: str = "InternalError"
    message: str = ""


_read_boot: Final = reader(_Boot)
_read_written: Final = reader(_Written)
_read_fields: Final = reader(dict[str, msgspec.Raw])
_write: Final = msgspec.json.Encoder().encode


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Settings and functions that all stations of a server share.

    ``channel`` is the name of the channel. With ``is_granular``, each OCPP action is an action of the channel in snake case;
    otherwise all are ``receive``. Stations send a heartbeat every ``heartbeat_interval_s``. ``now`` returns
    seconds since 1970, ``clock`` monotonic seconds, ``new_id`` the id of a command that was published without one.
    ``refused`` is called with the id of a station when a command for it is dropped because too many wait.
    """

    channel: str = "OCPPChannel"
    is_granular: bool = True
    heartbeat_interval_s: int = 30
    now: Callable[[], float]
    clock: Callable[[], float]
    new_id: Callable[[], str]
    refused: Callable[[str], None]


def protocols(rules: Rules, station_id: str) -> ProtocolSet:
    """The protocols for one station, whose id is in its path."""
    return ProtocolSet(
        [
            ClientProtocol(
                name=version.subprotocol,
                subprotocols=(version.subprotocol,),
                codec=partial(OcppCodec, version, rules, station_id),
                has_state=True,
            )
            for version in VERSIONS
        ]
    )


class OcppCodec:
    """Satisfies :class:`catenary.ports.IntroducedCodec`. Belongs to one session."""

    __slots__ = (
        "_failed",
        "_identifier",
        "_is_rejected",
        "_is_subscribed",
        "_open",
        "_remote",
        "_rules",
        "_station_id",
        "_version",
    )

    def __init__(self, version: Version, rules: Rules, station_id: str) -> None:
        self._version = version
        self._rules = rules
        self._station_id = station_id
        self._identifier = Identifier("")
        self._is_subscribed = False
        self._is_rejected = False
        # The CALLs of the station that are not answered: id → action
        self._open: dict[str, str] = {}
        # The last command that the application failed to decide
        self._failed: Command | None = None
        self._remote = RemoteCommands(rules.clock, partial(rules.refused, station_id))

    # From the station

    def introduce(self, payload: bytes) -> Introduction | tuple[DirectReply | CloseConnection, ...]:
        """The first CALL introduces a station."""
        try:
            message = ocpp_messages.read(payload, self._version)
        except CallRefused as refused:
            return (DirectReply(refused.answer),)
        if type(message) is not Call or message.is_send:
            raise CommandError("expected a CALL first")
        # Noted now, because the application may refuse the station before the message is decoded as a command.
        self._open[message.id] = message.action
        return Introduction(is_command=True)

    def decode(self, payload: bytes) -> Command | tuple[Command, ...] | None:
        """Reads one message. Raises :class:`CommandError` for one that is not answered."""
        try:
            message = ocpp_messages.read(payload, self._version)
        except CallRefused as refused:
            return DirectReply(refused.answer)
        commands: tuple[Command, ...]
        if type(message) is Call:
            commands = self._call(message)
        elif not self._remote.is_answered_by(message.id):
            raise CommandError("expected the answer to the last command")
        elif type(message) is CallError:
            commands = (self._perform_error(message),)
        else:
            commands = (self._perform("ack", message.id, "Ack", message.payload),)
        following = self._remote.next()
        return commands if following is None else (DirectReply(following), *commands)

    def _call(self, call: Call) -> tuple[Command, ...]:
        if not self._identifier:
            self._identifier = self._identifier_of(call)
            return Subscribe(self._identifier), Checkpoint(partial(self._begin, call))
        if not call.is_send:
            if call.id in self._open:
                raise CommandError("expected the id of a new CALL, got one that is under way")
            self._open[call.id] = call.action
        return self._performed(call)

    def _performed(self, call: Call) -> tuple[Command, ...]:
        """The action of a CALL, and its default answer after that."""
        if call.action == _HEARTBEAT:
            return (Checkpoint(partial(self._answer, call, None)),)
        perform = self._perform(snake_case(call.action), call.id, call.action, call.payload)
        if call.is_send:
            return (perform,)
        return perform, Checkpoint(partial(self._answer, call, perform))

    def _perform(
        self, action: str, id: str, command: str, payload: bytes, more: bytes = b""
    ) -> Perform:
        name = action if self._rules.is_granular else "receive"
        data = b'{"action":%b,"id":%b,"command":%b,%b"payload":%b}' % (
            _write(name),
            _write(id),
            _write(command),
            more,
            payload,
        )
        return Perform(self._identifier, data.decode())

    def _perform_error(self, error: CallError) -> Perform:
        more = b'"code":%b,"message":%b,' % (_write(error.code), _write(error.description))
        return self._perform("error", error.id, "Error", error.details, more)

    def _identifier_of(self, call: Call) -> Identifier:
        serial = _serial_of(call.payload) if call.action == _BOOT else None
        fields = {
            "channel": self._rules.channel,
            "sn": serial or self._station_id,
            "station_id": self._station_id,
        }
        return Identifier(_write(fields).decode())

    # Called when earlier commands have been executed

    def _begin(self, call: Call) -> Command | tuple[Command, ...]:
        """The first CALL, once the application has decided about the subscription."""
        if self._is_subscribed:
            return self._performed(call)
        reason = Reason.AUTH_FAILED if self._is_rejected else Reason.AUTH_ERROR
        answer = self._refusal(reason)
        goodbye = self.goodbye(reason)
        closing = CloseConnection(goodbye.code, goodbye.text)
        return closing if answer is None else (DirectReply(answer), closing)

    def _answer(self, call: Call, perform: Perform | None) -> Command | None:
        """The default answer to a CALL, unless the application has answered it."""
        failed, self._failed = self._failed, None
        if self._take_open(call.id) is None:
            return None
        if perform is not None and failed is perform:
            return DirectReply(_internal_error(call.id, "the application failed"))
        if call.action in self._version.decided:
            return DirectReply(_internal_error(call.id, "the application has sent no answer"))
        return DirectReply(ocpp_messages.result(call.id, self._default_payload(call.action)))

    def _take_open(self, id: str) -> str | None:
        """The action of a CALL that is answered now; None if there is none."""
        action = self._open.pop(id, None)
        if not self._open:
            self._open = {}  # a dict that was emptied keeps its memory
        return action

    def _default_payload(self, action: str) -> bytes:
        if action == _BOOT:
            return self._boot_payload(b'"Accepted"')
        if action == _HEARTBEAT:
            return b'{"currentTime":%b}' % self._current_time()
        return b"{}" if action in self._version.without_fields else b'{"status":"Accepted"}'

    def _boot_payload(self, status: bytes) -> bytes:
        return b'{"status":%b,"currentTime":%b,"interval":%d}' % (
            status,
            self._current_time(),
            self._rules.heartbeat_interval_s,
        )

    def _current_time(self) -> bytes:
        now = datetime.fromtimestamp(self._rules.now(), UTC)
        return b'"%b"' % now.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()

    # To the station

    def encode(self, reply: Reply) -> bytes | None:
        """Writes a message of the application. Notes other replies that concern the station's CALLs, and returns None."""
        match reply:
            case Delivery():
                return self.encode_delivery(reply)
            case Failed(command):
                self._failed = command
            case Confirmed():
                self._is_subscribed = True
            case Rejected():
                self._is_rejected = True
            case Disconnected(reason) if reason in _REFUSALS and not self._is_subscribed:
                return self._refusal(reason)
        return None

    def _refusal(self, reason: Reason | str) -> bytes | None:
        """The answer to the first CALL of a station that is not admitted; None if it was answered before."""
        if not self._open:
            return None
        message_id, action = next(iter(self._open.items()))
        self._open.clear()
        if reason is Reason.AUTH_ERROR:
            return _internal_error(message_id, "the application did not decide")
        if action == _BOOT:
            return ocpp_messages.result(message_id, self._boot_payload(b'"Rejected"'))
        return ocpp_messages.error(
            message_id, "SecurityError", "the application refused the station"
        )

    def encode_pieces(self, reply: PresenceState) -> Iterator[bytes]:
        """Stations do not see who is present."""
        return iter(())

    def encode_transmission(self, text: str) -> bytes | None:
        """The CALL or the answer in a message of the application."""
        reply = read_reply(text)
        return None if reply is None else self.encode(reply)

    def encode_delivery(self, delivery: Delivery) -> bytes | None:
        """A command for the station, or an answer to it; None for other messages, for the answer to no CALL, and for a
        command that waits for the answer to another one."""
        if delivery.kind:
            return None
        try:
            written = _read_written(delivery.message)
        except msgspec.DecodeError:
            return None
        payload = bytes(written.payload)
        if payload == b"null":
            payload = b"{}"
        if not payload.startswith(b"{"):
            return None
        message_id = "" if written.id is None else str(written.id)
        if written.command == "Ack":
            return self._ack(message_id, payload)
        if written.command == "Error":
            if self._take_open(message_id) is None:
                return None
            return ocpp_messages.error(message_id, written.code, written.message, payload)
        message_id = message_id or self._rules.new_id()
        return self._remote.put(
            message_id, ocpp_messages.call(message_id, written.command, payload)
        )

    def _ack(self, id: str, payload: bytes) -> bytes | None:
        action = self._take_open(id)
        if action is None:
            return None
        if action == _BOOT:
            payload = self._completed(payload)
        return ocpp_messages.result(id, payload)

    def _completed(self, payload: bytes) -> bytes:
        """The fields of an answer to a BootNotification that the application has left out."""
        fields = _read_fields(self._boot_payload(b'"Accepted"'))
        return _write(fields | _read_fields(payload))

    def goodbye(self, reason: Reason) -> Goodbye:
        """Close codes of RFC 6455, section 7.4.1: OCPP defines none."""
        return _GOODBYES[reason]


def _serial_of(payload: bytes) -> str | None:
    try:
        boot = _read_boot(payload)
    except msgspec.DecodeError:
        return None
    station = None if boot.station is None else boot.station.serial
    return boot.meter or boot.charge_point or station


def _internal_error(id: str, description: str) -> bytes:
    return ocpp_messages.error(id, "InternalError", description)
