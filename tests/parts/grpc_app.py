"""The test application over gRPC, in this process or as one of its own.

    python -m tests.parts.grpc_app PORT [--tls CERT KEY] [--redis URL] [--ended FILE]

Built on grpcio's threaded server, which shares no loop with what is tested, or on its asyncio
server, on a loop in a thread of its own.
"""

import argparse
import asyncio
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from catenary.protocols import rpc_pb2
from tests.parts.application import Recorded, Refusal, TestApplication
from tests.parts.certificates import Certificate
from tests.parts.ports import free_port

_MESSAGES: dict[str, tuple[type[Message], type[Message]]] = {
    "Connect": (rpc_pb2.ConnectionRequest, rpc_pb2.ConnectionResponse),
    "Command": (rpc_pb2.CommandMessage, rpc_pb2.CommandResponse),
    "Disconnect": (rpc_pb2.DisconnectRequest, rpc_pb2.DisconnectResponse),
}


class GrpcServer:
    """Serves an application on an address that stays the same over stop and start."""

    def __init__(
        self,
        application: TestApplication,
        *,
        port: int | None = None,
        host: str = "127.0.0.1",
        address: str | None = None,
        tls: Certificate | None = None,
        workers: int = 32,
        options: tuple[tuple[str, Any], ...] = (),
    ) -> None:
        self.application = application
        self.port = free_port() if port is None else port
        self.address = address or f"{host}:{self.port}"
        self._tls = tls
        self._workers = workers
        # As AnyCable's own servers: they accept the pings of idle clients.
        keepalive = (
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.so_reuseport", 0),
        )
        self._options = keepalive + options
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Listens. Raises RuntimeError where the port is taken."""
        server = grpc.server(ThreadPoolExecutor(self._workers), options=self._options)
        server.add_generic_rpc_handlers((_handlers(self.application),))
        if self._tls is None:
            server.add_insecure_port(self.address)
        else:
            pair = (self._tls.key, self._tls.certificate)
            server.add_secure_port(self.address, grpc.ssl_server_credentials([pair]))
        server.start()
        self._server = server

    def stop(self) -> None:
        """Breaks every connection and call."""
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None


class AioGrpcServer:
    """Serves as :class:`GrpcServer` does, with grpcio's asyncio server."""

    def __init__(self, application: TestApplication) -> None:
        self.application = application
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: grpc.aio.Server | None = None

    def start(self) -> None:
        """Listens."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        """Breaks every connection and call."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._server = grpc.aio.server(ThreadPoolExecutor(32))
        self._server.add_generic_rpc_handlers((_handlers(self.application),))
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def _stop(self) -> None:
        assert self._server is not None
        await self._server.stop(None)


@contextmanager
def grpc_server(application: TestApplication | None = None, **how: Any) -> Iterator[GrpcServer]:
    """A server for the length of a with block; the application records its calls."""
    server = GrpcServer(application or TestApplication(), **how)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _handlers(application: TestApplication) -> "grpc.GenericRpcHandler[Any, Any]":
    methods = {name: _handler(application, name) for name in _MESSAGES}
    return grpc.method_handlers_generic_handler("anycable.RPC", methods)


def _handler(application: TestApplication, name: str) -> "grpc.RpcMethodHandler[Any, Any]":
    request_type, response_type = _MESSAGES[name]

    def serve(request: Message, context: grpc.ServicerContext) -> Message:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        fields = MessageToDict(request, preserving_proto_field_name=True)
        try:
            answer = application.answer(name.lower(), fields, metadata)
        except Refusal as refusal:
            context.abort(grpc.StatusCode[str(refusal.status)], str(refusal))
        response: Message = ParseDict(answer, response_type())
        return response

    return grpc.unary_unary_rpc_method_handler(
        serve,
        request_deserializer=request_type.FromString,
        response_serializer=response_type.SerializeToString,
    )


def note_ends(file: Path) -> Callable[[Recorded], None]:
    """Writes the sid of each session for which Disconnect is called, a line each."""

    def note(call: Recorded) -> None:
        if call.procedure == "disconnect":
            with file.open("a") as ended:
                ended.write(f"{call.metadata['sid']}\n")

    return note


def redis_publisher(url: str) -> Callable[[str, str], None]:
    """Publishes as AnyCable's Redis adapter does: on the channel ``__anycable__``."""
    import redis  # only needed for publishing

    client = redis.Redis.from_url(url)

    def publish(stream: str, data: str) -> None:
        client.publish("__anycable__", json.dumps({"stream": stream, "data": data}))

    return publish


def main(arguments: list[str]) -> None:
    """Serves until SIGTERM; says "ready" once it listens."""
    parser = argparse.ArgumentParser(prog="python -m tests.parts.grpc_app")
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), type=Path)
    parser.add_argument("--redis", metavar="URL")
    parser.add_argument("--ended", metavar="FILE", type=Path)
    chosen = parser.parse_args(arguments)
    tls = Certificate(*(path.read_bytes() for path in chosen.tls)) if chosen.tls else None
    publish = redis_publisher(chosen.redis) if chosen.redis else None
    application = TestApplication(publish=publish)
    if chosen.ended:
        application.note = note_ends(chosen.ended)
    server = GrpcServer(application, port=chosen.port, tls=tls)
    server.start()
    finished = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: finished.set())
    print("ready", flush=True)
    finished.wait()
    server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
