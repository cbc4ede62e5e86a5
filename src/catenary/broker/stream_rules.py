"""The rules for streams, found by the names of streams.

Knows: patterns, precedence. Does not know: what the parts do with a rule.
"""

import re
from collections.abc import Callable
from fnmatch import translate
from typing import Final

from catenary.config.stream_rules import StreamRule
from catenary.messages.names import Stream

CACHE_LIMIT: Final = 10_000
"""Streams whose rule is remembered: 200 bytes each. Beyond that, all are forgotten."""

CACHED_NAME: Final = 256
"""Longer names are not remembered: clients may choose them."""

NO_RULE: Final = StreamRule(match="*")
"""Holds for streams that no rule matches."""


class StreamRules:
    """The rules in force; :meth:`replace` puts others in their place, and calls the functions in ``on_change``.

    ``is_empty`` says that there is none, ``has_rates`` that one limits the rate of publications: parts that serve many streams
    compare them before they look for a rule.
    """

    __slots__ = ("_cache", "_patterns", "has_rates", "is_empty", "on_change", "rules")

    def __init__(self, rules: tuple[StreamRule, ...] = ()) -> None:
        self.on_change: list[Callable[[], None]] = []
        self._set(rules)

    def _set(self, rules: tuple[StreamRule, ...]) -> None:
        self.rules = rules
        self.is_empty = not rules
        self.has_rates = any(each.max_rate for each in rules)
        self._patterns = [(_matcher(each.match), each) for each in rules]
        self._cache: dict[Stream, StreamRule] = {}

    def replace(self, rules: tuple[StreamRule, ...]) -> None:
        """Puts other rules in the place of these."""
        self._set(rules)
        for call in self.on_change:
            call()

    def of(self, stream: Stream) -> StreamRule:
        """The first rule whose pattern matches the whole name of a stream; :data:`NO_RULE` if none does."""
        if self.is_empty:
            return NO_RULE
        rule = self._cache.get(stream)
        if rule is None:
            rule = self._find(stream)
            if len(stream) <= CACHED_NAME:
                if len(self._cache) >= CACHE_LIMIT:
                    self._cache.clear()
                self._cache[stream] = rule
        return rule

    def _find(self, stream: Stream) -> StreamRule:
        for matches, rule in self._patterns:
            if matches(stream) is not None:
                return rule
        return NO_RULE


def _matcher(pattern: str) -> Callable[[str], object]:
    """Matches whole names, case-sensitively: ``*`` is any text, ``?`` any one character. The time is linear in the length
    of the name for each ``*``, because fnmatch's groups are atomic."""
    return re.compile(translate(pattern.replace("[", "[[]"))).match
