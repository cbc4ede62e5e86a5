"""An application that is called over a network: what gRPC and HTTP have in common.

Knows: which procedure a question is, and how to ask within the limits. Does not know: bytes, wires.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, TypeVar, TypeVarTuple

from catenary.errors import AppFailed
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.metrics.counters import Counters
from catenary.ports import Pending
from catenary.protocols import rpc
from catenary.rpc.calls import Attempt, Call, Caller, CallLimits, Procedure

Name = Literal["Connect", "Command", "Disconnect"]
PROCEDURES: Final[tuple[Name, ...]] = ("Connect", "Command", "Disconnect")
_T = TypeVar("_T")
_Said = TypeVarTuple("_Said")


class Codec(Protocol):
    """Messages ↔ bytes. The modules rpc_protobuf and rpc_json satisfy it."""

    def encode_connect(self, environment: Environment, /) -> bytes:
        """Raises ValueError for text that is no Unicode."""
        ...

    def encode_command(
        self, environment: Environment, action: rpc.Action, identifier: Identifier, data: str, /
    ) -> bytes:
        """Raises ValueError for text that is no Unicode."""
        ...

    def encode_disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...], /
    ) -> bytes:
        """Raises ValueError for text that is no Unicode."""
        ...

    def decode_connection_response(self, raw: bytes, /) -> rpc.ConnectionResponse:
        """Raises :class:`AppFailed`."""
        ...

    def decode_command_response(self, raw: bytes, /) -> rpc.CommandResponse:
        """Raises :class:`AppFailed`."""
        ...

    def decode_disconnect_response(self, raw: bytes, /) -> rpc.DisconnectResponse:
        """Raises :class:`AppFailed`."""
        ...


class RemoteApplication(ABC):
    """Satisfies :class:`catenary.ports.Application`. Belongs to the event loop that starts it."""

    __slots__ = ("_caller", "_codec", "_command", "_connect", "_disconnect")

    def __init__(self, codec: Codec, limits: CallLimits, counters: Counters) -> None:
        self._codec = codec
        self._caller = Caller(limits, counters, self._begin)
        self._connect = Procedure(
            "Connect",
            codec.decode_connection_response,
            rpc.connection_decision,
            is_newcomers=True,
        )
        self._command = Procedure("Command", codec.decode_command_response, rpc.command_decision)
        self._disconnect = Procedure(
            "Disconnect", self._check_disconnection, _nothing, is_patient=True
        )

    # What a wire does

    @abstractmethod
    async def start(self) -> None:
        """Makes ready to call. Does not wait for the application: it may start later."""

    @abstractmethod
    def _begin(self, call: Call[Any], timeout_s: float | None) -> Attempt:
        """See :data:`catenary.rpc.calls.Begin`."""

    @abstractmethod
    async def _hang_up(self) -> None:
        """Breaks what is under way and leaves nothing open."""

    # What the node asks

    def connect(self, environment: Environment) -> Pending[Decision]:
        """Calls Connect, to the end: who is let in is to be ended, even if the client has left."""
        return self._call(self._connect, self._codec.encode_connect, environment)

    def subscribe(self, environment: Environment, identifier: Identifier) -> Pending[Decision]:
        """Calls Command with "subscribe"."""
        encode = self._codec.encode_command
        return self._call(self._command, encode, environment, "subscribe", identifier, "")

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Pending[Decision]:
        """Calls Command with "unsubscribe"."""
        encode = self._codec.encode_command
        return self._call(self._command, encode, environment, "unsubscribe", identifier, "")

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Pending[Decision]:
        """Calls Command with "message"."""
        encode = self._codec.encode_command
        return self._call(self._command, encode, environment, "message", identifier, data)

    def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> Pending[None]:
        """Calls Disconnect."""
        encode = self._codec.encode_disconnect
        return self._call(self._disconnect, encode, environment, subscriptions)

    async def close(self, timeout_s: float) -> None:
        """Takes no more calls, waits for those under way, then breaks what is left."""
        await self._caller.close(timeout_s)
        await self._hang_up()

    def _call(
        self,
        procedure: Procedure[_T],
        encode: Callable[[Environment, *_Said], bytes],
        environment: Environment,
        *said: *_Said,
    ) -> Call[_T]:
        try:
            payload = encode(environment, *said)
        except ValueError as error:
            raise AppFailed(f"expected Unicode text to send, got {error}") from error
        return self._caller.call(procedure, environment.sid, payload)

    def _check_disconnection(self, raw: bytes) -> None:
        # Here, unlike with the other procedures, the reference counts an application's error as a
        # failed call.
        rpc.check_disconnection(self._codec.decode_disconnect_response(raw))


def _nothing(answer: None) -> None:
    """What the end of a session decides."""
