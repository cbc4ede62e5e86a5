"""Warnings for options that have no effect, because the part of the server that they configure is off.

Knows: which option turns a part on. Does not know: what options do.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from catenary.config.options import TABLE, Options

_BY_PLACE: Final = {entry.place: entry for entry in TABLE}


class _Part(msgspec.Struct, frozen=True):
    """Options that have no effect until another one turns their part of the server on: ``places``, or their beginnings."""

    places: tuple[str, ...]
    is_on: Callable[[Options], object]
    needs: str


_PARTS: Final = (
    _Part(
        ("broker.",),
        # Pusher's clients bring a broker: see ``effective``.
        lambda options: options.broker.adapter or options.pusher.app_id or options.pusher.apps,
        "a broker (--presets=broker)",
    ),
    _Part(
        ("metrics.host", "metrics.port"),
        lambda options: options.metrics.http_path,
        "a path that serves metrics (--metrics_http=/metrics)",
    ),
    _Part(("statsd.",), lambda options: options.statsd.host, "a StatsD server (--statsd_host)"),
    _Part(("otel.",), lambda options: options.otel.enabled, "tracing (--otel)"),
    _Part(("sse.",), lambda options: options.sse.enabled, "event streams (--sse)"),
    _Part(("poll.",), lambda options: options.poll.enabled, "long polling (--poll)"),
    _Part(("ds.",), lambda options: options.ds.enabled, "Durable Streams (--ds)"),
    _Part(("admin.",), lambda options: options.admin.enabled, "the console (--admin)"),
)


def without_effect(options: Options, sources: Mapping[str, str]) -> list[str]:
    """Warnings for options whose part of the server is off. Defaults cause none: they may come from a file that lists every
    option."""
    return [
        f"{source} has no effect without {part.needs}"
        for part in _PARTS
        if not part.is_on(options)
        for place, source in sources.items()
        if place.startswith(part.places)
        and (entry := _BY_PLACE[place]).value_in(options) != entry.value_in(Options())
    ]
