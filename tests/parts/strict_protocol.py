"""A small client protocol with state and close codes of its own, in the manner of graphql-ws: for tests of the seam.

A client first sends ``{"type":"init"}``. Each subscription has an id, which is also the name of the room.
"""

import json
from typing import Any, Final

from catenary.messages.commands import CloseConnection, Command, DirectReply, Subscribe
from catenary.messages.names import Identifier
from catenary.messages.reasons import Reason
from catenary.ports import Goodbye
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.protocols.table import ClientProtocol

SUBPROTOCOL: Final = "strict-v1"


class StrictCodec(ActionCableJson):
    """Satisfies :class:`catenary.ports.Codec`. Belongs to one session; writes as Action Cable does."""

    def __init__(self) -> None:
        self._is_initialized = False
        self._ids: set[str] = set()

    def decode(self, payload: bytes) -> Any:
        try:
            message = json.loads(payload)
            kind = message["type"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return CloseConnection(4400, "Invalid message")
        if kind == "init":
            return self._initialize()
        if not self._is_initialized:
            return CloseConnection(4401, "Unauthorized")
        return self._subscribe(str(message.get("id")))

    def _initialize(self) -> Command:
        if self._is_initialized:
            return CloseConnection(4429, "Too many initialisation requests")
        self._is_initialized = True
        return DirectReply(b'{"type":"ack"}')

    def _subscribe(self, name: str) -> Command | tuple[Command, ...]:
        if name in self._ids:
            why = f"Subscriber for {name} already exists"
            return DirectReply(b'{"type":"error"}'), CloseConnection(4409, why)
        self._ids.add(name)
        return Subscribe(Identifier(json.dumps({"channel": "Room", "room": name})))

    def goodbye(self, reason: Reason) -> Goodbye:
        if reason is Reason.AUTH_FAILED:
            return Goodbye(reason, 4403, "Forbidden")
        return super().goodbye(reason)


STRICT: Final = ClientProtocol(
    name="test", subprotocols=(SUBPROTOCOL,), codec=StrictCodec, has_state=True
)
