"""The end of a node, and the bytes that sessions take.

What any cache of sessions does is in tests/contracts/test_session_cache.py.
"""

import gc
import tracemalloc

import pytest

from catenary.adapters.memory.sessions import LocalSessions
from catenary.messages.names import Sid
from catenary.ports import SessionCache
from tests.contracts.brokers import Clock

TTL_S = 300


def test_at_the_end_all_are_given_up_once() -> None:
    clock = Clock()
    sessions = LocalSessions(ttl_s=TTL_S, clock=clock)
    port: SessionCache = sessions
    port.save(Sid("1"), b"1")
    clock.now += TTL_S / 2
    port.save(Sid("2"), b"2")
    clock.now += TTL_S / 2
    assert port.give_up() == (b"1", b"2"), "one of them has expired, and was not told yet"
    assert port.give_up() == port.expire() == ()
    assert sessions.sessions == 0


def test_50_000_sessions_leave_no_bytes() -> None:
    clock = Clock()
    gc.collect()
    tracemalloc.start()
    try:
        sessions = LocalSessions(ttl_s=TTL_S, clock=clock)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(50_000):
            sessions.save(Sid(f"{number:021}"), bytes(200))
            if number % 3 == 0:
                sessions.take(Sid(f"{number:021}"))
            clock.now += 0.001
        full, _ = tracemalloc.get_traced_memory()
        own_count = sessions.size_bytes
        clock.now += TTL_S * 1.1
        expired = sum(map(len, iter(sessions.expire, ())))
        gc.collect()  # the interpreter's own lists of what is free, too: 2,000 pairs
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert expired == 33_333
    assert own_count == pytest.approx(full - before, rel=0.15)
    assert (sessions.sessions, sessions.size_bytes) == (0, 0)
    assert after - before < 20_000
