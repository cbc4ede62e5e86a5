"""Other ASGI servers, each in a thread of its own: uvicorn and hypercorn."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, cast

import hypercorn.asyncio
import uvicorn
from starlette.types import ASGIApp

from tests.parts.ports import free_port, wait_until_listening

T = TypeVar("T")
Kind = Literal["uvicorn", "hypercorn"]


class AsgiHost:
    """A server that runs; its cable is at /cable/ of the application."""

    def __init__(self, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.cable_url = f"ws://127.0.0.1:{port}/cable/"
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in the event loop of the server."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


@contextmanager
def asgi_host(app: ASGIApp, kind: Kind = "uvicorn", **settings: Any) -> Iterator[AsgiHost]:
    """Serves an application for the length of a with block; its lifespan ends after the block."""
    port = free_port()
    loop = asyncio.new_event_loop()
    serve, stop = (_uvicorn if kind == "uvicorn" else _hypercorn)(app, port, settings)
    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        wait_until_listening(port)
        yield AsgiHost(port, loop)
    finally:
        loop.call_soon_threadsafe(stop)
        thread.join(20)
        assert not thread.is_alive(), "expected an end within 20 s"
        loop.close()


def _uvicorn(
    app: ASGIApp, port: int, settings: dict[str, Any]
) -> tuple[Callable[[], Awaitable[object]], Callable[[], None]]:
    config = uvicorn.Config(
        cast("Any", app), host="127.0.0.1", port=port, log_config=None, access_log=False, **settings
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    return server.serve, stop


def _hypercorn(
    app: ASGIApp, port: int, settings: dict[str, Any]
) -> tuple[Callable[[], Awaitable[object]], Callable[[], None]]:
    config = hypercorn.Config.from_mapping(bind=f"127.0.0.1:{port}", **settings)
    ending = asyncio.Event()

    async def serve() -> None:
        trigger = cast("Any", ending.wait)
        await hypercorn.asyncio.serve(cast("Any", app), config, shutdown_trigger=trigger)

    return serve, ending.set
