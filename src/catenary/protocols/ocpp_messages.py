"""The messages of OCPP-J: JSON arrays, read and written; the versions of OCPP, and what each answers by default.

| message | array |
|---|---|
| CALL | ``[2, id, action, payload]`` |
| CALLRESULT | ``[3, id, payload]`` |
| CALLERROR | ``[4, id, code, description, details]`` |
| CALLRESULTERROR (2.1) | ``[5, id, code, description, details]`` |
| SEND (2.1) | ``[6, id, action, payload]``, which is not answered |

Source: OCPP-J 1.6, section 4; OCPP 2.0.1 and 2.1, part 4, section 4. Knows: arrays, actions. Does not know: who has sent
which, sessions.
"""

import re
from collections.abc import Callable
from typing import Final, final

import msgspec

from catenary.errors import CommandError
from catenary.messages.lenient_json import reader

MAX_ID: Final = 36
"""Characters in the id of a CALL: section 4.1.4, which is the length of a UUID."""

UNREADABLE_ID: Final = "-1"
"""Answers a CALL whose id can't be read: OCPP 2.0.1, part 4, section 4.2.3."""

_ACTION: Final = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")
_WORD_AFTER_CAPITALS: Final = re.compile(r"([A-Z0-9])([A-Z][a-z])")
_WORD_AFTER_SMALL: Final = re.compile(r"([a-z0-9])([A-Z])")
_NOT_AN_ACTION: Final = frozenset({"Ack", "Error", "Receive"})
"""Commands and actions with a meaning of their own for applications (docs/ocpp.md of anycable): no station may call them."""

_read_array: Final = reader(list[msgspec.Raw])
_read_text: Final = reader(str)
_write: Final = msgspec.json.Encoder().encode


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version of OCPP.

    ``malformed`` is its error code for a payload of the wrong form, ``not_a_call`` that for a message that is not
    a message of OCPP-J, ``unknown_type`` that for an unknown message type; None: such a message is not answered.
    ``without_fields`` are the actions whose answer may be an empty object, ``decided`` those whose answer has values that
    only an application knows. ``sends``: stations may SEND.
    """

    subprotocol: str
    malformed: str
    not_a_call: str | None = None
    unknown_type: str | None = None
    without_fields: frozenset[str]
    decided: frozenset[str]
    sends: bool = False


_V16_WITHOUT_FIELDS: Final = frozenset(
    {
        "DiagnosticsStatusNotification",
        "FirmwareStatusNotification",
        "LogStatusNotification",
        "MeterValues",
        "SecurityEventNotification",
        "SignedFirmwareStatusNotification",
        "StatusNotification",
        "StopTransaction",
    }
)
_V201_WITHOUT_FIELDS: Final = frozenset(
    {
        "ClearedChargingLimit",
        "FirmwareStatusNotification",
        "LogStatusNotification",
        "MeterValues",
        "NotifyChargingLimit",
        "NotifyCustomerInformation",
        "NotifyDisplayMessages",
        "NotifyEvent",
        "NotifyMonitoringReport",
        "NotifyReport",
        "PublishFirmwareStatusNotification",
        "ReportChargingProfiles",
        "ReservationStatusUpdate",
        "SecurityEventNotification",
        "StatusNotification",
        "TransactionEvent",
    }
)
_V21_WITHOUT_FIELDS: Final = _V201_WITHOUT_FIELDS | {
    "BatterySwap",
    "ClosePeriodicEventStream",
    "NotifyDERAlarm",
    "NotifyDERStartStop",
    "NotifyPriorityCharging",
    "NotifySettlement",
    "NotifyWebPaymentStarted",
    "ReportDERControl",
}

V16: Final = Version(
    subprotocol="ocpp1.6",
    malformed="FormationViolation",
    without_fields=_V16_WITHOUT_FIELDS,
    decided=frozenset({"Authorize", "StartTransaction"}),
)
V201: Final = Version(
    subprotocol="ocpp2.0.1",
    malformed="FormatViolation",
    not_a_call="RpcFrameworkError",
    unknown_type="MessageTypeNotSupported",
    without_fields=_V201_WITHOUT_FIELDS,
    decided=frozenset({"Authorize", "Get15118EVCertificate", "GetCertificateStatus"}),
)
V21: Final = msgspec.structs.replace(
    V201,
    subprotocol="ocpp2.1",
    without_fields=_V21_WITHOUT_FIELDS,
    decided=V201.decided | {"GetCertificateChainStatus", "VatNumberValidation"},
    sends=True,
)
VERSIONS: Final = (V21, V201, V16)
"""In the order in which the server prefers them: OCPP 2.0.1, part 4, section 3.1.2, leaves it to the server."""


@final
class Call(msgspec.Struct, frozen=True, gc=False):
    """A CALL, or with ``is_send`` a SEND; ``payload`` is the JSON of an object."""

    id: str
    action: str
    payload: bytes
    is_send: bool = False


@final
class CallResult(msgspec.Struct, frozen=True, gc=False):
    """A CALLRESULT; ``payload`` is the JSON of an object."""

    id: str
    payload: bytes


@final
class CallError(msgspec.Struct, frozen=True, gc=False):
    """A CALLERROR or a CALLRESULTERROR; ``details`` is the JSON of an object."""

    id: str
    code: str
    description: str
    details: bytes


class CallRefused(CommandError):
    """A message that is refused with a CALLERROR of this ``id`` and ``code``."""

    def __init__(self, id: str, code: str, description: str) -> None:
        super().__init__(description)
        self.id = id
        self.code = code

    @property
    def answer(self) -> bytes:
        """The CALLERROR."""
        return error(self.id, self.code, str(self))


def read(payload: bytes, version: Version) -> Call | CallResult | CallError:
    """Reads one message. Raises :class:`CallRefused` for one that is answered with an error, and
    :class:`catenary.errors.CommandError` for one that is ignored."""
    try:
        # A decoder of raw values passes over text that is not UTF-8.
        array = _read_array(payload.decode())
    except (msgspec.DecodeError, UnicodeDecodeError) as invalid:
        raise _unreadable(version, "expected a JSON array") from invalid
    kind = bytes(array[0]) if array else b""
    read_kind = _READERS.get(kind)
    if read_kind is not None and (version.sends or kind not in _SINCE_V21):
        return read_kind(array, version)
    # OCPP-J 1.6, section 4.1.3: a message of another type is ignored.
    what = "expected a message of a known type: 2, 3 or 4"
    if version.unknown_type is None:
        raise CommandError(what)
    raise CallRefused(_id_of(array) or UNREADABLE_ID, version.unknown_type, what)


def _unreadable(version: Version, what: str) -> CommandError:
    if version.not_a_call is None:
        return CommandError(what)
    return CallRefused(UNREADABLE_ID, version.not_a_call, what)


def _read_call(array: list[msgspec.Raw], version: Version) -> Call:
    message_id = _id_of(array)
    if message_id is None:
        raise _unreadable(version, f"expected an id: a string of 1 to {MAX_ID} characters")
    if len(array) != 4:
        raise CallRefused(message_id, version.malformed, "expected [2, id, action, payload]")
    action = _text(array[2])
    if action is None or not _is_object(array[3]):
        what = "expected an action as a string, and a payload as an object"
        raise CallRefused(message_id, version.malformed, what)
    if _ACTION.fullmatch(action) is None or action in _NOT_AN_ACTION:
        raise CallRefused(message_id, "NotImplemented", "expected an action of OCPP")
    return Call(message_id, action, bytes(array[3]))


def _read_send(array: list[msgspec.Raw], version: Version) -> Call:
    """A SEND is never answered, not even with an error."""
    try:
        call = _read_call(array, version)
    except CallRefused as refused:
        raise CommandError(str(refused)) from refused
    return msgspec.structs.replace(call, is_send=True)


def _read_result(array: list[msgspec.Raw], _: Version) -> CallResult:
    message_id = _text(array[1]) if len(array) == 3 else None
    if message_id is None or not _is_object(array[2]):
        raise CommandError("expected [3, id, payload]")
    return CallResult(message_id, bytes(array[2]))


def _read_error(array: list[msgspec.Raw], _: Version) -> CallError:
    """Stations leave out the description and the details, against section 4.2.3."""
    message_id, code, description = (_text(each) for each in (*array[1:4], *_ABSENT)[:3])
    if message_id is None or code is None:
        raise CommandError("expected [4, id, code, description, details]")
    details = bytes(array[4]) if len(array) > 4 and _is_object(array[4]) else b"{}"
    return CallError(message_id, code, description or "", details)


_ABSENT: Final = (msgspec.Raw(b"null"),) * 3
_SINCE_V21: Final = frozenset({b"5", b"6"})
_READERS: Final[
    dict[bytes, Callable[[list[msgspec.Raw], Version], Call | CallResult | CallError]]
] = {
    b"2": _read_call,
    b"3": _read_result,
    b"4": _read_error,
    b"5": _read_error,
    b"6": _read_send,
}


def _id_of(array: list[msgspec.Raw]) -> str | None:
    message_id = _text(array[1]) if len(array) > 1 else None
    return message_id if message_id is not None and 0 < len(message_id) <= MAX_ID else None


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return _read_text(bytes(raw))
    except msgspec.DecodeError:
        return None


def _is_object(raw: msgspec.Raw) -> bool:
    return bytes(raw).startswith(b"{")


def call(id: str, action: str, payload: bytes) -> bytes:
    """Writes a CALL; ``payload`` is JSON."""
    return b"[2,%b,%b,%b]" % (_write(id), _write(action), payload)


def result(id: str, payload: bytes) -> bytes:
    """Writes a CALLRESULT; ``payload`` is JSON."""
    return b"[3,%b,%b]" % (_write(id), payload)


def error(id: str, code: str, description: str, details: bytes = b"{}") -> bytes:
    """Writes a CALLERROR. Section 4.2.3: a description has at most 255 characters."""
    return b"[4,%b,%b,%b,%b]" % (_write(id), _write(code), _write(description[:255]), details)


def snake_case(action: str) -> str:
    """``BootNotification`` → ``boot_notification``, ``NotifyEVChargingNeeds`` → ``notify_ev_charging_needs``."""
    words = _WORD_AFTER_CAPITALS.sub(r"\1_\2", action)
    return _WORD_AFTER_SMALL.sub(r"\1_\2", words).lower()
