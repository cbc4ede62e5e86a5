"""The bytes that members take. What any presence does is in tests/contracts/test_presence.py."""

import gc
import tracemalloc

from catenary.adapters.memory.presence import LocalPresence
from catenary.messages.names import Sid, Stream
from catenary.ports import Presence
from tests.contracts.brokers import Clock

TTL_S = 15


def test_it_satisfies_the_port() -> None:
    port: Presence = LocalPresence(ttl_s=TTL_S, clock=Clock())
    assert port.members(Stream("s")) == ()


def test_30_000_sessions_leave_no_bytes() -> None:
    clock = Clock()
    gc.collect()
    tracemalloc.start()
    try:
        presence = LocalPresence(ttl_s=TTL_S, clock=clock)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(30_000):
            stream, sid = Stream(f"room:{number % 1000}"), Sid(str(number))
            presence.join(stream, sid, str(number % 5000), "{}")
            presence.join(Stream("lobby"), sid, str(number), "{}")
            if number % 3 == 0:
                presence.leave(stream, sid)
                presence.leave(Stream("lobby"), sid)
        full, _ = tracemalloc.get_traced_memory()
        clock.now += TTL_S * 1.1
        leaves = sum(map(len, iter(presence.expire, ())))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert leaves == 20_000 + 5_000, "each in the lobby, and 5,000 in the rooms"
    assert full - before > 1_000_000
    assert presence.sessions == 0
    assert after - before < 20_000


def test_streams_that_come_and_go_leave_no_bytes_beside_one_that_stays() -> None:
    presence = LocalPresence(ttl_s=TTL_S, clock=Clock())
    presence.join(Stream("lobby"), Sid("stays"), "jack", "{}")
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(20_000):
            presence.join(Stream(f"room:{number}"), Sid(str(number)), str(number), "{}")
            presence.leave(Stream(f"room:{number}"), Sid(str(number)))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    assert presence.sessions == 1
