"""The limit of wrong keys at the login of the console."""

from catenary.console.login_limit import (
    FORGET_S,
    FREE_TRIES,
    MAX_ADDRESSES,
    MAX_WAIT_S,
    TRIES_PER_MINUTE,
    LoginLimit,
)


def wrong(limit: LoginLimit, address: str, times: int, now_s: float = 0.0) -> None:
    for _ in range(times):
        limit.note_wrong_key(address, now_s)


def test_a_few_typing_errors_cost_nothing() -> None:
    limit = LoginLimit()
    wrong(limit, "10.0.0.1", FREE_TRIES - 1)
    assert limit.wait_s("10.0.0.1", 0.0) == 0


def test_each_further_wrong_key_doubles_the_wait_up_to_a_minute() -> None:
    limit = LoginLimit()
    wrong(limit, "10.0.0.1", FREE_TRIES - 1)
    waits = []
    now = 0.0
    for _ in range(9):
        limit.note_wrong_key("10.0.0.1", now)
        waits.append(limit.wait_s("10.0.0.1", now))
        now += waits[-1]
        assert limit.wait_s("10.0.0.1", now) == 0
    assert waits == [1, 2, 4, 8, 16, 32, MAX_WAIT_S, MAX_WAIT_S, MAX_WAIT_S]


def test_an_address_of_ipv4_within_one_of_ipv6_is_its_own() -> None:
    limit = LoginLimit()
    wrong(limit, "::ffff:10.0.0.1", 20)
    assert limit.wait_s("::ffff:10.0.0.2", 0.0) == 0
    assert limit.wait_s("::ffff:10.0.0.1", 0.0) > 0
    assert limit.wait_s("10.0.0.1", 0.0) > 0


def test_another_address_does_not_wait() -> None:
    limit = LoginLimit()
    wrong(limit, "10.0.0.1", 20)
    assert limit.wait_s("10.0.0.2", 0.0) == 0


def test_the_addresses_of_one_ipv6_host_count_as_one() -> None:
    limit = LoginLimit()
    for number in range(FREE_TRIES):
        limit.note_wrong_key(f"2001:db8:1:2::{number:x}", 0.0)
    assert limit.wait_s("2001:db8:1:2:ffff::1", 0.0) == 1
    assert limit.wait_s("2001:db8:1:3::1", 0.0) == 0
    limit.note_wrong_key("fe80::1%eth0", 0.0)
    limit.note_wrong_key("no:address", 0.0)


def test_a_right_key_and_time_forget_the_wrong_ones() -> None:
    limit = LoginLimit()
    wrong(limit, "10.0.0.1", 10)
    limit.note_right_key("10.0.0.1")
    assert limit.wait_s("10.0.0.1", 0.0) == 0
    wrong(limit, "10.0.0.1", 10)
    later = FORGET_S + 1
    wrong(limit, "10.0.0.1", FREE_TRIES - 1, later)
    assert limit.wait_s("10.0.0.1", later) == 0


def test_all_addresses_together_have_a_limit_for_each_minute() -> None:
    limit = LoginLimit()
    for number in range(TRIES_PER_MINUTE):
        assert limit.wait_s(f"10.0.0.{number}", 10.0) == 0
        limit.note_wrong_key(f"10.0.0.{number}", 10.0)
    assert limit.wait_s("10.1.1.1", 20.0) == 50
    assert limit.wait_s("10.1.1.1", 70.0) == 0
    limit.note_wrong_key("10.1.1.1", 70.0)
    assert limit.wait_s("10.1.1.2", 70.0) == 0


def test_memory_is_bounded() -> None:
    limit = LoginLimit()
    wrong(limit, "first", 10)
    for number in range(MAX_ADDRESSES):
        limit.note_wrong_key(str(number), 1000.0 * number)
    assert len(limit._addresses) == MAX_ADDRESSES
    assert "first" not in limit._addresses
