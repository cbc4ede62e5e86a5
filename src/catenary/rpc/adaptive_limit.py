"""Finds how many calls the application can take at once.

Additive increase and multiplicative decrease (D. Chiu, R. Jain, "Analysis of the Increase and Decrease Algorithms for
Congestion Avoidance", 1989), with the slow start of TCP, and the latency gradient of Netflix' ``concurrency-limits``
and of Envoy's adaptive concurrency filter: the limit shrinks by the ratio of the latency without a queue to the present
one. Refused calls count more than a backlog, as in docs/rpc.md, "Adaptive concurrency" (docs.anycable.io).
Knows: latencies, refusals, moments in seconds by the caller's clock. Does not know: calls, slots.
"""

import math
from statistics import median_high
from typing import Final

import msgspec

SHORTEST_WINDOW_S: Final = 0.1
LONGEST_WINDOW_S: Final = 1.0
HOLD_S: Final = 1.0
"""The limit does not grow for so long after a refusal."""
BASELINE_S: Final = 30.0
"""A baseline that no later window has reached for so long is measured again."""

_ENOUGH: Final = 5
"""A median of fewer latencies says little."""
_FULL: Final = 100
"""Results that end a window before its time; more latencies than these are not kept."""
_TOLERANCE: Final = 1.5
"""Latency may rise so many times above its baseline."""
_SLACK_S: Final = 0.001
"""Latency may rise by this as well: turns of the event loop take as long."""
_LARGEST_CUT: Final = 0.5


class AdaptiveRules(msgspec.Struct, frozen=True):
    """The first limit, and its bounds: 1 ≤ ``minimum`` ≤ ``initial`` ≤ ``maximum``."""

    initial: int = 25
    minimum: int = 5
    maximum: int = 100


class _Baseline:
    """The median latency of one procedure without a queue in the application, and when it was measured."""

    __slots__ = ("latency_s", "measured_at")

    def __init__(self, latency_s: float, now: float) -> None:
        self.latency_s = latency_s
        self.measured_at = now


class AdaptiveLimit:
    """A limit that is adapted at the end of each window of results.

    A window lasts until the limit has been used about once, and 0.1 to 1 s. Results of calls that began before it are
    ignored, because they tell about the former limit. At its end:

    - calls were refused or timed out: the limit shrinks by their share, by 1 to half, and does not grow for 1 s;
    - else it is multiplied by the gradient: 1.5 baselines divided by the median latency, between 0.5 and 1;
    - and if calls waited, it grows by 1, and from 2 s after the last refusal by 2, 4 …, at most by its square root.

    Each procedure has a baseline, the lowest median, so that a rush of slower calls is no rise of latency. It is measured
    again whenever the limit is at its minimum: the application may have become slower for another reason than the number
    of calls. With the first backlog and every 30 s while there is one, the limit goes to its minimum for one window,
    because all of the windows before may have been measured with a queue in the application.
    """

    __slots__ = (
        "_answers",
        "_baselines",
        "_began_at",
        "_busy",
        "_held_until",
        "_latencies",
        "_limit",
        "_overloads",
        "_probed_from",
        "_repeated",
        "_rules",
        "_step",
        "_waited",
    )

    def __init__(self, rules: AdaptiveRules, now: float) -> None:
        self._rules = rules
        self._limit = float(rules.initial)
        self._baselines: dict[str, _Baseline] = {}
        self._held_until = now - HOLD_S
        self._step = 1.0
        self._probed_from = 0.0
        """The limit to return to after a window at the minimum; 0 in other windows."""
        # The present window
        self._began_at = now
        self._latencies: dict[str, list[float]] = {}
        self._answers = 0
        self._overloads = 0
        self._repeated = False
        self._waited = 0
        self._busy = 0

    @property
    def limit(self) -> int:
        """How many calls may be under way."""
        return int(self._limit)

    def answered(
        self, procedure: str, latency_s: float, now: float, *, busy: int, has_backlog: bool
    ) -> bool:
        """A first attempt was answered, when ``busy`` slots were in use and ``has_backlog`` calls waited.

        Returns whether the limit has changed.
        """
        if now - latency_s < self._began_at:
            return False
        self._answers += 1
        self._waited += has_backlog
        self._busy = max(self._busy, busy)
        latencies = self._latencies.setdefault(procedure, [])
        if len(latencies) < _FULL:
            latencies.append(latency_s)
        return self._maybe_adapt(now)

    def overloaded(self, now: float, *, is_first: bool = True) -> bool:
        """The application has refused an attempt because it is busy, or did not answer in time.

        ``is_first`` says that it was the first attempt of its call. Returns whether the limit has changed.
        """
        if is_first:
            self._overloads += 1
        else:
            self._repeated = True
        return self._maybe_adapt(now)

    def _begin_window(self, now: float) -> None:
        self._began_at = now
        self._latencies = {}
        self._answers = self._overloads = self._waited = self._busy = 0
        self._repeated = False

    def _maybe_adapt(self, now: float) -> bool:
        lasted_s = now - self._began_at
        results = self._answers + self._overloads
        if lasted_s < SHORTEST_WINDOW_S or (
            lasted_s < LONGEST_WINDOW_S and results < min(self._limit, _FULL)
        ):
            return False
        if results < _ENOUGH and not (self._overloads or self._repeated):
            return False
        before = self.limit
        self._adapt(now)
        self._begin_window(now)
        return self.limit != before

    def _adapt(self, now: float) -> None:
        limit, self._probed_from, was_probe = self._limit, 0.0, self._probed_from
        if self._overloads or self._repeated:
            share = self._overloads / max(self._answers + self._overloads, 1)
            self._held_until = now + HOLD_S
            self._step = 1.0
            self._set(min(limit - 1, limit * max(1 - share, _LARGEST_CUT)))
            return
        gradient = self._gradient(now, measures=was_probe > 0 or limit <= self._rules.minimum)
        if was_probe:
            # Those that were called too rarely to be measured again wait for the next time.
            for each in self._baselines.values():
                each.measured_at = now
            self._set(was_probe)
            return
        if self._busy < limit / 2:
            return  # whatever the latency is, the limit is not the reason
        has_backlog = self._waited * 2 >= self._answers
        if has_backlog and self._is_old(now):
            self._probed_from = limit
            self._set(self._rules.minimum)
            return
        growth = 0.0
        if has_backlog and now >= self._held_until:
            growth = min(self._step, math.sqrt(limit))
            if now >= self._held_until + HOLD_S:
                self._step *= 2
        self._set(limit * gradient + growth)

    def _gradient(self, now: float, *, measures: bool) -> float:
        """Compares the latencies of this window with their baselines, each procedure by its number of calls, and lowers
        the baselines. ``measures`` replaces them."""
        weighted, number = 0.0, 0
        for procedure, latencies in self._latencies.items():
            if len(latencies) < _ENOUGH:
                continue
            latency_s = median_high(latencies)
            baseline = self._baselines.get(procedure)
            if baseline is None or measures or latency_s <= baseline.latency_s:
                # The first one may have been measured with a queue: it is measured again with the first backlog.
                is_first = baseline is None and not measures
                self._baselines[procedure] = _Baseline(latency_s, -math.inf if is_first else now)
                ratio = 1.0
            else:
                ratio = (baseline.latency_s * _TOLERANCE + _SLACK_S) / latency_s
            weighted += min(max(ratio, _LARGEST_CUT), 1.0) * len(latencies)
            number += len(latencies)
        return weighted / number if number else 1.0

    def _is_old(self, now: float) -> bool:
        """Whether the baseline of a procedure that this window has measured must be measured again."""
        return any(
            len(latencies) >= _ENOUGH and now - self._baselines[name].measured_at > BASELINE_S
            for name, latencies in self._latencies.items()
        )

    def _set(self, limit: float) -> None:
        self._limit = min(max(limit, self._rules.minimum), self._rules.maximum)
