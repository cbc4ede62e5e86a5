"""Sessions that Redis or NATS refuse: logged once, not resumed, and still ended once."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from catenary.node import session_writer
from tests.parts.heart import in_loop, room, settle
from tests.parts.session_cluster import TTL_S, Cluster, is_restored


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  (nothing here can set an event)
            await asyncio.sleep(0.001)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize("was_kept", [True, False])
@in_loop
async def test_a_refused_session_is_reported_once_and_cannot_be_resumed(
    was_kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster()
    if not was_kept:
        cluster.sessions.max_bytes = 10
    client = await cluster.connect(0, "large")
    cluster.sessions.max_bytes = 500
    other = await cluster.connect(0, "other")
    client.subscribe(room("1", text="x" * 500))
    await settle()
    # Nor as it was before: its client would miss what it was told since.
    assert cluster.sessions.sids == ["other"]
    told = [each for each in warnings(caplog) if "can't be stored, nor resumed" in each]
    assert len(told) == 1
    assert told[0].startswith("The session can't be stored, nor resumed: expected at most ")
    assert cluster.nodes[0].counters.refused_sessions_total == 1

    cluster.sessions.calls.clear()
    client.subscribe(room("2"))
    await cluster.elapse(TTL_S + 2)
    assert cluster.sessions.calls == []

    back = await cluster.connect(1, "back", "large")
    assert not is_restored(back)
    await cluster.leave(client, other, back)
    await cluster.elapse(TTL_S + 2)
    assert await cluster.ended() == ["back", "large", "other"]
    assert len(warnings(caplog)) == 1


@in_loop
async def test_a_session_that_is_refused_as_it_leaves_has_ended_once() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "s1")
    cluster.sessions.refused.add("save")
    await cluster.leave(client)
    assert cluster.sessions.sids == []
    assert await cluster.ended() == ["s1"]
    assert cluster.nodes[0].counters.refused_sessions_total == 1


@in_loop
async def test_one_that_another_node_took_before_it_was_refused_has_not_ended_here() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "s1")
    taken = await cluster.connect(1, "s2", "s1")
    assert is_restored(taken)
    cluster.sessions.refused.add("save")
    client.subscribe(room("1"))
    await settle()
    await cluster.leave(client)
    assert await cluster.ended() == []
    cluster.sessions.refused.clear()
    await cluster.leave(taken)
    await cluster.elapse(TTL_S + 2)
    assert await cluster.ended() == ["s2"]


@in_loop
async def test_every_session_ends_once_if_the_cache_refuses_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Cluster()
    before = await cluster.connect(0, "s1")
    cluster.sessions.refused |= {"save", "take", "expire"}
    clients = [before, *[await cluster.connect(0, f"s{number}") for number in range(2, 5)]]
    clients[1].subscribe(room("1"))
    back = await cluster.connect(1, "s5", "s2")
    assert not is_restored(back)
    await cluster.elapse(5)
    await cluster.leave(*clients, back)
    await cluster.elapse(5)
    assert await cluster.ended() == ["s1", "s2", "s3", "s4", "s5"]
    told = warnings(caplog)
    assert len([each for each in told if "nor resumed" in each]) == 5
    # Asked each second, by each node
    assert len([each for each in told if "Session expiry failed" in each]) == 2
    assert len(told) == 5 + 2 + 1


@in_loop
async def test_attempts_in_vain_come_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_writer, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(session_writer, "LONGEST_PAUSE_S", 0.08)
    cluster = Cluster()
    cluster.sessions.is_away = True
    await cluster.connect(0, "s1")
    began = asyncio.get_running_loop().time()
    await until(lambda: len(cluster.sessions.calls) == 7)
    # 10, 20, 40, 80, 80 and 80 ms after the first
    assert asyncio.get_running_loop().time() - began >= 0.3
    cluster.sessions.is_away = False
    await until(lambda: cluster.sessions.sids == ["s1"])
