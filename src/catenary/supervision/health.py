"""Health checks: whether the parts that a node depends on work, why not, and since when.

A check is a function. All checks are read once a second, so that ``since`` is accurate, and whenever an answer is requested.
Knows: functions, the time. Does not know: what is checked, or who asks.
"""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

State = Literal["ok", "failing", "off"]

INTERVAL_S: Final = 1.0
"""Time between two readings: the accuracy of ``since``."""


class Trouble(msgspec.Struct, frozen=True):
    """Why a part does not work.

    Anyone may read the ``summary``: it has no hosts, credentials, versions, or text of another program. ``reason`` has the
    details, for operators.
    """

    summary: str
    reason: str


class CheckResult(msgspec.Struct, frozen=True):
    """One check at one moment. ``summary`` and ``reason`` are those of its :class:`Trouble`, empty unless it fails.

    ``state`` is off for a part that this server was not asked to have. ``since`` is the moment at which the state began,
    in UTC (RFC 3339, milliseconds). A node should not receive clients while a check fails that ``is_blocking``.
    """

    name: str
    state: State
    summary: str
    reason: str
    since: str
    is_blocking: bool


Check = Callable[[], Trouble | None]
"""Returns why a part does not work; None if it does."""


class HealthChecks:
    """The checks of one node, in the order in which they are shown: causes before their effects."""

    __slots__ = ("_clock", "_entries")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """``clock`` returns Unix time in seconds."""
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def add(self, name: str, check: Check | None, *, is_blocking: bool = True) -> None:
        """Adds a check; None for a part that is off. Raises ValueError if the name is taken."""
        if name in self._entries:
            raise ValueError(f"the health check {name} is registered already")
        self._entries[name] = _Entry(check, self._clock(), is_blocking=is_blocking)

    def results(self) -> tuple[CheckResult, ...]:
        """Reads all checks."""
        now = self._clock()
        return tuple(entry.result(name, now) for name, entry in self._entries.items())


class _Entry:
    """A check, and since when it has its present state."""

    __slots__ = ("_check", "_is_blocking", "_since", "_state")

    def __init__(self, check: Check | None, now: float, *, is_blocking: bool) -> None:
        self._check = check
        self._is_blocking = is_blocking
        self._state: State = "off" if check is None else "ok"
        self._since = now

    def result(self, name: str, now: float) -> CheckResult:
        trouble = None if self._check is None else self._check()
        if self._check is not None:
            state: State = "ok" if trouble is None else "failing"
            if state != self._state:
                self._state, self._since = state, now
        summary, reason = ("", "") if trouble is None else (trouble.summary, trouble.reason)
        since = _rfc3339(self._since)
        return CheckResult(name, self._state, summary, reason, since, self._is_blocking)


def is_ready(results: Iterable[CheckResult]) -> bool:
    """Whether a node with these results should receive clients."""
    return not any(each.is_blocking and each.state == "failing" for each in results)


def reported(summary: str, read: Callable[[], str | None]) -> Check:
    """A check of a part that reports the reason itself, and None while it works."""

    def check() -> Trouble | None:
        reason = read()
        return None if reason is None else Trouble(summary, reason)

    return check


def _rfc3339(moment: float) -> str:
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
