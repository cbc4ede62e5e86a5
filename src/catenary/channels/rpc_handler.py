"""A cable behind RPC: requests → calls of the application, its decisions → responses.

Source: etc/rpc.proto (anycable/anycable); responses follow lib/anycable/rpc/handlers of AnyCable's
Ruby library. Knows: procedures and messages. Does not know: gRPC, HTTP, keys.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from catenary.errors import ProtocolError
from catenary.messages.decisions import Decision
from catenary.messages.names import Identifier, Sid
from catenary.ports import Application
from catenary.protocols import rpc


class RpcCodec(Protocol):
    """Messages ↔ bytes. The modules rpc_protobuf and rpc_json satisfy it."""

    def decode_connection_request(self, raw: bytes, /) -> rpc.ConnectionRequest:
        """Raises :class:`ProtocolError`."""
        ...

    def decode_command_message(self, raw: bytes, /) -> rpc.CommandMessage:
        """Raises :class:`ProtocolError`."""
        ...

    def decode_disconnect_request(self, raw: bytes, /) -> rpc.DisconnectRequest:
        """Raises :class:`ProtocolError`."""
        ...

    def encode_response(self, response: rpc.Response, /) -> bytes:
        """Raises ValueError for text that is not Unicode."""
        ...


Procedure = Callable[[bytes, Mapping[str, str]], Awaitable[bytes]]
"""Answers a request with its metadata. Raises :class:`ProtocolError` for one that can't be read."""


class RpcHandler:
    """Calls an application for RPC requests in one encoding."""

    def __init__(self, application: Application, codec: RpcCodec) -> None:
        self._application = application
        self._codec = codec
        self.procedures: Final[dict[str, Procedure]] = {
            "connect": self._connect,
            "command": self._command,
            "disconnect": self._disconnect,
        }

    async def _connect(self, raw: bytes, metadata: Mapping[str, str]) -> bytes:
        request = self._codec.decode_connection_request(raw)
        environment = rpc.environment_of(request, _sid(metadata))
        decision = await _decided(self._application.connect(environment))
        return self._codec.encode_response(rpc.connection_response(decision))

    async def _command(self, raw: bytes, metadata: Mapping[str, str]) -> bytes:
        message = self._codec.decode_command_message(raw)
        environment = rpc.environment_of(message, _sid(metadata))
        identifier = Identifier(message.identifier)
        match message.command:
            case "subscribe":
                answer = self._application.subscribe(environment, identifier)
            case "unsubscribe":
                answer = self._application.unsubscribe(environment, identifier)
            case "message":
                answer = self._application.perform(environment, identifier, message.data)
            case other:
                raise ProtocolError(
                    f"expected subscribe, unsubscribe or message, got {other[:40]!r}"
                )
        decision = await _decided(answer)
        return self._codec.encode_response(rpc.command_response(decision))

    async def _disconnect(self, raw: bytes, metadata: Mapping[str, str]) -> bytes:
        request = self._codec.decode_disconnect_request(raw)
        environment = rpc.environment_of(request, _sid(metadata))
        subscriptions = tuple(map(Identifier, request.subscriptions))
        await self._application.disconnect(environment, subscriptions)
        return self._codec.encode_response(rpc.disconnect_response())


def _sid(metadata: Mapping[str, str]) -> Sid:
    return Sid(metadata.get("sid", ""))


async def _decided(answer: Decision | Awaitable[Decision]) -> Decision:
    return answer if isinstance(answer, Decision) else await answer
