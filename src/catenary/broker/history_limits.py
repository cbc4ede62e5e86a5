"""How much of a stream's history is stored, and for how long: the broker's options, or those of the stream's rule.

Knows: limits. Does not know: where a history is stored.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from catenary.broker.stream_rules import StreamRules
from catenary.messages.names import Stream


class HistoryLimit(msgspec.Struct, frozen=True, gc=False):
    """``messages`` are stored, each for ``ttl_s`` seconds, with ``max_bytes`` of data at most (0: no limit). With 0 messages
    or a TTL of 0, none is stored."""

    messages: int
    ttl_s: float
    max_bytes: int = 0


NOTHING: Final = HistoryLimit(0, 0)
"""No message is stored."""


class HistoryLimits:
    """The limits of each stream. ``usual`` holds for streams without a rule of their own."""

    __slots__ = ("_cache", "_rules", "usual")

    def __init__(self, usual: HistoryLimit, rules: StreamRules | None = None) -> None:
        self.usual = usual
        self._rules = rules or StreamRules()
        self._cache: dict[int, HistoryLimit] = {}
        self._rules.on_change.append(self._cache.clear)

    def of(self, stream: Stream) -> HistoryLimit:
        """The limits of a stream."""
        if self._rules.is_empty:
            return self.usual
        rule = self._rules.of(stream)
        # By identity: rules live as long as they are in force.
        limit = self._cache.get(id(rule))
        if limit is None:
            limit = self._cache[id(rule)] = HistoryLimit(
                self.usual.messages if rule.history_limit is None else rule.history_limit,
                self.usual.ttl_s if rule.history_ttl is None else rule.history_ttl,
                rule.history_bytes,
            )
        return limit

    @property
    def largest(self) -> HistoryLimit:
        """The most messages, and the longest TTL, of any stream."""
        rules = self._rules.rules
        return HistoryLimit(
            max([self.usual.messages, *(each.history_limit or 0 for each in rules)]),
            max([self.usual.ttl_s, *(each.history_ttl or 0 for each in rules)]),
        )

    def when_changed(self, call: Callable[[], None]) -> None:
        """Calls a function after the rules have changed."""
        self._rules.on_change.append(call)
