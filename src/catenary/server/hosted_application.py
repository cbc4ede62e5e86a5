"""An ASGI application that this server hosts beside the cable, on the same port (``--asgi``).

It gets every request that no route of the server matches. Its lifespan begins before clients are served and ends
after the last client has left.
Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/lifespan.html.
Knows: ASGI. Does not know: cables, ports.
"""

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from catenary.api.access_log import AccessLog
from catenary.channels.loading import kind_of, named
from catenary.errors import ConfigError
from catenary.supervision.service import Supervisor

if TYPE_CHECKING:
    from catenary.channels.cable import Cable

_log: Final = logging.getLogger("catenary.server")


def load_hosted_application(
    where: str,
    cable: "Cable | None",
    supervisor: Supervisor,
    *,
    logs_access: bool,
    trusts_this_machine: bool,
) -> "HostedApplication":
    """Imports the ASGI application that ``module:name`` names. With ``logs_access``, its requests are logged. With
    ``trusts_this_machine``, X-Forwarded-* headers from a proxy on this machine are trusted, as uvicorn does by default.
    Raises :class:`ConfigError`."""
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
    app = cast("ASGIApp", found)
    if logs_access:
        app = AccessLog(app)
    return HostedApplication(app, where, cable, supervisor, trusts_this_machine=trusts_this_machine)


class HostedApplication:
    """An ASGI application and its lifespan; ``where`` is its name in logs.

    Its requests have the ``cable`` of this process, if there is one, in their state. A lifespan that fails while the
    server runs is reported to the ``supervisor``.
    """

    def __init__(
        self,
        app: ASGIApp,
        where: str,
        cable: "Cable | None",
        supervisor: Supervisor,
        *,
        trusts_this_machine: bool = True,
    ) -> None:
        proxied = ProxyHeadersMiddleware(cast("Any", app)) if trusts_this_machine else app
        self._app = cast("ASGIApp", proxied)
        self.websockets: Callable[..., asyncio.Protocol] | None = AutoWebSocketsProtocol
        """Builds uvicorn's protocol for the application's own WebSockets; None if no library for it is installed."""
        self._lifespan = app
        self._where = where
        self._state: dict[str, Any] = {} if cable is None else {"cable": cable}
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message | None] = asyncio.Queue()
        self._lifespan_task: asyncio.Task[None] | None = None
        self._is_up = False
        self._supervisor = supervisor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = self._state.copy()
        await self._app(scope, receive, send)

    def after(self, routes: Sequence[BaseRoute], server: ASGIApp) -> ASGIApp:
        """An application that calls the ``server`` where one of its ``routes`` matches, else the hosted application."""

        async def choose(scope: Scope, receive: Receive, send: Send) -> None:
            matches = any(route.matches(scope)[0] is not Match.NONE for route in routes)
            await (server if matches else self)(scope, receive, send)

        return choose

    async def start(self) -> None:
        """Returns when the application has started. Raises :class:`ConfigError` if it reports that it could not."""
        self._lifespan_task = asyncio.create_task(self._run_lifespan())
        self._events.put_nowait({"type": "lifespan.startup"})
        answer = await self._answers.get()
        if answer is None:
            # Allowed by the specification: such an application gets requests and no lifespan events.
            _log.info("%s has no lifespan", self._where)
        elif answer["type"] == "lifespan.startup.failed":
            message = answer.get("message", "").strip()
            if "\n" in message:
                _log.error("%s could not start:", self._where)
                for line in message.splitlines():
                    _log.error("%s", line)
            reason = message.rpartition("\n")[2] or "no reason given"
            raise ConfigError(f"asgi: {self._where} could not start: {reason}")
        self._is_up = True

    async def stop(self, timeout_s: float) -> None:
        """Ends the lifespan, within ``timeout_s``. Never raises: failures are logged."""
        self._is_up = False
        if self._lifespan_task is None:
            return
        if not self._lifespan_task.done():
            self._events.put_nowait({"type": "lifespan.shutdown"})
            await asyncio.wait([self._lifespan_task], timeout=timeout_s)
        if not self._lifespan_task.done():
            _log.error("%s did not shut down in time", self._where)
            self._lifespan_task.cancel()
        while not self._answers.empty():
            answer = self._answers.get_nowait()
            if answer is not None and answer["type"] == "lifespan.shutdown.failed":
                message = answer.get("message", "").strip()
                _log.error("%s could not shut down: %s", self._where, message)

    async def _run_lifespan(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        try:
            await self._lifespan(scope, self._events.get, self._answers.put)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
            if self._is_up:
                # Requests are still answered, so only this report shows that the lifespan has ended.
                self._supervisor.note_end(f"the lifespan of {self._where}", error)
            else:
                # Any exception of the application; most often it does not support lifespans.
                _log.debug("The lifespan of %s raised %r", self._where, error)
        finally:
            self._answers.put_nowait(None)
