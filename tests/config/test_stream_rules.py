"""The tables [[streams.rules]]: what they mean, and the error for each mistake."""

import pytest

from catenary.config.load import load
from catenary.config.render import toml
from catenary.config.stream_rules import StreamRule, stream_rules
from catenary.errors import ConfigError

TWO = """
[streams]
whisper = true

[[streams.rules]]
match = "chat/*"
history_limit = 1_000
history_ttl = 3600
history_bytes = 1_000_000
whisper = true
max_rate = 50
slow_consumer = "catch_up"

[[streams.rules]]
match = "prices:*"
presence = false
slow_consumer = "keep_latest"
"""

RULES = (
    StreamRule(
        match="chat/*",
        history_limit=1_000,
        history_ttl=3_600,
        history_bytes=1_000_000,
        whisper=True,
        max_rate=50,
        slow_consumer="catch_up",
    ),
    StreamRule(match="prices:*", presence=False, slow_consumer="keep_latest"),
)


def rules_of(text: str, *flags: str) -> tuple[StreamRule, ...]:
    request = load(["--config-path=a.toml", *flags], {}, lambda path: text)
    return stream_rules(request.options)


def test_tables_are_rules_in_their_order() -> None:
    assert rules_of(TWO, "--broker=memory") == RULES


def test_printed_rules_are_read_to_the_same_rules() -> None:
    options = load(["--config-path=a.toml", "--broker=redis"], {}, lambda path: TWO).options
    assert rules_of(toml(options)) == RULES


@pytest.mark.parametrize(
    ("table", "flags", "error"),
    [
        ("presence = true", "", "streams.rules[1]: object missing required field `match`"),
        (
            'match = ""',
            "",
            "streams.rules[1]: match: expected a pattern such as chat/*, got an empty one",
        ),
        (
            'match = "a"\nsize = 1',
            "",
            "streams.rules[1]: expected match, history_limit, history_ttl, history_bytes, presence, whisper,"
            " max_rate, slow_consumer, slow_consumer_limit, got `size`",
        ),
        (
            'match = "a"\nmax_rate = "9"',
            "",
            "streams.rules[1]: max_rate: expected `int`, got `str`",
        ),
        (
            'match = "a"\nmax_rate = -1',
            "",
            "streams.rules[1]: max_rate: expected 0 or more, got -1",
        ),
        (
            'match = "a"\nslow_consumer = "drop"',
            "",
            "streams.rules[1]: slow_consumer: expected disconnect, drop_oldest, keep_latest, catch_up, got 'drop'",
        ),
        (
            'match = "a"\nslow_consumer_limit = 0',
            "",
            "streams.rules[1]: slow_consumer_limit: expected 1 to 10000, got 0",
        ),
        (
            'match = "a"\nhistory_bytes = 10',
            "",
            "streams.rules[1]: history_bytes: expected 0 (no limit) or at least 1024, got 10",
        ),
        (
            'match = "a"\nhistory_bytes = 100_000',
            "--broker=nats",
            "streams.rules[1]: history_bytes: expected memory or redis as the broker, got nats: JetStream limits the bytes of"
            " all streams together, not of each",
        ),
        (
            'match = "a"\nslow_consumer = "catch_up"',
            "",
            "streams.rules[1]: slow_consumer: expected a broker for catch_up, which reads the history, got none",
        ),
        (
            'match = "a"\nslow_consumer = "catch_up"\nhistory_ttl = 0',
            "--broker=memory",
            "streams.rules[1]: slow_consumer: expected a history_limit and a history_ttl above 0 for catch_up, got no history",
        ),
        (
            'match = "*"\n[[streams.rules]]\nmatch = "b"',
            "",
            "streams.rules[2]: match: expected a pattern that no earlier rule covers, got 'b' after"
            " streams.rules[1] with '*'",
        ),
    ],
)
def test_a_mistake_is_refused_with_its_table_and_key(table: str, flags: str, error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        rules_of(f"[[streams.rules]]\n{table}\n", *flags.split())
    assert str(raised.value) == error
