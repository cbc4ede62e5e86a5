"""Checks of other services that the options name: token keys, webhooks, StatsD, the collector of traces."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import Final

from catenary.config.addresses import statsd_address
from catenary.config.options import Options
from catenary.config.pusher_apps import pusher_apps
from catenary.config.urls import http_url, joined
from catenary.terminal.doctor.findings import Finding, ok, problem, warning

_LIMIT_S: Final = 5.0

_OTEL_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_OTEL_DEFAULT: Final = "http://localhost:4318"


async def check_services(options: Options) -> AsyncIterator[Finding]:
    """All of them."""
    if options.jwt.jwks_url:
        finding = await _token_keys(options)
        if finding is not None:
            yield finding
    for app in pusher_apps(options):
        for number, webhook in enumerate(app.webhooks, 1):
            yield await _webhook(f"URL {number} of the Pusher app {app.id}", webhook.url)
    if options.otel.enabled and options.otel.exporter == "otlp":
        yield await _collector(options.otel.endpoint)
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
    where, trouble = await _connect(url)
    if trouble is None:
        return ok("webhooks", f"{name} ({where}) can be reached")
    text = f"{name} ({where}) can't be reached: {trouble}"
    return problem("webhooks", text, "start the receiver, or correct its URL")


async def _collector(url: str) -> Finding:
    """The collector of spans. Without it, all else works."""
    url = next(filter(None, (url, *map(os.environ.get, _OTEL_VARIABLES))), _OTEL_DEFAULT)
    try:
        where, trouble = await _connect(url)
    except ValueError as error:
        advice = f"correct otel_endpoint or {_OTEL_VARIABLES[-1]}"
        return warning("traces", f"the URL of the collector is wrong: {error}", advice)
    if trouble is None:
        return ok("traces", f"the collector at {where} can be reached")
    text = f"the collector at {where} can't be reached: {trouble}"
    return warning("traces", text, "start it, or correct otel_endpoint")


async def _connect(url: str) -> tuple[str, str | None]:
    """Where a URL leads, without secrets, and why no connection can be made there. Raises ValueError for what is no URL."""
    found = http_url(url)
    where = joined(found.host, found.port)
    try:
        async with asyncio.timeout(_LIMIT_S):
            _, writer = await asyncio.open_connection(found.host, found.port)
    except OSError as error:
        return where, _reason(error)
    writer.close()
    return where, None


async def _statsd(text: str) -> Finding:
    """Resolves only: StatsD answers nothing."""
    host, port = statsd_address(text)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LIMIT_S):
            await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        return warning("statsd", f"no address of {host}: {_reason(error)}", "correct statsd_host")
    return ok("statsd", f"metrics are sent to {joined(host, port)}; UDP reports no failure")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or f"no answer within {_LIMIT_S:g} s"
