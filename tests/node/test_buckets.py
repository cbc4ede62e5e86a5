"""Leaky buckets of many keys."""

from catenary.node.buckets import BUCKETS_LIMIT, Buckets


def test_a_batch_is_taken_whole_and_delays_the_next_event() -> None:
    buckets = Buckets()
    assert buckets.wait_s("a", 10, 0) == 0
    buckets.add("a", 10, 25, 0)
    assert buckets.wait_s("a", 10, 0) == 1.6
    assert buckets.wait_s("b", 10, 0) == 0
    assert buckets.wait_s("a", 10, 1.6) == 0


def test_many_keys_fill_no_memory() -> None:
    buckets = Buckets()
    for number in range(3 * BUCKETS_LIMIT):
        buckets.add(str(number), 1, 1, number / 1_000)
    assert len(buckets) <= BUCKETS_LIMIT
