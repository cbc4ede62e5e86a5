"""What must hold for the messages of charging stations, and for publications to them, whatever bytes they are made of."""

import contextlib
import json
from random import Random
from typing import Final

from catenary.errors import CommandError
from catenary.messages.commands import Checkpoint, Command, DirectReply, Perform, Subscribe
from catenary.messages.names import Identifier
from catenary.messages.reasons import Reason
from catenary.messages.replies import Confirmed, Delivery, Disconnected
from catenary.protocols.ocpp import OcppCodec
from catenary.protocols.ocpp_messages import VERSIONS
from tests.parts.stations import rules

LINES: Final = 100
"""Of an input: each is read and written several times, for three versions."""


def check(data: bytes, random: Random) -> None:
    """A station says each line in turn, and each is published to it, too."""
    for version in VERSIONS:
        codec = OcppCodec(version, rules(), "cs-1")
        for line in data.split(b"\n")[:LINES]:
            with contextlib.suppress(CommandError):
                codec.introduce(line)
            with contextlib.suppress(CommandError):
                said = codec.decode(line)
                for command in said if isinstance(said, tuple) else (said,):
                    _carry_out(codec, command)
            text = line.decode(errors="replace")
            _check_written(codec.encode_delivery(Delivery(Identifier("i"), text.encode())))
            codec.encode_transmission(text)
        _check_written(codec.encode(Disconnected(Reason.AUTH_FAILED, False)))


def _carry_out(codec: OcppCodec, command: Command | None) -> None:
    if isinstance(command, Subscribe):
        assert json.loads(command.identifier)["station_id"] == "cs-1"
        codec.encode(Confirmed(command.identifier))
    elif isinstance(command, Perform):
        json.loads(command.data)
    elif isinstance(command, DirectReply):
        _check_written(command.payload)
    elif isinstance(command, Checkpoint):
        following = command.reached()
        for each in following if isinstance(following, tuple) else (following,):
            _carry_out(codec, each)


def _check_written(payload: bytes | None) -> None:
    if payload is not None:
        kind, message_id, *_ = json.loads(payload)
        assert kind in (2, 3, 4)
        assert isinstance(message_id, str)


SEEDS: Final = (
    b'[2,"1","BootNotification",{"chargePointModel":"M","meterSerialNumber":"m"}]\n'
    b'[2,"2","StatusNotification",{}]\n[3,"r",{"status":"Accepted"}]\n[2,"3","Heartbeat",{}]',
    b'{"command":"Reset","id":"r","payload":{"type":"Soft"}}\n[4,"r","NotSupported","no",{}]',
    b'[2,"1","Authorize",{"idTag":"x"}]\n{"command":"Ack","id":"1","payload":{"a":1}}',
    b'[2,"1","BootNotification",{"chargingStation":{"serialNumber":"s"}}]\n'
    b'{"command":"Ack","id":"1","payload":{"status":"Pending"}}\n[6,"2","NotifyEvent",{}]',
)
WORDS: Final = (
    *(b"[2,", b"[3,", b"[4,", b"[6,", b'"1"', b'"-1"', b"\n", b'"BootNotification"', b'"Ack"'),
    *(b"{}", b"null", b'"\\ud800"', b"1e400", b"[" * 1500, b'{"a":' * 1500, b"]", b"}"),
)
