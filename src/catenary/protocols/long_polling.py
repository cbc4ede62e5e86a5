"""Action Cable over long polling: the names of its headers, the ids of its sessions, its answer to a stale request.

The messages are those of Action Cable's JSON. Clients do not say whether they speak the base protocol or the extended
one: sessions can always be resumed, because only clients of the extended protocol ask for it. The server sends no pings.
Source: docs/long_polling.md (anycable). Knows: headers, messages. Does not know: connections, sessions.
"""

import re
from typing import Final

from catenary.messages.replies import Disconnected
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.protocols.table import ClientProtocol

POLL_ID: Final = "X-Anycable-Poll-ID"
"""The header with the id of a session."""

RESPONSE_NUMBER: Final = "X-Anycable-Poll-Number"
"""The header with the number of a response of a session. A client that sends back the last number that it has received
is sent the messages that it lacks, and none twice. An extension of Catenary: AnyCable's clients do not send it."""

_ID: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,64})")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")

_codec: Final = ActionCableJson()

ACTION_CABLE_POLLS: Final = ClientProtocol(
    name="actioncable-polls", subprotocols=(), codec=lambda: _codec, is_resumable=True
)


def session_expired() -> bytes:
    """The message for a client whose session does not exist any more."""
    message = _codec.encode(Disconnected("session_expired", reconnect=True))
    assert message is not None, "it has a reason"
    return message


def poll_id(node: str, secret: str) -> str:
    """The id of a session: the name of the node that has it, and a secret."""
    return f"{node}.{secret}"


def node_of(poll_id: str) -> str:
    """The name of the node that has a session; empty for a text that is no id."""
    match = _ID.fullmatch(poll_id)
    return "" if match is None else match[1]


def received_number(text: str) -> int | None:
    """The number of the last response that a client has received; None if it does not say."""
    return int(text) if _NUMBER.fullmatch(text) else None
