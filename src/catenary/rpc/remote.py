"""An application that is called over a network: the common part of gRPC and HTTP.

Knows: the procedures, and how to call them within the limits. Does not know: bytes, connections.
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
from catenary.rpc.calls import Attempt, Caller, CallLimits, Procedure, RpcCall
from catenary.tracer import Tracer

Name = Literal["Connect", "Command", "Disconnect"]
PROCEDURES: Final[tuple[Name, ...]] = ("Connect", "Command", "Disconnect")
_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class RpcClientCodec(Protocol):
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

    def __init__(
        self,
        codec: RpcClientCodec,
        limits: CallLimits,
        counters: Counters,
        tracer: Tracer | None = None,
        *,
        system: str,
    ) -> None:
        self._codec = codec
        self._caller = Caller(limits, counters, self._send, tracer=tracer, system=system)
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

    # For the transport to implement

    @abstractmethod
    async def start(self) -> None:
        """Prepares for calls. Does not wait for the application, which may start later."""

    @abstractmethod
    def _send(self, call: RpcCall[Any], timeout_s: float | None) -> Attempt:
        """See :data:`catenary.rpc.calls.Send`."""

    @property
    @abstractmethod
    def trouble(self) -> str | None:
        """Why the application can't be reached, as far as is known; None if it can."""

    @abstractmethod
    async def _hang_up(self) -> None:
        """Fails the calls under way and closes every connection."""

    # For the node

    def connect(self, environment: Environment) -> Pending[Decision]:
        """Calls Connect. A client that leaves does not cancel the call: the application may admit it, and must then get a
        Disconnect call."""
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

    @property
    def calls_num(self) -> int:
        """Number of calls under way."""
        return self._caller.limiter.busy

    @property
    def capacity(self) -> int:
        """Number of calls that may be under way."""
        return self._caller.limiter.capacity

    async def close(self, timeout_s: float) -> None:
        """Refuses new calls, waits up to ``timeout_s`` for those under way, and fails the others."""
        await self._caller.close(timeout_s)
        await self._hang_up()

    def _call(
        self,
        procedure: Procedure[_T],
        encode: Callable[[Environment, *_Args], bytes],
        environment: Environment,
        *args: *_Args,
    ) -> RpcCall[_T]:
        try:
            payload = encode(environment, *args)
        except ValueError as error:
            raise AppFailed(f"expected Unicode text to send, got {error}") from error
        return self._caller.call(procedure, environment.sid, payload)

    def _check_disconnection(self, raw: bytes) -> None:
        # The reference counts an application's error as a failed call for this procedure only.
        rpc.check_disconnection(self._codec.decode_disconnect_response(raw))


def _nothing(answer: None) -> None:
    """A Disconnect call decides nothing."""
