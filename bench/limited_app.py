"""An application with few workers, over gRPC or HTTP: what does it get, and what does it refuse?

    python -m bench.limited_app grpc|http [--workers N] [--service-ms N] [--refuses]

Each call keeps a worker busy for a while. Without a free worker, a call waits, or is refused (RESOURCE_EXHAUSTED, 503).
"""

import argparse
import asyncio
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from catenary.protocols import rpc_pb2


class LimitedApp:
    """The workers; every field may be changed while it serves. Belongs to the event loop of its server."""

    def __init__(self, workers: int, *, service_s: float = 0.02, refuses: bool = False) -> None:
        self.workers = workers
        self.service_s = service_s
        self.refuses = refuses
        self.hangs = False
        self.answered = 0
        self.refused = 0
        self.most_waiting = 0
        """The most calls that were here at once, since it was set to 0."""
        self._here = 0
        self._working = 0
        self._freed = asyncio.Condition()

    async def work(self) -> bool:
        """Serves one call; returns False if it is refused."""
        self._here += 1
        self.most_waiting = max(self.most_waiting, self._here)
        try:
            if self.hangs:
                await asyncio.sleep(3600)
            if self.refuses and self._working >= self.workers:
                self.refused += 1
                return False
            async with self._freed:
                await self._freed.wait_for(lambda: self._working < self.workers)
                self._working += 1
            try:
                await asyncio.sleep(self.service_s)
                self.answered += 1
            finally:
                async with self._freed:
                    self._working -= 1
                    self._freed.notify()
            return True
        finally:
            self._here -= 1


class _Server:
    """Serves on a loop in a thread of its own."""

    def __init__(self, kind: str, app: LimitedApp) -> None:
        self.app = app
        self._kind = kind
        self._http: asyncio.Server | None = None
        self._grpc: grpc.aio.Server | None = None

    async def start(self) -> str:
        """Listens, and returns the value of ``rpc_host``."""
        if self._kind == "http":
            self._http = await asyncio.start_server(self._serve_http, "127.0.0.1", 0, backlog=1000)
            port = self._http.sockets[0].getsockname()[1]
            return f"http://127.0.0.1:{port}/_anycable"
        self._grpc = grpc.aio.server()
        answers: dict[str, type[Message]] = {
            "Connect": rpc_pb2.ConnectionResponse,
            "Command": rpc_pb2.CommandResponse,
            "Disconnect": rpc_pb2.DisconnectResponse,
        }
        handlers = {name: self._handler(answer) for name, answer in answers.items()}
        generic = grpc.method_handlers_generic_handler("anycable.RPC", handlers)
        self._grpc.add_generic_rpc_handlers((generic,))
        port = self._grpc.add_insecure_port("127.0.0.1:0")
        await self._grpc.start()
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        """Ends every call."""
        if self._grpc is not None:
            await self._grpc.stop(0.1)
        if self._http is not None:
            self._http.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A turn for the transports that the tasks have closed
        await asyncio.sleep(0)

    def _handler(self, answer: type[Message]) -> Any:
        raw = answer(status=rpc_pb2.SUCCESS).SerializeToString()

        async def serve(_: bytes, context: Any) -> bytes:
            if not await self.app.work():
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no free worker")
            return raw

        return grpc.unary_unary_rpc_method_handler(serve)

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"status": 1}).encode()
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(size)
                status = b"200 OK" if await self.app.work() else b"503 Service Unavailable"
                length = b"Content-Length: %d\r\n\r\n" % len(body)
                writer.write(b"HTTP/1.1 " + status + b"\r\n" + length + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()


@contextmanager
def limited_app(kind: str, workers: int, **how: Any) -> Iterator[tuple[str, LimitedApp]]:
    """Serves in a thread; gives the value of ``rpc_host`` and the application."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = _Server(kind, LimitedApp(workers, **how))
    try:
        host = asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield host, server.app
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["grpc", "http"])
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--service-ms", type=int, default=20)
    parser.add_argument("--refuses", action="store_true")
    given = parser.parse_args()
    app = LimitedApp(given.workers, service_s=given.service_ms / 1000, refuses=given.refuses)
    server = _Server(given.kind, app)
    sys.stdout.write(f"{await server.start()}\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(_main())
