"""The application of the RPC scenario: accepts every call and echoes messages.

    python -m bench.application PORT

Source: the service anycable.RPC of protocols/rpc.proto. Needs grpcio.
"""

from __future__ import annotations  # grpc's classes are generic to type checkers only

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
from google.protobuf.message import Message

from catenary.protocols import rpc_pb2


async def connect(
    request: rpc_pb2.ConnectionRequest, context: object
) -> rpc_pb2.ConnectionResponse:
    return rpc_pb2.ConnectionResponse(
        status=rpc_pb2.SUCCESS, identifiers='{"user":"bench"}', transmissions=['{"type":"welcome"}']
    )


async def command(request: rpc_pb2.CommandMessage, context: object) -> rpc_pb2.CommandResponse:
    name = json.dumps(request.identifier)
    if request.command == "message":
        text = f'{{"identifier":{name},"message":{request.data}}}'
    else:
        text = f'{{"type":"confirm_subscription","identifier":{name}}}'
    return rpc_pb2.CommandResponse(status=rpc_pb2.SUCCESS, transmissions=[text])


async def disconnect(
    request: rpc_pb2.DisconnectRequest, context: object
) -> rpc_pb2.DisconnectResponse:
    return rpc_pb2.DisconnectResponse(status=rpc_pb2.SUCCESS)


def _procedure(
    answer: Callable[..., Awaitable[Message]], request: type[Message]
) -> grpc.RpcMethodHandler[Message, Message]:
    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


async def serve(port: int) -> None:
    """Serves on 127.0.0.1 until it is terminated."""
    procedures = {
        "Connect": _procedure(connect, rpc_pb2.ConnectionRequest),
        "Command": _procedure(command, rpc_pb2.CommandMessage),
        "Disconnect": _procedure(disconnect, rpc_pb2.DisconnectRequest),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("anycable.RPC", procedures),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
