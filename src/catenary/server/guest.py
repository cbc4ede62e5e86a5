"""The application's own web pages, as a guest at the port of the cable.

Its requests go past us with everything that uvicorn knows of them; its lifespan begins before
clients are served and ends when they are gone.
Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/lifespan.html.
Knows: ASGI. Does not know: cables, ports.
"""

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.applications import Starlette
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from catenary.channels.loading import kind_of, named
from catenary.errors import ConfigError
from catenary.supervision.service import Supervisor

if TYPE_CHECKING:
    from catenary.channels.cable import Cable

_log: Final = logging.getLogger("catenary.server")


def load_guest(where: str, cable: "Cable | None", supervisor: Supervisor) -> "Guest":
    """The ASGI application that ``module:name`` names. Raises :class:`ConfigError`."""
    found = named(where, "an ASGI application")
    try:
        inspect.signature(found).bind(None, None, None)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"asgi: {where}: expected an ASGI application, which is called with scope, receive and"
            f" send, got {kind_of(found)}"
        ) from error
    if AutoWebSocketsProtocol is None:
        _log.info(
            "WebSockets of %s, other than cables, need: %s -m pip install websockets",
            where,
            sys.executable,
        )
    return Guest(cast("ASGIApp", found), where, cable, supervisor)


class Guest:
    """An ASGI application and its lifespan; ``where`` is its name in logs.

    It finds the ``cable`` of this process, if any, in the state of its requests. ``supervisor``
    hears where its lifespan ends before the server does.
    """

    def __init__(
        self, app: ASGIApp, where: str, cable: "Cable | None", supervisor: Supervisor
    ) -> None:
        # What uvicorn does unless it is told otherwise: a proxy on this machine is believed.
        self._app = cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", app)))
        self.websockets: Callable[..., asyncio.Protocol] | None = AutoWebSocketsProtocol
        """Builds uvicorn's protocol for WebSockets that are no cables; None without its library."""
        self._lifespan = app
        self._where = where
        self._state: dict[str, Any] = {} if cable is None else {"cable": cable}
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._said: asyncio.Queue[Message | None] = asyncio.Queue()
        self._life: asyncio.Task[None] | None = None
        self._is_up = False
        self._supervisor = supervisor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = self._state.copy()
        await self._app(scope, receive, send)

    def beside(self, own: Starlette) -> ASGIApp:
        """Our own routes, and the guest for everything else."""

        async def shared(scope: Scope, receive: Receive, send: Send) -> None:
            is_ours = any(route.matches(scope)[0] is not Match.NONE for route in own.routes)
            await (own if is_ours else self)(scope, receive, send)

        return shared

    async def start(self) -> None:
        """Returns when it is ready. Raises :class:`ConfigError` where it says that it can't be."""
        self._life = asyncio.create_task(self._live())
        self._told.put_nowait({"type": "lifespan.startup"})
        answer = await self._said.get()
        if answer is None:
            # As the specification has it: then there are no events for it, and requests all the same.
            _log.info("%s has no lifespan", self._where)
        elif answer["type"] == "lifespan.startup.failed":
            message = answer.get("message", "").strip()
            if "\n" in message:
                _log.error("%s could not start:", self._where)
                for line in message.splitlines():
                    _log.error("%s", line)
            reason = message.rpartition("\n")[2] or "it does not say why"
            raise ConfigError(f"asgi: {self._where} could not start: {reason}")
        self._is_up = True

    async def stop(self, timeout_s: float) -> None:
        """Lets it put things away. Never raises: what goes wrong is logged."""
        self._is_up = False
        if self._life is None:
            return
        if not self._life.done():
            self._told.put_nowait({"type": "lifespan.shutdown"})
            await asyncio.wait([self._life], timeout=timeout_s)
        if not self._life.done():
            _log.error("%s did not end within its time", self._where)
            self._life.cancel()
        while not self._said.empty():
            answer = self._said.get_nowait()
            if answer is not None and answer["type"] == "lifespan.shutdown.failed":
                message = answer.get("message", "").strip()
                _log.error("%s did not end as it should: %s", self._where, message)

    async def _live(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        try:
            await self._lifespan(scope, self._told.get, self._said.put)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            if self._is_up:
                # Nobody would hear of it: requests are answered all the same.
                self._supervisor.note_end(f"the lifespan of {self._where}", error)
            else:
                # The application's, whatever it is: most often that it knows of no lifespan.
                _log.debug("The lifespan of %s raised %r", self._where, error)
        finally:
            self._said.put_nowait(None)
