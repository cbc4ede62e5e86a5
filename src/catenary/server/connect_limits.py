"""Builds the limits of clients that connect and of publishers, and replaces them when the configuration is read again.

Knows: options. Does not know: endpoints.
"""

import functools
import time
from collections.abc import Iterable

from catenary.config.options import LimitOptions
from catenary.edge.connect_limits import ConnectLimits, ConnectRules
from catenary.edge.publish_limit import PublishLimit
from catenary.node.hub import Hub
from catenary.node.session_table import SHARDS
from catenary.server.build import ServerBuild


def build_connect_limits(build: ServerBuild, hub: Hub) -> ConnectLimits:
    """The limits that all endpoints share."""

    def addresses() -> Iterable[str]:
        for number in range(SHARDS):
            for session in hub.sessions.shard(number).values():
                yield session.environment.address

    rules = _rules(build.options.limits)
    limits = ConnectLimits(rules, build.observers, addresses, time.monotonic)
    build.reloads.add(
        (f"limits.{name}" for name in ConnectRules.__struct_fields__),
        lambda new: functools.partial(limits.replace, _rules(new.options.limits)),
    )
    return limits


def build_publish_limit(build: ServerBuild) -> PublishLimit:
    """The limit that all endpoints for publications share."""
    limit = PublishLimit(build.options.limits.max_publish_rate, time.monotonic)
    build.reloads.add(
        ("limits.max_publish_rate",),
        lambda new: functools.partial(limit.replace, new.options.limits.max_publish_rate),
    )
    return limit


def _rules(limits: LimitOptions) -> ConnectRules:
    return ConnectRules(
        max_connect_rate=limits.max_connect_rate,
        max_address_connect_rate=limits.max_address_connect_rate,
        max_address_connections=limits.max_address_connections,
    )
