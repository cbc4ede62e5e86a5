"""Commands that are packed part by part are the same bytes as those that are packed at once."""

import pytest

from catenary.adapters.redis.connection import pack
from catenary.adapters.redis.large_commands import ScriptCall, Transaction, check_size
from catenary.errors import TooLarge

LIMIT = 1_000


def test_a_script_call_has_its_keys_before_its_arguments() -> None:
    call = ScriptCall("sha", LIMIT)
    call.add((), 1, "é", b"\r\n")
    call.add(("key", "key 2"), "", b"\x00\xff")
    call.add(("key 3",))
    keys, args = ("key", "key 2", "key 3"), (1, "é", b"\r\n", "", b"\x00\xff")
    assert call.packed() == pack("EVALSHA", "sha", 3, *keys, *args)
    assert call.replies == 1


def test_a_transaction_is_its_commands_between_multi_and_exec() -> None:
    transaction = Transaction(LIMIT)
    transaction.add("PUBLISH", "é", b"1")
    transaction.add("PUBLISH", b"c", "")
    commands = (("MULTI",), ("PUBLISH", "é", b"1"), ("PUBLISH", b"c", ""), ("EXEC",))
    assert transaction.packed() == b"".join(pack(*each) for each in commands)
    assert transaction.replies == len(commands)


def test_an_argument_has_a_limit_in_bytes_and_a_command_has_none() -> None:
    call, transaction = ScriptCall("sha", LIMIT), Transaction(LIMIT)
    for _ in range(10):
        call.add(("k" * LIMIT,), "a" * LIMIT)
        transaction.add("PUBLISH", "c" * LIMIT, "a" * LIMIT)
    long = "é" * (LIMIT // 2) + "x"
    with pytest.raises(TooLarge, match=f"at most {LIMIT} bytes"):
        call.add((long,))
    with pytest.raises(TooLarge):
        call.add((), long)
    with pytest.raises(TooLarge):
        transaction.add(long)
    check_size(b"x" * 2 * LIMIT, ["x" * LIMIT, 10**9], LIMIT)
