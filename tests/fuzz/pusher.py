"""What must hold for the messages of Pusher clients and for publications to them, whatever bytes they are."""

import json
from random import Random
from typing import Any, Final

from catenary.messages.commands import Command, DirectReply, Identify, Join, Subscribe, Whisper
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.messages.presence import Member
from catenary.messages.replies import Delivery, PresenceState
from catenary.protocols.pusher_events import needs_signature, user_channel
from tests.parts.pusher import SIGNATURES, pusher_protocol, signin, subscription

_PROTOCOL: Final = pusher_protocol()
_SOCKET: Final = "12.34"
_MEMBER: Final = {"user_id": "7", "user_info": {"n": 1}}

SEEDS: Final = tuple(
    text.encode()
    for text in (
        subscription(_SOCKET, "news"),
        subscription(_SOCKET, "private-cache-x"),
        subscription(_SOCKET, "presence-x", _MEMBER),
        signin(_SOCKET, {"id": "7"}),
        '{"event":"pusher:unsubscribe","data":{"channel":"presence-x"}}',
        '{"event":"client-typing","channel":"presence-x","data":{"on":true}}',
        '{"event":"pusher:ping","data":{}}',
        '{"event":"new","data":"{}","user_id":"7"}',
        '{"type":"join","id":"7","info":{"n":1}}',
    )
)
WORDS: Final = (
    b'"event":',
    b'"data":',
    b'"channel":',
    b"private-",
    b"#server-to-user-7",
    b"\\ud800",
    b"\\u0000",
)


def check(data: bytes, random: Random) -> None:
    """As a message of a client, and as a publication."""
    assert _PROTOCOL.reader is not None
    read = _PROTOCOL.reader(Environment(Sid(_SOCKET), "/", {}))
    for payload in (random.choice(SEEDS), data, data):
        commands = read(payload)
        for command in commands if isinstance(commands, tuple) else (commands,):
            assert command is not None, "every message is a command or has an answer"
            _check_command(command, payload)
    _check_publication(data, random)


def _check_command(command: Command, payload: bytes) -> None:
    if isinstance(command, DirectReply):
        assert json.loads(command.payload)["event"].startswith("pusher:")
    elif isinstance(command, Whisper):
        message = json.loads(command.data)
        assert message["event"].startswith("client-")
        assert message.get("user_id") in (None, "7"), "only a signed member"
    elif isinstance(command, Subscribe):
        _check_grant(command, payload)
    elif isinstance(command, Identify):
        assert json.loads(command.identifiers)["pusher_app"] == "app"


def _check_grant(command: Subscribe, payload: bytes) -> None:
    """What needs a signature was signed for this socket."""
    channel = command.identifier
    if not needs_signature(channel) or channel == user_channel("7"):
        return
    given: dict[str, Any] = json.loads(payload)["data"]
    channel_data = given.get("channel_data") if channel.startswith("presence-") else None
    assert SIGNATURES.allows_subscription(given["auth"], _SOCKET, channel, channel_data)
    if isinstance(command.join, Join):
        json.loads(command.join.info)


def _check_publication(data: bytes, random: Random) -> None:
    """Delivered data is JSON: the node has checked it. So is the information of members."""
    codec = _PROTOCOL.codec()
    try:
        text = data.decode()
        json.loads(text)
    except (ValueError, RecursionError):
        text = json.dumps(data.decode(errors="replace"))
    channel = Identifier(random.choice(("news", "presence-x")))
    for kind in ("", "presence", "other"):
        payload = codec.encode_delivery(Delivery(channel, text.encode(), kind))
        if payload is not None:
            event = json.loads(payload)
            assert event["channel"] == channel
            assert isinstance(event["data"], str)
            assert kind or not event["event"].startswith(("pusher:", "pusher_internal:"))
    members = (Member("7", text), Member(text[:50], "null"))
    whole = json.loads(codec.encode(PresenceState(channel, 2, members)) or b"")
    assert json.loads(whole["data"])["presence"]["count"] == 2
