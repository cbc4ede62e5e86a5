"""An application that is called over a network: what gRPC and HTTP have in common.

Knows: which procedure a question is, and how to ask within the limits. Does not know: bytes, wires.
"""

from abc import ABC, abstractmethod
from typing import Any, Final, Literal, Protocol, TypeVar

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


class Codec(Protocol):
    """Messages ↔ bytes. The modules rpc_protobuf and rpc_json satisfy it."""

    def encode_request(self, request: rpc.Request, written: bytes, /) -> bytes:
        """``written`` is what :meth:`write_env` made of the request's client.

        Raises ValueError for text that is no Unicode.
        """
        ...

    def write_env(self, env: rpc.Env, /) -> bytes:
        """The part of a client's requests that never changes; empty where there is none.

        Raises ValueError for text that is no Unicode.
        """
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
        self._disconnect = Procedure("Disconnect", self._check_disconnection, _nothing)

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
        request = rpc.connection_request(environment)
        return self._call(self._connect, environment, request)

    def subscribe(self, environment: Environment, identifier: Identifier) -> Pending[Decision]:
        """Calls Command with "subscribe"."""
        message = rpc.command_message(environment, "subscribe", identifier)
        return self._call(self._command, environment, message)

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Pending[Decision]:
        """Calls Command with "unsubscribe"."""
        message = rpc.command_message(environment, "unsubscribe", identifier)
        return self._call(self._command, environment, message)

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Pending[Decision]:
        """Calls Command with "message"."""
        message = rpc.command_message(environment, "message", identifier, data)
        return self._call(self._command, environment, message)

    def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> Pending[None]:
        """Calls Disconnect."""
        request = rpc.disconnect_request(environment, subscriptions)
        return self._call(self._disconnect, environment, request)

    async def close(self, timeout_s: float) -> None:
        """Takes no more calls, waits for those under way, then breaks what is left."""
        await self._caller.close(timeout_s)
        await self._hang_up()

    def _call(
        self, procedure: Procedure[_T], environment: Environment, request: rpc.Request
    ) -> Call[_T]:
        try:
            if not environment.written:
                environment.written = self._codec.write_env(request.env)
            payload = self._codec.encode_request(request, environment.written)
        except ValueError as error:
            raise AppFailed(f"expected Unicode text to send, got {error}") from error
        return self._caller.call(procedure, environment.sid, payload)

    def _check_disconnection(self, raw: bytes) -> None:
        # Here, unlike with the other procedures, the reference counts an application's error as a
        # failed call.
        rpc.check_disconnection(self._codec.decode_disconnect_response(raw))


def _nothing(answer: None) -> None:
    """What the end of a session decides."""
