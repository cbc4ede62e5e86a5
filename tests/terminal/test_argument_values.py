import argparse

import pytest

from catenary.errors import ConfigError
from catenary.terminal.argument_values import count, fields, header, seconds


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), {}),
        (("id=42", "name=Ann"), {"id": 42, "name": "Ann"}),
        (('id="42"', "flag=true", "nothing=null"), {"id": "42", "flag": True, "nothing": None}),
        (("list=[1,2]", "a=b=c", "empty="), {"list": [1, 2], "a": "b=c", "empty": ""}),
        (('{"a": {"b": 1}}', "c=1"), {"a": {"b": 1}, "c": 1}),
        (('a="\\ud83c"', "b=\udcfc", "c=\\ud83c"), {"a": "\ufffd", "b": "\ufffd", "c": "\\ud83c"}),
        (('{"a": "\udcfc"}',), {"a": "\ufffd"}),
        (("a=" + "[" * 5_000,), {"a": "[" * 5_000}),
    ],
)
def test_fields(words: tuple[str, ...], expected: object) -> None:
    assert fields(words) == expected


@pytest.mark.parametrize("word", ["id", "=1", "{", "{]", "", '{"a":' * 5_000 + "1" + "}" * 5_000])
def test_what_is_no_field(word: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        fields([word])


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("0.5", 0.5), ("5m", 300), ("2h", 7200), ("1d", 86400)]
)
def test_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "-1", "nan", "inf", "5 minutes"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a time"):
        seconds(text)


def test_counts() -> None:
    assert count("12") == 12
    for text in ("0", "-1", "1.5", "", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number"):
            count(text)


def test_headers() -> None:
    assert header("Cookie: a=b; c=d:e") == ("Cookie", "a=b; c=d:e")
    for text in ("Cookie", ": x", "A: b\r\nC: d"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a header"):
            header(text)
