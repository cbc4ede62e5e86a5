"""Single values: what is read, what is refused, and the line that says so."""

import pytest

from catenary.config.options import SHORTHANDS, TABLE, OptionRow, Value
from catenary.config.values import expected, from_text, from_toml
from catenary.errors import ConfigError

BY_PLACE = {entry.place: entry for entry in TABLE}
PORT = BY_PLACE["server.port"]
DEBUG = BY_PLACE["log.debug"]
SECRET = BY_PLACE["access.secret"]
HEADERS = BY_PLACE["rpc.proxy_headers"]
LEVEL = BY_PLACE["log.level"]
TAGS = BY_PLACE["metrics.tags"]
GATEWAYS = BY_PLACE["enats.gateways"]
RATE = BY_PLACE["disconnector.rate"]


@pytest.mark.parametrize(
    ("entry", "text", "value"),
    [
        (PORT, "0", 0),
        (PORT, "65535", 65535),
        (PORT, " 80 ", 80),
        (PORT, "+80", 80),
        (PORT, "0x50", 80),
        (PORT, "6_000", 6000),
        *((DEBUG, text, True) for text in ("1", "t", "T", "true", "True", "TRUE")),
        *((DEBUG, text, False) for text in ("0", "f", "F", "false", "False", "FALSE")),
        (SECRET, " kept as it is ", " kept as it is "),
        (SECRET, "", ""),
        (HEADERS, "x-a, cookie,,", ("x-a", "cookie")),
        (HEADERS, "", ()),
        (LEVEL, "warn", "warn"),
        (TAGS, "env:test,zone:a:b", ("env:test", "zone:a:b")),
        (GATEWAYS, "a:x,y;b:z", ("a:x,y", "b:z")),
    ],
)
def test_text(entry: OptionRow, text: str, value: Value) -> None:
    read = from_text(entry, text, "--it")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("entry", "text", "line"),
    [
        (PORT, "abc", "--it: expected a whole number from 0 to 65535, got 'abc'"),
        (PORT, "", "--it: expected a whole number from 0 to 65535, got ''"),
        (PORT, "8080.0", "--it: expected a whole number from 0 to 65535, got '8080.0'"),
        (PORT, "65536", "--it: expected a whole number from 0 to 65535, got 65536"),
        (PORT, "-1", "--it: expected a whole number from 0 to 65535, got -1"),
        (PORT, "010", "--it: expected a whole number from 0 to 65535, got '010'"),
        (PORT, "1__0", "--it: expected a whole number from 0 to 65535, got '1__0'"),
        (PORT, "٣", "--it: expected a whole number from 0 to 65535, got '٣'"),
        (RATE, "0", "--it: expected a whole number of at least 1, got 0"),
        (RATE, str(2**63), f"--it: expected a whole number of at least 1, got {2**63}"),
        (DEBUG, "yes", "--it: expected true or false, got 'yes'"),
        (LEVEL, "loud", "--it: expected one of debug, info, warn, error, got 'loud'"),
        (
            BY_PLACE["broadcast.adapters"],
            "http,smoke",
            "--it: expected a list of http, redis, redisx, nats, got 'smoke'",
        ),
        (TAGS, "env", "--it: expected a list of name:value, got 'env'"),
        (PORT, "9" * 5000, f"--it: expected a whole number from 0 to 65535, got '{'9' * 79}..."),
    ],
)
def test_wrong_text(entry: OptionRow, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_text(entry, text, "--it")
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("entry", "given", "value"),
    [
        (PORT, 80, 80),
        (DEBUG, True, True),
        (SECRET, "s", "s"),
        (HEADERS, ["a", "", "b, c"], ("a", "b, c")),
        (HEADERS, "a,b", ("a", "b")),
        (TAGS, {"env": "test"}, ("env:test",)),
        (TAGS, "env:test", ("env:test",)),
    ],
)
def test_toml(entry: OptionRow, given: object, value: Value) -> None:
    assert from_toml(entry, given, "key") == value


@pytest.mark.parametrize(
    ("entry", "given", "line"),
    [
        (PORT, "80", "key: expected a whole number from 0 to 65535, got '80'"),
        (PORT, True, "key: expected a whole number from 0 to 65535, got true"),
        (PORT, 80.0, "key: expected a whole number from 0 to 65535, got 80.0"),
        (PORT, 99999, "key: expected a whole number from 0 to 65535, got 99999"),
        (DEBUG, 1, "key: expected true or false, got 1"),
        (DEBUG, "true", "key: expected true or false, got 'true'"),
        (BY_PLACE["server.host"], 1, "key: expected text, got 1"),
        (HEADERS, ["a", 1], "key: expected a list of texts, got ['a', 1]"),
        (HEADERS, 1, "key: expected a list of texts, got 1"),
        (TAGS, {"env": 1}, "key: expected a list of name:value, got {'env': 1}"),
        (TAGS, ["env:test"], "key: expected a list of name:value, got ['env:test']"),
    ],
)
def test_wrong_toml(entry: OptionRow, given: object, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_toml(entry, given, "key")
    assert str(caught.value) == line


@pytest.mark.parametrize("entry", [entry for entry in TABLE if entry.option.secret])
def test_a_wrong_secret_is_not_shown(entry: OptionRow) -> None:
    with pytest.raises(ConfigError) as caught:
        from_toml(entry, 123456, "key")
    assert "123456" not in str(caught.value)
    assert str(caught.value).endswith("got a value of type int (not shown)")


def test_every_secret_is_marked() -> None:
    unmarked = [
        entry.place
        for entry in TABLE
        if ("secret" in entry.name or entry.name.endswith("key")) and not entry.option.secret
    ]
    assert unmarked == ["server.ssl_key", "jwt.public_key", "pusher.app_key"]


def test_a_shorthand_reads_as_an_option_does() -> None:
    timeout = next(row for row in SHORTHANDS if row.flag == "disconnect_timeout")
    assert from_text(timeout, "5", "--it") == 5
    with pytest.raises(ConfigError, match="expected a whole number of at least 0, got -1"):
        from_text(timeout, "-1", "--it")


def test_what_is_expected_leaves_out_the_empty_choice() -> None:
    assert expected(BY_PLACE["broker.adapter"]) == "one of none, memory, nats, redis"
