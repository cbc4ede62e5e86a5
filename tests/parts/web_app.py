"""A web application around the cable of the contract suite: FastAPI's pages, its own WebSocket.

It is hosted by ``catenary tests.channels.served:cable --asgi tests.parts.web_app:hosted``, and is the host of a
mounted cable (:func:`host`).
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from starlette.types import Receive, Scope, Send

from catenary import Cable
from catenary.channels.fastapi import CableDep
from tests.channels.chat import LogChannel, chat


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    print("the lifespan begins", flush=True)
    LogChannel.broadcast_to("all", "published by the lifespan")
    yield {"begun": "with state"}
    print("the lifespan has ended", flush=True)


def pages(**options: Any) -> FastAPI:
    """The pages of both."""
    app = FastAPI(**options)

    @app.get("/page")
    async def page(request: Request) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {
            "pid": os.getpid(),
            "scheme": request.url.scheme,
            "state": getattr(request.state, "begun", None),
        }

    @app.post("/say/{room}")
    async def say(room: int, cable: CableDep) -> None:
        await cable.broadcast(f"RoomChannel:{room}", {"text": "by a page"})

    @app.post("/say_in_thread/{room}")
    def say_in_thread(room: int, cable: CableDep) -> None:
        cable.broadcast(f"RoomChannel:{room}", {"text": "by a thread"})

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text.upper())

    return app


hosted = pages(lifespan=lifespan)


def host(cable: Cable | None = None, **options: object) -> FastAPI:
    """A host with the cable at /cable, started by its lifespan."""
    cable = cable or chat()
    app = pages(lifespan=cable.lifespan)
    app.mount("/cable", cable.asgi(**options))
    return app


@asynccontextmanager
async def failing(app: FastAPI) -> AsyncIterator[None]:
    raise LookupError("no database")
    yield


broken = FastAPI(lifespan=failing)


@asynccontextmanager
async def served_twice(app: FastAPI) -> AsyncIterator[None]:
    from tests.channels.served import cable

    async with cable.running():
        yield


twice = FastAPI(lifespan=served_twice)


@asynccontextmanager
async def failing_at_the_end(app: FastAPI) -> AsyncIterator[None]:
    yield
    raise LookupError("still in use")


failing_at_shutdown = FastAPI(lifespan=failing_at_the_end)


async def failing_later(scope: Scope, receive: Receive, send: Send) -> None:
    """Its lifespan fails after the first request."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await _failing.wait()
        raise LookupError("the database is gone")
    _failing.set()
    await plain(scope, receive, send)


_failing = asyncio.Event()


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """Does not support lifespans."""
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Not an ASGI application."""
    return []
