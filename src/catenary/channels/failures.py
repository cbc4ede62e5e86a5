"""Counts, reports and logs exceptions that nothing in the application rescued.

Knows: calls. Does not know: decisions.
"""

import logging
from collections.abc import Callable
from typing import Final

from catenary.channels.call import Call
from catenary.channels.errors import ChannelError
from catenary.logs.fields import client_fields
from catenary.logs.rate_limited import RateLimitedLogger

limited: Final = RateLimitedLogger(logging.getLogger("catenary.channels"))
"""The log of events that clients can cause."""

OnError = Callable[[str, str, Exception], None]
"""Takes a session's id, the name of the method, and the exception."""


class Failures:
    """Counts failed calls and reports them to ``collectors``, functions of the application."""

    def __init__(self, collectors: list[OnError]) -> None:
        self.total = 0
        """Calls that failed with an exception that nothing rescued."""
        self._collectors = collectors

    def note(self, call: Call, name: str, error: Exception | None) -> None:
        """Reports the exception of a call, if there is one.

        Mistakes of a client (:class:`ChannelError`) are logged in one line, everything else with its
        traceback.
        """
        if error is None:
            return
        self.total += 1
        client = client_fields(call.environment)
        sid = call.environment.sid
        for collect in self._collectors:
            try:
                collect(sid, name, error)
            except Exception:  # noqa: BLE001
                # A collector that fails must not cause more failures.
                limited.exception("A function in Cable.on_error failed", sid=sid)
        if isinstance(error, ChannelError):
            limited.warning(
                "Call refused", event="call_refused", method=name, reason=str(error), **client
            )
        else:
            limited.error("%s failed", name, exc_info=error, event="call_failed", **client)
