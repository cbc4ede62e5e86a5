"""Clients that are refused together come back one after another."""

from collections import Counter

import pytest

from catenary.wire.retry_after import retry_after


@pytest.mark.parametrize(("spread_s", "latest"), [(10, 15), (40, 45), (1e9, 60)])
def test_clients_come_back_spread_over_the_time(spread_s: float, latest: int) -> None:
    seconds = Counter(int(dict(retry_after(spread_s))["Retry-After"]) for _ in range(10_000))
    assert (min(seconds), max(seconds)) == (5, latest)
    even = 10_000 / (latest - 5)
    assert max(seconds.values()) < 1.1 * even
