"""An application that is called over a network: what gRPC and HTTP have in common.

Knows: which procedure a question is, and how to ask within the limits. Does not know: bytes, wires.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Literal, Protocol, TypeVar

from catenary.errors import AppFailed
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.protocols import rpc
from catenary.rpc.calls import Caller, CallLimits

Procedure = Literal["Connect", "Command", "Disconnect"]
PROCEDURES: Final[tuple[Procedure, ...]] = ("Connect", "Command", "Disconnect")
_Answer = TypeVar("_Answer")
_Deciding = Coroutine[Any, Any, Decision]


class Codec(Protocol):
    """Messages ↔ bytes. The modules rpc_protobuf and rpc_json satisfy it."""

    def encode_request(self, request: rpc.Request, /) -> bytes:
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

    __slots__ = ("_caller", "_codec")

    def __init__(self, codec: Codec, limits: CallLimits, counters: Counters) -> None:
        self._codec = codec
        self._caller = Caller(limits, counters)

    # What a wire does

    @abstractmethod
    async def start(self) -> None:
        """Makes ready to call. Does not wait for the application: it may start later."""

    @abstractmethod
    async def _send(
        self,
        procedure: Procedure,
        payload: bytes,
        metadata: dict[str, str],
        timeout_s: float | None,
    ) -> bytes:
        """Makes one attempt. Raises :class:`catenary.errors.AppError` and its kinds in calls.py."""

    @abstractmethod
    async def _hang_up(self) -> None:
        """Breaks what is under way and leaves nothing open."""

    # What the node asks

    async def connect(self, environment: Environment) -> Decision:
        """Calls Connect, to the end: who is let in is to be ended, even if the client has left."""
        response = await self._call(
            environment.sid,
            "Connect",
            rpc.connection_request(environment),
            self._codec.decode_connection_response,
            see_through=True,
        )
        return rpc.connection_decision(response)

    # Coroutines that wait for coroutines cost a call more than its bytes do: there are as few
    # as can be between the node and the wire.

    def subscribe(self, environment: Environment, identifier: Identifier) -> _Deciding:
        """Calls Command with "subscribe"."""
        message = rpc.command_message(environment, "subscribe", identifier)
        return self._command(environment.sid, message)

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> _Deciding:
        """Calls Command with "unsubscribe"."""
        message = rpc.command_message(environment, "unsubscribe", identifier)
        return self._command(environment.sid, message)

    def perform(self, environment: Environment, identifier: Identifier, data: str) -> _Deciding:
        """Calls Command with "message"."""
        message = rpc.command_message(environment, "message", identifier, data)
        return self._command(environment.sid, message)

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        """Calls Disconnect."""
        request = rpc.disconnect_request(environment, subscriptions)
        await self._call(environment.sid, "Disconnect", request, self._check_disconnection)

    async def close(self, timeout_s: float) -> None:
        """Takes no more calls, waits for those under way, then breaks what is left."""
        await self._caller.close(timeout_s)
        await self._hang_up()

    async def _command(self, sid: Sid, message: rpc.CommandMessage) -> Decision:
        response = await self._call(sid, "Command", message, self._codec.decode_command_response)
        return rpc.command_decision(response)

    def _call(
        self,
        sid: Sid,
        procedure: Procedure,
        request: rpc.Request,
        read: Callable[[bytes], _Answer],
        *,
        see_through: bool = False,
    ) -> Awaitable[_Answer]:
        try:
            payload = self._codec.encode_request(request)
        except ValueError as error:
            raise AppFailed(f"expected Unicode text to send, got {error}") from error
        metadata = rpc.metadata(sid)

        async def attempt(timeout_s: float | None) -> _Answer:
            return read(await self._send(procedure, payload, metadata, timeout_s))

        return self._caller.call(sid, attempt, see_through=see_through)

    def _check_disconnection(self, raw: bytes) -> None:
        # Within the attempt: here, unlike with the other procedures, the reference counts an
        # application's error as a failed call.
        rpc.check_disconnection(self._codec.decode_disconnect_response(raw))
