"""Text of others: JSON that is read with care, names, addresses, keys, log lines, markup."""

import contextlib

import msgspec
import pytest

from catenary.auth.origins import Origins
from catenary.logs.escaping import escaped
from catenary.messages.lenient_json import read_any, repaired
from catenary.protocols.actioncable_msgpack import packed
from tests.growth.measure import Case, Work, assert_near_linear


def reading(text: bytes) -> Work:
    def work() -> None:
        with contextlib.suppress(msgspec.DecodeError):
            read_any(text)

    return work


def a_string_that_does_not_end(size: int) -> Work:
    """After a number that is read a second time."""
    return reading(b'[1e400,"' + b'\\"' * size)


def many_strings_that_do_not_end(size: int) -> Work:
    return reading(b"[1e400," + b'"' * (2 * size + 1))


def many_numbers_out_of_range(size: int) -> Work:
    return reading(b"[" + b"1e400," * size + b"0]")


def a_long_integer(size: int) -> Work:
    return reading(b"-" + b"1" * size * 10)


def many_long_runs_of_digits(size: int) -> Work:
    return reading(b"[1e400" + b",-1111111111.1e1" * size + b"]")


def many_halves_of_characters(size: int) -> Work:
    text = '["' + "\\ud83c" * size + '"]'
    return lambda: repaired(text)


def many_backslashes(size: int) -> Work:
    text = '["\\ud83c' + "\\\\" * size + '"]'
    return lambda: repaired(text)


def many_values_in_messagepack(size: int) -> Work:
    text = "[" + '{"a":1},' * size + "1e400]"
    return lambda: packed(text)


def text_in_a_log_line(size: int) -> Work:
    text = "\n" * size
    return lambda: escaped(text)


def many_origins(size: int) -> Work:
    origins = Origins(tuple(f"*.example-{number}.com" for number in range(100)))
    origin = "https://" + "a." * size + "com"
    return lambda: origins.allow(origin)


@pytest.mark.parametrize(
    "case",
    [
        a_string_that_does_not_end,
        many_strings_that_do_not_end,
        many_numbers_out_of_range,
        a_long_integer,
        many_long_runs_of_digits,
        many_halves_of_characters,
        many_backslashes,
        many_values_in_messagepack,
        text_in_a_log_line,
        many_origins,
    ],
)
def test_work_for_text_is_near_linear(case: Case) -> None:
    assert_near_linear(case)
