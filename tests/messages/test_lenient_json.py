"""Text is accepted if, and only if, JSON.parse of Node accepts it."""

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.messages.lenient_json import (
    DEPTH,
    checked,
    read_any,
    read_object,
    reader,
    repaired,
    without_surrogates,
)

TEXTS = [
    r'"party \ud83c"',
    r'"\udf89 party"',
    r'"\udf89\ud83c"',
    r'"\ud83c\udf89"',
    r'"\uD83C\uDF89"',
    r'"\ud83c\ud83c\udf89\udf89"',
    r'"\ud83cabc"',
    r'"\\ud83c"',
    r'"\\\ud83c"',
    r'"\\\\ud83c\n"',
    r'{"\ud83c":1}',
    r'["\u0000","\ud83c"]',
    '"\x7f\u2028"',
    "1e400",
    "-1e400",
    "[1e-400]",
    "9" * 5_000,
    '{"a":[-' + "9" * 5_000 + '],"b":"' + "9" * 5_000 + '"}',
    "[1.5e999,1E400]",
    "-0",
    '{"a":1,"a":2}',
    '{"__proto__":1}',
    " \t\r\n1 \n",
    "[" * 1_500 + "]" * 1_500,
    '{"a":' * 5_000 + "1" + "}" * 5_000,
    "[" * 2_000 + r'"\ud83c"' + "]" * 2_000,
    # What is refused
    "",
    "nonsense",
    r'"\ud83c',
    r'"\ud83"',
    r'"\ud83c" x',
    '"\x01"',
    '"\\ud83c\x00"',
    '"\t"',
    "01",
    "1.",
    "+1",
    "NaN",
    "Infinity",
    "[1,]",
    "\ufeff1",
    "\xa01",
    "'a'",
    "[" * 1_500 + "]" * 1_499,
    "[" * 1_500 + "}" * 1_500,
]

IN_NODE = """
const texts = JSON.parse(require("fs").readFileSync(0))
const verdicts = texts.map(text => { try { JSON.parse(text); return true } catch { return false } })
console.log(JSON.stringify(verdicts))
"""


@pytest.fixture(scope="module")
def verdicts() -> dict[str, bool]:
    """Whether JSON.parse accepts each text."""
    done = subprocess.run(
        ["node", "-e", IN_NODE], input=json.dumps(TEXTS).encode(), capture_output=True, check=True
    )
    return dict(zip(TEXTS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text)[:30])
def test_text_that_json_parse_accepts_is_passed_on(verdicts: dict[str, bool], text: str) -> None:
    raw = checked(text.encode())
    assert (raw is not None) == verdicts[text]
    if raw is not None:
        assert json.loads(in_json(raw)) == json.loads(in_json(text.encode()))
        assert repaired(raw) is None, "strict readers take it"


def in_json(raw: bytes) -> str:
    """The text with everything replaced that Python's reader reads differently."""
    levels = raw.count(b"[") + raw.count(b"{")
    if levels > 900:
        return json.dumps(raw.decode().replace(r"\ud83c", r"\ufffd"))
    read = json.loads(raw, parse_int=float, parse_float=float)
    return without_surrogates(json.dumps(read, ensure_ascii=False))


@pytest.mark.parametrize(
    "text",
    [each for each in TEXTS if each.count("[") < 900 and each.count("{") < 900],
    ids=lambda text: ascii(text)[:30],
)
def test_text_that_json_parse_accepts_is_read(verdicts: dict[str, bool], text: str) -> None:
    if not verdicts[text]:
        with pytest.raises(msgspec.DecodeError):
            read_any(text)
        return
    assert read_any(text) == read_any(text.encode()) == json.loads(in_json(text.encode()))


def test_values_that_are_nested_too_deep_are_an_error() -> None:
    # Python 3.14 reads as deep as its stack: some 20,000 levels of values.
    levels = 5_000 if sys.version_info < (3, 14) else 50_000
    deep = '{"a":' * levels + "1" + "}" * levels
    with pytest.raises(msgspec.DecodeError, match="depth"):
        read_object(deep)
    assert reader(dict[str, msgspec.Raw])(deep).keys() == {"a"}


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the depth is the interpreter's there")
def test_the_depth_has_a_limit() -> None:
    limit = sys.getrecursionlimit()
    assert checked(b"[" * DEPTH + b"]" * DEPTH)
    assert checked(b"[" * 2 * DEPTH + b"]" * 2 * DEPTH) is None
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("raw", [b"\xff", b'"\xed\xa0\x80"', b'"\\ud83c\xff"'])
def test_text_that_is_not_utf_8_is_refused(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_any(raw)


@pytest.mark.parametrize(
    "value", [b'"\xff"', b'{"\xed\xa0\x80":"\\ud83c"}', b"[" * 2000 + b'"\xff"' + b"]" * 2000]
)
def test_text_that_is_not_utf_8_is_refused_where_it_is_not_decoded(value: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        reader(dict[str, msgspec.Raw])(b'{"a":' + value + b"}")
    assert checked(value) is None


def test_good_text_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catenary.messages.lenient_json.repaired", lambda _: pytest.fail("looked"))
    assert read_any(r'{"a":["\ud83c\udf89"]}') == {"a": ["\U0001f389"]}
    assert checked(b"[1]") == b"[1]"


@given(st.text(st.characters() | st.characters(categories=["Cs"])))
def test_every_text_of_javascript_is_read(text: str) -> None:
    """JSON.stringify of any string of JavaScript, which need not be valid Unicode."""
    halves = text.encode("utf-16-be", "surrogatepass")
    units = [int.from_bytes(halves[at : at + 2], "big") for at in range(0, len(halves), 2)]
    written = '"' + "".join(f"\\u{unit:04x}" for unit in units) + '"'
    assert read_any(written) == halves.decode("utf-16-be", "replace")


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(values)
def test_good_values_are_read_as_msgspec_reads_them(value: Any) -> None:
    assert read_any(json.dumps(value)) == value
