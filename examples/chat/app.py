"""A chat room: the application behind the cable.

The server holds the sockets of the browsers and asks this application over gRPC who may enter,
what they listen to and what their actions do (service anycable.RPC). What somebody says is
published to Redis; the server hears it there and tells everybody in the room.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import grpc
from redis import Redis

from catenary.protocols import rpc_pb2 as rpc


class Chat:
    """Decides for the clients of ``ChatChannel``."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    def connect(
        self, request: rpc.ConnectionRequest, _: grpc.ServicerContext
    ) -> rpc.ConnectionResponse:
        """Lets everybody in who has a name, as in ``/cable?name=Ann``."""
        match parse_qs(urlsplit(request.env.url).query):
            case {"name": [name]}:
                return rpc.ConnectionResponse(
                    status=rpc.SUCCESS,
                    identifiers=json.dumps({"user": name}),
                    transmissions=[json.dumps({"type": "welcome"})],
                )
        goodbye = {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
        return rpc.ConnectionResponse(status=rpc.FAILURE, transmissions=[json.dumps(goodbye)])

    def command(self, request: rpc.CommandMessage, _: grpc.ServicerContext) -> rpc.CommandResponse:
        """Enters a room, speaks in it, or leaves it."""
        match request.command, json.loads(request.identifier):
            case "subscribe", {"channel": "ChatChannel", "room": str(room)}:
                confirmation = {"identifier": request.identifier, "type": "confirm_subscription"}
                return rpc.CommandResponse(
                    status=rpc.SUCCESS,
                    streams=[f"chat_{room}"],
                    transmissions=[json.dumps(confirmation)],
                )
            case "message", {"room": str(room)}:
                user = json.loads(request.connection_identifiers)["user"]
                text = json.loads(request.data)["text"]
                self.publish(f"chat_{room}", {"user": user, "text": text})
                receipt = {"identifier": request.identifier, "message": {"sent": text}}
                return rpc.CommandResponse(status=rpc.SUCCESS, transmissions=[json.dumps(receipt)])
            case "unsubscribe", _:
                return rpc.CommandResponse(status=rpc.SUCCESS, stop_streams=True)
        rejection = {"identifier": request.identifier, "type": "reject_subscription"}
        return rpc.CommandResponse(status=rpc.FAILURE, transmissions=[json.dumps(rejection)])

    def disconnect(
        self, request: rpc.DisconnectRequest, _: grpc.ServicerContext
    ) -> rpc.DisconnectResponse:
        """Says who left; nothing else depends on it."""
        print(f"gone: {request.identifiers}", flush=True)
        return rpc.DisconnectResponse(status=rpc.SUCCESS)

    def publish(self, stream: str, message: dict[str, str]) -> None:
        """Tells everybody who listens to a stream, whichever server holds their socket."""
        publication = {"stream": stream, "data": json.dumps(message)}
        self.redis.publish("__anycable__", json.dumps(publication))


def serve(chat: Chat, address: str) -> None:
    """Answers the server's calls until it is interrupted."""
    methods = {
        "Connect": grpc.unary_unary_rpc_method_handler(
            chat.connect, rpc.ConnectionRequest.FromString, rpc.ConnectionResponse.SerializeToString
        ),
        "Command": grpc.unary_unary_rpc_method_handler(
            chat.command, rpc.CommandMessage.FromString, rpc.CommandResponse.SerializeToString
        ),
        "Disconnect": grpc.unary_unary_rpc_method_handler(
            chat.disconnect,
            rpc.DisconnectRequest.FromString,
            rpc.DisconnectResponse.SerializeToString,
        ),
    }
    server = grpc.server(ThreadPoolExecutor())
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("anycable.RPC", methods),)
    )
    server.add_insecure_port(address)
    server.start()
    print(f"The chat room answers at {address}", flush=True)
    with suppress(KeyboardInterrupt):
        server.wait_for_termination()


if __name__ == "__main__":
    redis_url = os.environ.get("REDIS_URL", "redis://localhost:6379")
    serve(Chat(Redis.from_url(redis_url)), os.environ.get("RPC_HOST", "localhost:50051"))
