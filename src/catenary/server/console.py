"""The console (``--admin``): its pages, its own access, and the REST API below its path.

Knows: options, ``console/``. Does not know: what the pages show.
"""

import re
import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

from catenary.api.access import Access
from catenary.api.rest import METHODS
from catenary.console.configuration import configuration
from catenary.console.gate import Gate
from catenary.console.hosts import OwnHosts
from catenary.console.playground import Playground
from catenary.console.static_files import StaticFiles
from catenary.server.build import ServerBuild
from catenary.server.http_routes import announce, console_address
from catenary.server.ports import Ports
from catenary.server.replaced_values import follow_secret, origins
from catenary.server.rest import RestServices

_JSON: Final = "application/json"


def add_console(build: ServerBuild, ports: Ports, services: RestServices) -> None:
    """Serves it, and leads there from ``/`` where that path has no other use."""
    options, admin = build.options, build.options.admin
    if not admin.enabled:
        return
    spec = ports.at(console_address(options))
    static = StaticFiles()
    # The gate decides who gets in: the API behind it needs no key.
    api = services.routes("/api", Access(METHODS, key="", pages=None), f"{admin.path}/api")
    gate = Gate(
        Starlette(routes=[*_own_api(build), *api, *_pages(static)]),
        key=admin.secret,
        path=admin.path,
        cable_port=options.server.port,
        counters=build.counters,
        own_hosts=OwnHosts(
            options.server.host, origins(build, lambda new: new.server.allowed_origins)
        ),
        show_login=static.response,
    )
    follow_secret(build, lambda options: options.admin.secret, gate.replace_keys)
    redirect = _redirect_to(f"{admin.path}/")
    mount = Mount(admin.path, app=gate)
    # Starlette's own pattern accepts no line feed, which the name of a stream may have.
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    spec.routes += [Route(admin.path, redirect), mount]
    is_apart = admin.port != options.server.port
    if (options.access.public or is_apart) and spec.hosted is None:
        spec.routes.append(Route("/", redirect))
    announce(build, admin.port, "the console", "http", f"{admin.path}/")


def _pages(static: StaticFiles) -> list[Route]:
    async def page(request: Request) -> Response:
        return static.response(request, request.path_params.get("name", "index.html"))

    return [Route("/", page), Route("/{name}", page)]


def _own_api(build: ServerBuild) -> list[Route]:
    """The routes that only the console uses."""

    async def show_configuration(request: Request) -> Response:
        return Response(
            configuration(build.settings.options, build.settings.sources), media_type=_JSON
        )

    async def show_playground(request: Request) -> Response:
        return Response(Playground(build.settings.options).facts(), media_type=_JSON)

    async def sign(request: Request) -> Response:
        asked = request.query_params
        try:
            signed = Playground(build.settings.options).signed(
                asked.get("stream", ""), asked.get("identifiers", ""), time.time()
            )
        except ValueError:
            error = b'{"error":"identifiers: expected a JSON object"}'
            return Response(error, 422, media_type=_JSON)
        return Response(signed, media_type=_JSON)

    return [
        Route("/api/config", show_configuration),
        Route("/api/playground", show_playground),
        Route("/api/playground/sign", sign, methods=["POST"]),
    ]


def _redirect_to(where: str) -> Callable[[Request], Awaitable[Response]]:
    async def redirect(request: Request) -> Response:
        return RedirectResponse(where, 303)

    return redirect
