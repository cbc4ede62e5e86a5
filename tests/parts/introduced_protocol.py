"""The strict protocol with an introduction: the application is asked to admit a client when its first message has come."""

import json
from typing import Any, Final

from catenary.errors import CommandError
from catenary.messages.commands import ClientPing, CloseConnection, DirectReply
from catenary.messages.reasons import Reason
from catenary.ports import Goodbye, Introduction
from catenary.protocols.table import ClientProtocol
from tests.parts.strict_protocol import StrictCodec

SUBPROTOCOL: Final = "introduced-v1"


class IntroducedStrictCodec(StrictCodec):
    """Satisfies :class:`catenary.ports.IntroducedCodec`. ``hello`` introduces and is a command, too: it is answered with a
    pong. ``sorry`` is ignored, ``ping`` is answered before the introduction."""

    def introduce(self, payload: bytes) -> Introduction | tuple[DirectReply | CloseConnection, ...]:
        try:
            message = json.loads(payload)
            kind = message["type"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return DirectReply(b'{"type":"error"}'), CloseConnection(4400, "Invalid message")
        if kind == "sorry":
            raise CommandError("expected an introduction, got an apology")
        if kind == "ping":
            return (DirectReply(b'{"type":"pong"}'),)
        if kind not in ("init", "hello"):
            return (CloseConnection(4401, "Unauthorized"),)
        self._is_initialized = True
        headers = {"x-params": json.dumps(message.get("params"))}
        return Introduction(headers, is_command=kind == "hello")

    def decode(self, payload: bytes) -> Any:
        if payload == b'{"type":"hello"}':
            return ClientPing()
        return super().decode(payload)

    def goodbye(self, reason: Reason) -> Goodbye:
        if reason is Reason.IDLE_TIMEOUT:
            return Goodbye(reason, 4408, "Connection initialisation timeout")
        return super().goodbye(reason)


INTRODUCED: Final = ClientProtocol(
    name="test", subprotocols=(SUBPROTOCOL,), codec=IntroducedStrictCodec, has_state=True
)
