"""RPC messages ↔ Protobuf, for RPC over gRPC.

Needs the library ``protobuf`` (extra ``grpc``), so it is imported only where that is required.
Source: rpc.proto in this directory. Knows: fields. Does not know: their meaning.
"""

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from catenary.errors import AppFailed, ProtocolError
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.protocols import rpc, rpc_pb2
from catenary.protocols.protobuf import block, key, text, texts

SERVICE = rpc_pb2.DESCRIPTOR.services_by_name["RPC"].full_name


def encode_connect(environment: Environment) -> bytes:
    """Writes the request of Connect. Raises ValueError for text with lone surrogates."""
    return block(_CONNECTION_ENV, _env_before(environment))


def encode_command(
    environment: Environment, action: rpc.Action, identifier: Identifier, data: str
) -> bytes:
    """Writes the request of Command: the same as :func:`catenary.protocols.rpc.command_message` encoded, without
    building it. Raises ValueError for text with lone surrogates."""
    env = _env_before(environment)
    if environment.istate is not None:
        env += texts(_ISTATE, environment.istate_of(identifier))
    return b"".join(
        (
            _ACTIONS[action],
            text(_IDENTIFIER, identifier),
            text(_CONNECTION_IDENTIFIERS, environment.identifiers),
            text(_DATA, data),
            block(_ENV, env),
        )
    )


def encode_disconnect(environment: Environment, subscriptions: tuple[Identifier, ...]) -> bytes:
    """Writes the request of Disconnect. Raises ValueError for text with lone surrogates."""
    istate = rpc.states(environment)
    # An empty text is an element of the list, too.
    listed = [block(_SUBSCRIPTIONS, each.encode()) for each in subscriptions]
    return (
        text(_IDENTIFIERS, environment.identifiers)
        + b"".join(listed)
        + block(_ENV, _env_before(environment) + texts(_ISTATE, istate))
    )


def _env_before(environment: Environment) -> bytes:
    """The environment without the state of subscriptions. URL and headers never change and are encoded once."""
    written = environment.written
    if not written:
        written = text(_URL, environment.url) + texts(_HEADERS, environment.headers)
        environment.written = written
    if environment.cstate is not None:
        written += texts(_CSTATE, environment.cstate)
    return written


# The numbers of rpc.proto
_COMMAND: Final = key(1)
_ACTIONS: Final = {action: text(_COMMAND, action) for action in rpc.ACTIONS}
_IDENTIFIER: Final = key(2)
_CONNECTION_IDENTIFIERS: Final = key(3)
_DATA: Final = key(4)
_ENV: Final = key(5)
_CONNECTION_ENV: Final = key(3)
_IDENTIFIERS: Final = key(1)
_SUBSCRIPTIONS: Final = key(2)
_URL: Final = key(1)
_HEADERS: Final = key(2)
_CSTATE: Final = key(3)
_ISTATE: Final = key(4)

_STATUS: Final = 1 << 3
_STREAMS: Final = key(4)[0][0]
_TRANSMISSIONS: Final = key(5)[0][0]


def decode_connection_response(raw: bytes) -> rpc.ConnectionResponse:
    """Reads the response of Connect. Raises :class:`AppFailed` for invalid bytes."""
    return rpc.ConnectionResponse(**_values(rpc_pb2.ConnectionResponse(), raw))


def decode_command_response(raw: bytes) -> rpc.CommandResponse:
    """Reads the response of Command. Raises :class:`AppFailed` for invalid bytes."""
    return _plain_response(raw) or rpc.CommandResponse(**_values(rpc_pb2.CommandResponse(), raw))


def _plain_response(raw: bytes) -> rpc.CommandResponse | None:
    """A fast path for responses with nothing but a status, streams and transmissions. None for others and for invalid ones:
    the library reads these."""
    status = at = 0
    streams: list[str] = []
    transmissions: list[str] = []
    end = len(raw)
    try:
        while at < end:
            kind = raw[at]
            size = raw[at + 1]
            at += 2
            if kind == _STATUS and size < 0x80:
                status = size
                continue
            if kind == _TRANSMISSIONS:
                found = transmissions
            elif kind == _STREAMS:
                found = streams
            else:
                return None
            if size > 0x7F:
                high = raw[at]
                if high > 0x7F:
                    return None
                size = size & 0x7F | high << 7
                at += 1
            start = at
            at += size
            found.append(str(raw[start:at], "utf-8"))
    except (IndexError, UnicodeDecodeError):
        return None
    if at != end:
        return None
    return rpc.CommandResponse(status, streams=tuple(streams), transmissions=tuple(transmissions))


def decode_disconnect_response(raw: bytes) -> rpc.DisconnectResponse:
    """Reads the response of Disconnect. Raises :class:`AppFailed` for invalid bytes."""
    return rpc.DisconnectResponse(**_values(rpc_pb2.DisconnectResponse(), raw))


_ResponseMessage = rpc_pb2.ConnectionResponse | rpc_pb2.CommandResponse | rpc_pb2.DisconnectResponse


def _values(message: _ResponseMessage, raw: bytes) -> dict[str, Any]:
    """Parses a message: the fields that are set, by name, as the struct takes them."""
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise AppFailed(f"expected a {name} in Protobuf: {error}") from error
    values = {}
    for field, value in message.ListFields():
        read = _READERS.get(field.name)
        values[field.name] = value if read is None else read(value)
    return values


def _env_response(message: rpc_pb2.EnvResponse) -> rpc.EnvResponse:
    return rpc.EnvResponse(dict(message.cstate), dict(message.istate))


def _presence(message: rpc_pb2.PresenceResponse) -> rpc.PresenceResponse:
    return rpc.PresenceResponse(message.type, message.id, message.info)


_READERS: Final[dict[str, Callable[[Any], object]]] = {
    "streams": tuple,
    "stopped_streams": tuple,
    "transmissions": tuple,
    "env": _env_response,
    "presence": _presence,
}


# The application's side


def decode_connection_request(raw: bytes) -> rpc.ConnectionRequest:
    """Reads the request of Connect. Raises :class:`ProtocolError` for invalid bytes."""
    message = rpc_pb2.ConnectionRequest()
    _parse_request(message, raw)
    return rpc.ConnectionRequest(_env(message.env))


def decode_command_message(raw: bytes) -> rpc.CommandMessage:
    """Reads the request of Command. Raises :class:`ProtocolError` for invalid bytes."""
    message = rpc_pb2.CommandMessage()
    _parse_request(message, raw)
    return rpc.CommandMessage(
        command=message.command,
        identifier=message.identifier,
        connection_identifiers=message.connection_identifiers,
        data=message.data,
        env=_env(message.env),
    )


def decode_disconnect_request(raw: bytes) -> rpc.DisconnectRequest:
    """Reads the request of Disconnect. Raises :class:`ProtocolError` for invalid bytes."""
    message = rpc_pb2.DisconnectRequest()
    _parse_request(message, raw)
    return rpc.DisconnectRequest(
        message.identifiers, tuple(message.subscriptions), _env(message.env)
    )


def encode_response(response: rpc.Response) -> bytes:
    """Writes a response. Raises ValueError for text with lone surrogates."""
    status = rpc_pb2.Status.Name(response.status or 0)
    match response:
        case rpc.ConnectionResponse():
            return rpc_pb2.ConnectionResponse(
                status=status,
                identifiers=response.identifiers,
                transmissions=response.transmissions,
                error_msg=response.error_msg,
                env=_env_of(response.env),
            ).SerializeToString()
        case rpc.CommandResponse():
            presence = response.presence
            return rpc_pb2.CommandResponse(
                status=status,
                disconnect=response.disconnect,
                stop_streams=response.stop_streams,
                streams=response.streams,
                transmissions=response.transmissions,
                error_msg=response.error_msg,
                env=_env_of(response.env),
                stopped_streams=response.stopped_streams,
                presence=None if presence is None else _presence_of(presence),
            ).SerializeToString()
        case rpc.DisconnectResponse():
            return rpc_pb2.DisconnectResponse(
                status=status, error_msg=response.error_msg
            ).SerializeToString()


_RequestMessage = rpc_pb2.ConnectionRequest | rpc_pb2.CommandMessage | rpc_pb2.DisconnectRequest


def _parse_request(message: _RequestMessage, raw: bytes) -> None:
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise ProtocolError(f"expected a {name} in Protobuf: {error}") from error


def _env(message: rpc_pb2.Env) -> rpc.Env:
    return rpc.Env(message.url, dict(message.headers), dict(message.cstate), dict(message.istate))


def _env_of(env: rpc.EnvResponse | None) -> rpc_pb2.EnvResponse | None:
    if env is None:
        return None
    return rpc_pb2.EnvResponse(cstate=_texts(env.cstate), istate=_texts(env.istate))


def _texts(state: dict[str, str | None] | None) -> dict[str, str]:
    return {key: value or "" for key, value in (state or {}).items()}


def _presence_of(presence: rpc.PresenceResponse) -> rpc_pb2.PresenceResponse:
    return rpc_pb2.PresenceResponse(type=presence.type, id=presence.id, info=presence.info)
