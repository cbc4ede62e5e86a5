"""Large sessions in lines: the lines are the session, and only changed ones are written."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catenary.messages.decisions import Decision
from catenary.messages.names import Sid, Stream
from catenary.node import snapshot_lines
from catenary.node.snapshot import Snapshot, read, snapshot_of, write
from catenary.node.snapshot_lines import LINE_BYTES
from tests.parts.heart import Client, in_loop, room, settle
from tests.parts.session_cluster import TTL_S, Cluster, is_restored

PAD = "x" * 2_000


def kept(cluster: Cluster, sid: str) -> bytes:
    """What is kept of a session, as it is."""
    cache = cluster.sessions.kept
    raw = cache.take(Sid(sid))
    assert raw is not None
    cache.save(Sid(sid), raw)
    return raw


def kept_snapshot(cluster: Cluster, sid: str) -> Snapshot:
    snapshot = read(kept(cluster, sid))
    assert snapshot is not None
    return snapshot


def same(snapshot: Snapshot, client: Client) -> bool:
    """Is it the session, whatever the order of its subscriptions?"""
    return bool(json.loads(write(snapshot)) == json.loads(write(snapshot_of(client.session, 0))))


async def subscribe(client: Client, *numbers: int, pad: str = PAD) -> None:
    for number in numbers:
        client.subscribe(room(str(number), pad=pad))
        await settle(3)


@in_loop
async def test_a_small_session_is_one_line() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    await subscribe(client, *range(5), pad="")
    assert b"\n" not in kept(cluster, "a")
    assert {call for call, _ in cluster.sessions.calls} == {"save new", "save"}
    assert same(kept_snapshot(cluster, "a"), client)


@in_loop
async def test_a_large_one_is_written_in_lines_that_have_changed() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    await subscribe(client, *range(100))
    raw = kept(cluster, "a")
    lines = raw.split(b"\n")
    assert len(lines) > 10
    assert max(map(len, lines)) < LINE_BYTES
    assert same(kept_snapshot(cluster, "a"), client)
    # Up to the size of a line it was saved as a whole; each change since then has cost a line.
    calls = [call for call, _ in cluster.sessions.calls]
    assert calls.count("save") < 10
    assert calls.count("amend") > 90
    assert cluster.sessions.amended < 100 * LINE_BYTES
    assert cluster.sessions.amended < 5 * len(raw)


@in_loop
async def test_the_cost_is_proportional_to_the_number_of_subscriptions() -> None:
    amended = []
    for number in (50, 500):
        cluster = Cluster()
        client = await cluster.connect(0, "a")
        await subscribe(client, *range(number))
        amended.append(cluster.sessions.amended)
    assert amended[1] < 14 * amended[0]


@in_loop
async def test_states_and_streams_of_a_large_one_are_kept_and_it_is_resumed() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    await subscribe(client, *range(30))
    application = cluster.nodes[0].application
    for decision in (
        Decision(istate={"of": "7"}, streams=(Stream("more"),)),
        Decision(cstate={"of": "all"}),
        Decision(
            stopped_streams=(Stream("7"),), whisper_stream=Stream("w"), presence_stream=Stream("p")
        ),
    ):
        application.prepare("perform", decision)
        client.say("message", room("7", pad=PAD), data="{}")
        await settle(3)
    client.say("unsubscribe", room("9", pad=PAD))
    await settle(3)
    assert same(kept_snapshot(cluster, "a"), client)

    # Its node is dead.
    back = await cluster.connect(1, "b", "a")
    assert is_restored(back)
    environment = back.session.environment
    assert environment.cstate == {"of": "all"}
    assert environment.istate == {room("7", pad=PAD): {"of": "7"}}
    subscription = back.session.subscriptions[room("7", pad=PAD)]
    assert tuple(subscription.streams) == ("more",)
    assert (subscription.whisper_stream, subscription.presence_stream) == ("w", "p")
    assert len(back.session.subscriptions) == 29
    await subscribe(back, 9)
    assert same(kept_snapshot(cluster, "b"), back)


@in_loop
async def test_lines_that_are_given_up_are_filled_again() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    await subscribe(client, *range(40))
    many = len(kept(cluster, "a").split(b"\n"))
    for turn in range(1, 6):
        for number in range(40):
            client.say("unsubscribe", room(str((turn - 1) * 40 + number), pad=PAD))
            await settle(3)
        await subscribe(client, *range(turn * 40, turn * 40 + 40))
    assert len(kept(cluster, "a").split(b"\n")) <= many + 2
    assert same(kept_snapshot(cluster, "a"), client)


@in_loop
async def test_after_an_outage_the_whole_session_is_there() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    await subscribe(client, *range(30))
    cluster.sessions.is_away = True
    await subscribe(client, 30, 31)
    client.say("unsubscribe", room("3", pad=PAD))
    await settle()
    cluster.sessions.lose_everything()
    cluster.sessions.is_away = False
    cluster.nodes[0].node.restore()
    await settle()
    assert same(kept_snapshot(cluster, "a"), client)
    await subscribe(client, 32)
    await cluster.tick(0)
    assert same(kept_snapshot(cluster, "a"), client)


@in_loop
async def test_changes_during_a_write_are_written_after_it() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    await subscribe(client, *range(30))
    cluster.sessions.is_slow = True
    await subscribe(client, *range(30, 40))
    client.say("unsubscribe", room("35", pad=PAD))
    await settle()
    cluster.sessions.is_slow = False
    cluster.sessions.answer()
    await settle()
    assert same(kept_snapshot(cluster, "a"), client)


@in_loop
async def test_the_last_state_of_a_client_that_leaves_is_stored_and_it_ends_once() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    await subscribe(client, *range(30))
    await cluster.leave(client)
    assert len(kept_snapshot(cluster, "a").subscriptions) == 30
    await cluster.elapse(TTL_S + 2)
    assert await cluster.ended() == ["a"]
    assert cluster.writer(0)._lines == {}


@in_loop
async def test_one_subscription_that_is_too_large_is_the_end_of_it() -> None:
    cluster = Cluster()
    cluster.sessions.max_bytes = 30_000
    client = await cluster.connect(0, "a")
    await subscribe(client, *range(40))
    assert len(kept(cluster, "a")) > 80_000
    client.subscribe(room("large", pad="x" * 40_000))
    await settle()
    assert cluster.sessions.sids == []
    assert cluster.nodes[0].counters.refused_sessions_total == 1
    await cluster.leave(client)
    assert await cluster.ended() == ["a"]


ACTIONS = [
    "subscribe",
    "subscribe",
    "unsubscribe",
    "state",
    "stream",
    "connection",
    "slow",
    "answer",
]


@given(
    actions=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, 11), st.integers(0, 400)), max_size=60
    )
)
@settings(max_examples=150, deadline=None)
def test_the_stored_lines_are_the_session(actions: list[tuple[str, int, int]]) -> None:
    """Whatever it does, in whatever order, while saves are quick or slow."""

    async def play() -> None:
        cluster = Cluster()
        application = cluster.nodes[0].application
        client = await cluster.connect(0, "a")
        for action, number, size in actions:
            identifier = room(str(number), pad="x" * 60)
            is_there = identifier in client.session.subscriptions
            if action == "subscribe" and not is_there:
                client.subscribe(identifier)
            elif action == "unsubscribe" and is_there:
                client.say("unsubscribe", identifier)
            elif action in ("state", "stream", "connection") and is_there:
                application.prepare("perform", _decision(action, number, size))
                client.say("message", identifier, data="{}")
            elif action == "slow":
                cluster.sessions.is_slow = True
            elif action == "answer":
                cluster.sessions.is_slow = False
                cluster.sessions.answer()
            await settle(2)
        cluster.sessions.is_slow = False
        cluster.sessions.answer()
        await settle()
        assert same(kept_snapshot(cluster, "a"), client)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_lines, "LINE_BYTES", 500)
        asyncio.run(play())


def _decision(action: str, number: int, size: int) -> Decision:
    if action == "state":
        return Decision(istate={f"k{size % 3}": "v" * size})
    if action == "stream":
        return Decision(streams=(Stream("s" * size),), stop_all_streams=bool(number % 2))
    return Decision(cstate={"c": "v" * size})
