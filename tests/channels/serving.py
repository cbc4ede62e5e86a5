"""Serves the application of the contract suite over gRPC and HTTP."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn

from catenary.channels.publishers.http import HttpPublisher
from catenary.channels.rpc_grpc import GrpcRpcServer
from tests.channels.chat import chat
from tests.parts.server import OURS, CableServer

IN_PROCESS = (*OURS, "tests.channels.served:cable")


# In the server's process


# Behind RPC, in the test's process: one thread with a loop of its own


@contextmanager
def grpc_rpc(server: CableServer, port: int) -> Iterator[None]:
    """Serves calls over gRPC for the length of a with block."""
    publisher = HttpPublisher(server.broadcast_url)
    cable = chat(publisher)
    rpc = GrpcRpcServer(cable, f"127.0.0.1:{port}")

    async def stop() -> None:
        await rpc.stop(5)
        await cable.stop(5)

    with _served(rpc.start, stop):
        yield
    publisher.close()


@contextmanager
def http_rpc(server: CableServer, port: int, key: str) -> Iterator[None]:
    """The same over HTTP."""
    publisher = HttpPublisher(server.broadcast_url)
    cable = chat(publisher)
    config = uvicorn.Config(
        cable.http_rpc(key=key), host="127.0.0.1", port=port, log_config=None, access_log=False
    )
    uvicorn_server = uvicorn.Server(config)
    serving: list[asyncio.Task[None]] = []

    async def start() -> None:
        serving.append(asyncio.create_task(uvicorn_server.serve()))
        while not uvicorn_server.started:  # noqa: ASYNC110  (uvicorn has only this flag)
            await asyncio.sleep(0.01)

    async def stop() -> None:
        uvicorn_server.should_exit = True
        await asyncio.gather(*serving)
        await cable.stop(5)

    with _served(start, stop):
        yield
    publisher.close()


@contextmanager
def _served(
    start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]
) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def bounded(work: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(20):
            await work()

    try:
        asyncio.run_coroutine_threadsafe(bounded(start), loop).result()
        yield
        asyncio.run_coroutine_threadsafe(bounded(stop), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
