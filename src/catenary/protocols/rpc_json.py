"""RPC messages ↔ JSON, for RPC over HTTP.

Keys are the names of rpc.proto, statuses are numbers, empty fields are omitted, unknown fields are ignored. Source: docs/rpc.md and etc/rpc-openapi.yml (anycable/anycable).
The functions are those of rpc_protobuf.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from catenary.errors import AppFailed, ProtocolError
from catenary.messages.environment import Environment
from catenary.messages.lenient_json import reader
from catenary.messages.names import Identifier
from catenary.protocols import rpc

_Response = TypeVar("_Response", bound=rpc.Response)
_Request = TypeVar("_Request", bound=rpc.Request)


_READERS: Final[dict[type, Callable[[bytes], Any]]] = {
    kind: reader(kind)
    for kind in (
        rpc.ConnectionRequest,
        rpc.CommandMessage,
        rpc.DisconnectRequest,
        rpc.ConnectionResponse,
        rpc.CommandResponse,
        rpc.DisconnectResponse,
    )
}


def encode_connect(environment: Environment) -> bytes:
    """Writes the request of connect. Raises ValueError for text with lone surrogates."""
    return msgspec.json.encode(rpc.connection_request(environment))


def encode_command(
    environment: Environment, action: rpc.Action, identifier: Identifier, data: str
) -> bytes:
    """Writes the request of command. Raises ValueError for text with lone surrogates."""
    return msgspec.json.encode(rpc.command_message(environment, action, identifier, data))


def encode_disconnect(environment: Environment, subscriptions: tuple[Identifier, ...]) -> bytes:
    """Writes the request of disconnect. Raises ValueError for text with lone surrogates."""
    return msgspec.json.encode(rpc.disconnect_request(environment, subscriptions))


def decode_connection_response(raw: bytes) -> rpc.ConnectionResponse:
    """Reads the response of connect. Raises :class:`AppFailed` for invalid text."""
    return _decode(rpc.ConnectionResponse, raw)


def decode_command_response(raw: bytes) -> rpc.CommandResponse:
    """Reads the response of command. Raises :class:`AppFailed` for invalid text."""
    return _decode(rpc.CommandResponse, raw)


def decode_disconnect_response(raw: bytes) -> rpc.DisconnectResponse:
    """Reads the response of disconnect. Raises :class:`AppFailed` for invalid text."""
    return _decode(rpc.DisconnectResponse, raw)


def _decode(kind: type[_Response], raw: bytes) -> _Response:
    try:
        response: _Response = _READERS[kind](raw)
    except msgspec.DecodeError as error:
        raise AppFailed(f"expected a {kind.__name__} in JSON: {error}") from error
    return response


# The application's side


def decode_connection_request(raw: bytes) -> rpc.ConnectionRequest:
    """Reads the request of connect. Raises :class:`ProtocolError` for invalid text."""
    return _decode_request(rpc.ConnectionRequest, raw)


def decode_command_message(raw: bytes) -> rpc.CommandMessage:
    """Reads the request of command. Raises :class:`ProtocolError` for invalid text."""
    return _decode_request(rpc.CommandMessage, raw)


def decode_disconnect_request(raw: bytes) -> rpc.DisconnectRequest:
    """Reads the request of disconnect. Raises :class:`ProtocolError` for invalid text."""
    return _decode_request(rpc.DisconnectRequest, raw)


def encode_response(response: rpc.Response) -> bytes:
    """Writes a response. Raises ValueError for text with lone surrogates."""
    return msgspec.json.encode(response)


def _decode_request(kind: type[_Request], raw: bytes) -> _Request:
    try:
        request: _Request = _READERS[kind](raw)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"expected a {kind.__name__} in JSON: {error}") from error
    return request
