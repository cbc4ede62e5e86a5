"""Health checks that belong to no part with a module of its own here: those of the application's calls, and of the limits of
this process.

Knows: options, counters, the system's limits. Does not know: who shows the checks.
"""

import asyncio
from typing import Final

from catenary.node.connect_failures import ConnectFailures, FailureRules
from catenary.process import resources
from catenary.server.build import ServerBuild
from catenary.supervision.health import INTERVAL_S, Trouble, reported

LAG_MS: Final = 500
"""A longer lag of the event loop is noticed by people, and delays pings and time limits."""

FULL: Final = 0.9
"""The share of a limit at which it is reported, while there is still time to act."""


def add_limits(build: ServerBuild) -> None:
    """The event loop and the limits that are shown as figures; both inform only. Also reads all checks regularly."""
    counters = build.counters
    open_files = resources.max_open_files()

    def lag() -> Trouble | None:
        if counters.event_loop_lag_ms < LAG_MS:
            return None
        reason = f"the event loop was blocked for {counters.event_loop_lag_ms} ms within 5 s"
        return Trouble("the event loop is late", reason)

    def limits() -> Trouble | None:
        # A connection is an open file. Counting those of the process takes milliseconds.
        found = [("open files", counters.open_connections_num, open_files), *build.figures.limits()]
        full = [
            f"{name}: {used} of {maximum}"
            for name, used, maximum in found
            # An infinite number of open files is negative (getrlimit(2)).
            if 0 < maximum * FULL <= used
        ]
        return Trouble("a limit is nearly reached", ", ".join(full)) if full else None

    build.checks.add("event loop", lag, is_blocking=False)
    build.checks.add("limits", limits, is_blocking=False)
    build.tick(INTERVAL_S, build.checks.results)


def watch_connects(build: ServerBuild) -> None:
    """The check of ``ready_connect_failures``, with an observer; neither without that option."""
    server = build.options.server
    if not server.ready_connect_failures:
        build.checks.add("connect calls", None)
        return
    rules = FailureRules(
        server.ready_connect_failures, server.ready_connect_window_s, server.ready_connect_calls
    )
    failures = ConnectFailures(rules, asyncio.get_running_loop().time)
    summary = "the application fails to answer Connect calls"
    build.checks.add("connect calls", reported(summary, lambda: failures.trouble))
    build.observers.attach(failures)
