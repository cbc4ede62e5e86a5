"""The messages of calls ↔ Protobuf, as gRPC carries them.

Needs the library ``protobuf`` (extra ``grpc``), so nothing imports this module that works without.
Source: rpc.proto, beside this file. Knows: fields. Does not know: what they mean.
"""

from google.protobuf.message import DecodeError

from catenary.errors import AppFailed
from catenary.protocols import rpc, rpc_pb2

SERVICE = rpc_pb2.DESCRIPTOR.services_by_name["RPC"].full_name


def encode_request(request: rpc.Request) -> bytes:
    """Writes a request. Raises ValueError for text that is no Unicode."""
    env = rpc_pb2.Env(
        url=request.env.url,
        headers=request.env.headers,
        cstate=request.env.cstate,
        istate=request.env.istate,
    )
    match request:
        case rpc.ConnectionRequest():
            return rpc_pb2.ConnectionRequest(env=env).SerializeToString()
        case rpc.CommandMessage():
            return rpc_pb2.CommandMessage(
                command=request.command,
                identifier=request.identifier,
                connection_identifiers=request.connection_identifiers,
                data=request.data,
                env=env,
            ).SerializeToString()
        case rpc.DisconnectRequest():
            return rpc_pb2.DisconnectRequest(
                identifiers=request.identifiers, subscriptions=request.subscriptions, env=env
            ).SerializeToString()


def decode_connection_response(raw: bytes) -> rpc.ConnectionResponse:
    """Reads what Connect answers. Raises :class:`AppFailed` for bytes that are no such message."""
    message = rpc_pb2.ConnectionResponse()
    _parse(message, raw)
    return rpc.ConnectionResponse(
        status=message.status,
        identifiers=message.identifiers,
        transmissions=tuple(message.transmissions),
        error_msg=message.error_msg,
        env=_env_response(message.env) if message.HasField("env") else None,
    )


def decode_command_response(raw: bytes) -> rpc.CommandResponse:
    """Reads what Command answers. Raises :class:`AppFailed` for bytes that are no such message."""
    message = rpc_pb2.CommandResponse()
    _parse(message, raw)
    return rpc.CommandResponse(
        status=message.status,
        disconnect=message.disconnect,
        stop_streams=message.stop_streams,
        streams=tuple(message.streams),
        transmissions=tuple(message.transmissions),
        error_msg=message.error_msg,
        env=_env_response(message.env) if message.HasField("env") else None,
        stopped_streams=tuple(message.stopped_streams),
        presence=_presence(message.presence) if message.HasField("presence") else None,
    )


def _presence(message: rpc_pb2.PresenceResponse) -> rpc.PresenceResponse:
    return rpc.PresenceResponse(message.type, message.id, message.info)


def decode_disconnect_response(raw: bytes) -> rpc.DisconnectResponse:
    """Reads what Disconnect answers. Raises :class:`AppFailed` for bytes that are no such message."""
    message = rpc_pb2.DisconnectResponse()
    _parse(message, raw)
    return rpc.DisconnectResponse(message.status, message.error_msg)


_Answer = rpc_pb2.ConnectionResponse | rpc_pb2.CommandResponse | rpc_pb2.DisconnectResponse


def _parse(message: _Answer, raw: bytes) -> None:
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        name = message.DESCRIPTOR.name
        raise AppFailed(f"expected a {name} in Protobuf: {error}") from error


def _env_response(message: rpc_pb2.EnvResponse) -> rpc.EnvResponse:
    return rpc.EnvResponse(dict(message.cstate), dict(message.istate))
