"""The rules for streams by their names: the tables ``[[streams.rules]]``.

Knows: options. Does not know: which streams exist.
"""

from typing import Final, Literal, get_args

import msgspec

from catenary.config.options import INT_MAX, Options
from catenary.errors import ConfigError

SlowConsumer = Literal["disconnect", "drop_oldest", "keep_latest", "catch_up"]
"""The policy for messages of a stream to a client that reads too slowly.

*disconnect*: they wait, and beyond ``ws_max_pending_size`` the client is closed. *drop_oldest*: the latest
``slow_consumer_limit`` wait. *keep_latest*: the latest one waits. *catch_up*: none waits, and the client gets them from the
history when it reads again.
"""

PENDING_MAX: Final = 10_000
"""The largest ``slow_consumer_limit``."""


class StreamRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the streams whose names match a pattern: ``*`` is any text, ``?`` any one character.

    - ``history_limit``, ``history_ttl`` (seconds), ``history_bytes`` (0: no limit): how much of the history is stored, and for
      how long. None: the broker's option.
    - ``presence``, ``whisper``: False: never. True: on signed and public streams also without the option for all of
      them. None: the option, or the application, decides.
    - ``max_rate``: publications in a second that one node accepts (0: no limit).
    - ``slow_consumer``: see :data:`SlowConsumer`; ``slow_consumer_limit``: messages that wait with *drop_oldest*.
    """

    match: str
    history_limit: int | None = None
    history_ttl: int | None = None
    history_bytes: int = 0
    presence: bool | None = None
    whisper: bool | None = None
    max_rate: int = 0
    slow_consumer: SlowConsumer = "disconnect"
    slow_consumer_limit: int = 100


_NUMBERS: Final = ("history_limit", "history_ttl", "history_bytes", "max_rate")
_SMALLEST_HISTORY_BYTES: Final = 1_024

_read: Final = msgspec.json.Decoder(StreamRule).decode


def stream_rules(options: Options) -> tuple[StreamRule, ...]:
    """The rules in the order of the file, which is their precedence. Raises :class:`ConfigError`, which names the table and
    the key."""
    rules: list[StreamRule] = []
    for number, text in enumerate(options.streams.rules, 1):
        where = f"streams.rules[{number}]"
        rule = _rule_of(text, where)
        _check(where, rule)
        for earlier, other in enumerate(rules, 1):
            if other.match in (rule.match, "*"):
                raise ConfigError(
                    f"{where}: match: expected a pattern that no earlier rule covers, got {rule.match!r}"
                    f" after streams.rules[{earlier}] with {other.match!r}"
                )
        _check_engine(where, rule, options)
        rules.append(rule)
    return tuple(rules)


def _rule_of(text: str, where: str) -> StreamRule:
    try:
        return _read(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{where}: {_sentence(str(error))}") from None


def _sentence(text: str) -> str:
    """An error of msgspec with the key first, and the accepted names: ``Expected `int`, got `str` - at `$.max_rate```."""
    what, at, path = text.partition(" - at `$.")
    what = what[:1].lower() + what[1:]
    for begin, names in _NAMES.items():
        if what.startswith(begin):
            what = f"expected {', '.join(names)}, got {what.removeprefix(begin)}"
    return f"{path.rstrip('`')}: {what}" if at else what


_NAMES: Final = {
    "object contains unknown field ": StreamRule.__struct_fields__,
    "invalid enum value ": get_args(SlowConsumer),
}


def _check(where: str, rule: StreamRule) -> None:
    if not rule.match:
        raise ConfigError(f"{where}: match: expected a pattern such as chat/*, got an empty one")
    for name in _NUMBERS:
        value = getattr(rule, name)
        if value is not None and not 0 <= value <= INT_MAX:
            raise ConfigError(f"{where}: {name}: expected 0 or more, got {value}")
    if 0 < rule.history_bytes < _SMALLEST_HISTORY_BYTES:
        raise ConfigError(
            f"{where}: history_bytes: expected 0 (no limit) or at least {_SMALLEST_HISTORY_BYTES},"
            f" got {rule.history_bytes}"
        )
    if not 1 <= rule.slow_consumer_limit <= PENDING_MAX:
        raise ConfigError(
            f"{where}: slow_consumer_limit: expected 1 to {PENDING_MAX}, got {rule.slow_consumer_limit}"
        )


def _check_engine(where: str, rule: StreamRule, options: Options) -> None:
    """Refuses what the broker can't do."""
    adapter = options.broker.adapter
    if rule.history_bytes and adapter == "nats":
        raise ConfigError(
            f"{where}: history_bytes: expected memory or redis as the broker, got nats: JetStream limits the bytes of all"
            " streams together, not of each"
        )
    if rule.slow_consumer == "catch_up":
        if not _has_broker(options):
            raise ConfigError(
                f"{where}: slow_consumer: expected a broker for catch_up, which reads the history, got none"
            )
        limit = options.broker.history_limit if rule.history_limit is None else rule.history_limit
        ttl_s = options.broker.history_ttl_s if rule.history_ttl is None else rule.history_ttl
        if not limit or not ttl_s:
            raise ConfigError(
                f"{where}: slow_consumer: expected a history_limit and a history_ttl above 0 for catch_up, got no history"
            )


def _has_broker(options: Options) -> bool:
    """Whether histories are stored. Pusher's clients bring a broker (:mod:`catenary.config.effective`)."""
    return options.broker.adapter not in ("", "none") or (
        not options.broker.adapter and bool(options.pusher.app_id or options.pusher.apps)
    )
