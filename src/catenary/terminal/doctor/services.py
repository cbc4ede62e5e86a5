"""Checks of other services that the options name: token keys, webhooks, StatsD."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Final

from catenary.config.addresses import statsd_address
from catenary.config.options import Options
from catenary.config.pusher_apps import pusher_apps
from catenary.config.urls import http_url, joined
from catenary.terminal.doctor.findings import Finding, ok, problem, warning

_LIMIT_S: Final = 5.0


async def check_services(options: Options) -> AsyncIterator[Finding]:
    """All of them."""
    if options.jwt.jwks_url:
        finding = await _token_keys(options)
        if finding is not None:
            yield finding
    for app in pusher_apps(options):
        for number, webhook in enumerate(app.webhooks, 1):
            yield await _webhook(f"URL {number} of the Pusher app {app.id}", webhook.url)
    if options.statsd.host:
        yield await _statsd(options.statsd.host)


async def _token_keys(options: Options) -> Finding | None:
    try:
        from catenary.adapters.jwks import RemoteKeys
    except ImportError:
        # A missing library is a finding of its own.
        return None
    found = http_url(options.jwt.jwks_url)
    where = joined(found.host, found.port)
    keys = RemoteKeys(options.jwt.jwks_url, interval_s=options.jwt.jwks_refresh_s)
    await keys.start()
    await keys.close(0)
    if keys.trouble is None:
        return ok("token keys", f"{len(keys.keys)} from {where}")
    text = f"no keys from {where}: {keys.trouble}"
    return problem("token keys", text, "correct jwt_jwks_url: it names the key set itself")


async def _webhook(name: str, url: str) -> Finding:
    """Connects only: a request would be an event."""
    found = http_url(url)
    where = joined(found.host, found.port)
    try:
        async with asyncio.timeout(_LIMIT_S):
            _, writer = await asyncio.open_connection(found.host, found.port)
    except OSError as error:
        text = f"{name} ({where}) can't be reached: {_reason(error)}"
        return problem("webhooks", text, "start the receiver, or correct its URL")
    writer.close()
    return ok("webhooks", f"{name} ({where}) can be reached")


async def _statsd(text: str) -> Finding:
    """Resolves only: StatsD answers nothing."""
    host, port = statsd_address(text)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LIMIT_S):
            await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        return warning("statsd", f"no address of {host}: {_reason(error)}", "correct statsd_host")
    return ok("statsd", f"metrics are sent to {joined(host, port)}, which never answers")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or f"no answer within {_LIMIT_S:g} s"
