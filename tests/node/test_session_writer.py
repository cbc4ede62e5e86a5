"""Sessions that other nodes can resume: stored while they live, and ended once, whichever node fails."""

import asyncio
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catenary.errors import BackendError
from catenary.messages.decisions import Decision
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import RemoteDisconnect
from catenary.messages.reasons import Reason
from catenary.node import session_writer, takeover
from catenary.node.snapshot import read
from tests.parts.heart import Client, in_loop, room, settle
from tests.parts.session_cluster import TTL_S, Cluster, is_restored


@in_loop
async def test_a_session_is_kept_while_it_lives_with_all_that_it_has_become() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    client.subscribe(room("1"))
    await settle()
    cluster.nodes[0].application.prepare(
        "perform", Decision(cstate={"c": "1"}, streams=(Stream("2"),))
    )
    client.say("message", room("1"), data="{}")
    await settle()
    kept = json.loads(cluster.sessions.kept.take(Sid("a")) or b"")
    assert kept["subscriptions"] == {room("1"): {"streams": ["1", "2"]}}
    assert kept["environment"]["cstate"] == {"c": "1"}
    assert cluster.sessions.calls == [("save new", "a"), ("save", "a"), ("save", "a")]


@in_loop
async def test_changes_of_one_turn_are_one_write_and_no_change_is_none() -> None:
    cluster = Cluster()
    client = cluster.begin(0, "a")
    for name in ("1", "2", "3"):
        client.subscribe(room(name))
    await settle()
    client.say("message", room("1"), data="{}")
    await settle()
    assert cluster.sessions.calls == [("save new", "a"), ("save", "a")]


@in_loop
async def test_a_session_is_sent_to_the_cache_before_its_client_learns_of_it() -> None:
    """Its client may be at another node in the next moment."""
    cluster = Cluster()
    client = cluster.begin(0, "a")
    assert client.heard, "the welcome was sent in this turn"
    assert cluster.sessions.sids == ["a"]
    resumed = await cluster.connect(1, "b", resumes="a")
    assert is_restored(resumed)
    again = await cluster.connect(0, "c", resumes="b")
    assert is_restored(again)


@in_loop
async def test_a_write_waits_for_the_answers_of_its_own_session_only() -> None:
    cluster = Cluster()
    cluster.sessions.is_slow = True
    first = cluster.begin(0, "a")
    await settle()
    first.subscribe(room("1"))
    second = cluster.begin(0, "b")
    await settle()
    second.subscribe(room("2"))
    await settle()
    # Of each, one write is under way.
    assert cluster.sessions.calls == [("save new", "a"), ("save new", "b")]
    cluster.sessions.answer()
    await settle()
    assert cluster.sessions.calls[2:] == [("save", "a"), ("save", "b")]
    cluster.sessions.answer()


@in_loop
async def test_a_session_that_left_and_one_that_changed_do_not_wait_for_each_other() -> None:
    cluster = Cluster()
    cluster.sessions.is_slow = True
    first, second = cluster.begin(0, "a"), cluster.begin(0, "b")
    await settle()
    first.leave()
    second.subscribe(room("2"))
    await settle()
    assert len(cluster.sessions.calls) == 2
    cluster.sessions.answer()
    await settle()
    assert cluster.sessions.calls[2:] == [("save", "a"), ("save", "b")]
    cluster.sessions.answer()


@in_loop
async def test_no_more_writes_are_under_way_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_writer, "WRITTEN_AT_ONCE", 3)
    cluster = Cluster()
    cluster.sessions.is_slow = True
    for number in range(8):
        cluster.begin(0, str(number))
    await settle()
    for most in (3, 6, 8):
        assert cluster.sessions.calls == [("save new", str(number)) for number in range(most)]
        cluster.sessions.answer()
        await settle()
    assert len(cluster.sessions.sids) == 8


@in_loop
async def test_a_session_of_the_plain_protocol_is_not_stored() -> None:
    cluster = Cluster()
    client = cluster.nodes[0].connect("a")
    client.subscribe(room("1"))
    await settle()
    assert cluster.sessions.calls == []
    await cluster.leave(client)
    assert await cluster.ended() == ["a"]
    assert cluster.sessions.calls == []


@in_loop
async def test_a_living_session_is_touched_and_does_not_expire() -> None:
    cluster = Cluster()
    await cluster.connect(0, "a")
    await cluster.elapse(3 * TTL_S)
    assert cluster.sessions.sids == ["a"]
    assert await cluster.ended() == []


@in_loop
async def test_when_a_node_dies_its_clients_go_on_at_another() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    client.subscribe(room("1"))
    await settle()
    again = await cluster.connect(1, "b", resumes="a")
    assert again.heard[0]["restored_ids"] == [room("1")]
    await cluster.elapse(3 * TTL_S, 1)
    assert await cluster.ended() == []
    await cluster.leave(again)
    await cluster.elapse(2 * TTL_S, 1)
    assert await cluster.ended() == ["b"]
    assert cluster.sessions.sids == []


@in_loop
async def test_when_a_node_dies_another_reports_the_sessions_that_are_not_resumed() -> None:
    cluster = Cluster()
    await cluster.connect(0, "a")
    await cluster.elapse(2 * TTL_S, 1)
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_session_that_is_not_resumed_ends_once() -> None:
    cluster = Cluster()
    await cluster.leave(await cluster.connect(0, "a"))
    assert await cluster.ended() == []
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["a"]


@pytest.mark.parametrize("node", [0, 1])
@in_loop
async def test_one_that_was_taken_over_while_it_looked_open_has_not_ended(node: int) -> None:
    cluster = Cluster()
    half_open = await cluster.connect(0, "a")
    half_open.subscribe(room("1"))
    await settle()
    again = await cluster.connect(node, "b", resumes="a")
    assert is_restored(again)
    # From now on nobody else can take it.
    assert cluster.sessions.sids == ["b"]
    again.say("message", room("1"), data="{}")
    assert not is_restored(await cluster.connect(1, "c", resumes="a"))
    half_open.say("message", room("1"), data="{}")
    half_open.say("unsubscribe", room("1"))
    await cluster.elapse(3)
    await cluster.leave(half_open)
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == []
    await cluster.leave(again)
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["b"]


@in_loop
async def test_one_that_was_taken_over_elsewhere_and_is_sent_away_here_has_not_ended() -> None:
    cluster = Cluster()
    half_open = await cluster.connect(0, "a")
    await cluster.connect(1, "b", resumes="a")
    half_open.session.close(Reason.REMOTE)
    await cluster.leave(half_open)
    assert await cluster.ended() == []


@in_loop
async def test_of_two_nodes_that_are_asked_one_goes_on() -> None:
    cluster = Cluster()
    await cluster.leave(await cluster.connect(0, "a"))
    clients = [cluster.begin(node, f"b{node}", resumes="a") for node in (0, 1)]
    await settle()
    assert sorted(map(is_restored, clients)) == [False, True]


@in_loop
async def test_a_closed_session_ends_at_once_and_is_not_stored() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    identifiers = client.session.environment.identifiers
    cluster.nodes[0].hub.deliver(RemoteDisconnect(identifiers, reconnect=True))
    await cluster.leave(client)
    assert await cluster.ended() == ["a"]
    assert cluster.sessions.sids == []
    assert not is_restored(await cluster.connect(1, "b", resumes="a"))


@in_loop
async def test_a_session_closed_before_it_was_stored_ends_once() -> None:
    cluster = Cluster()
    cluster.sessions.is_slow = True
    client = await cluster.connect(0, "a")
    client.session.close(Reason.REMOTE)
    await cluster.leave(client)
    assert await cluster.ended() == []
    cluster.sessions.is_slow = False
    cluster.sessions.answer()
    await settle()
    assert await cluster.ended() == ["a"]
    assert cluster.sessions.calls == [("save new", "a"), ("take", "a")]
    await cluster.elapse(2 * TTL_S)
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_closed_session_is_not_resumed_while_its_removal_is_under_way() -> None:
    cluster = Cluster()
    cluster.sessions.is_slow = True
    client = await cluster.connect(0, "a")
    client.session.close(Reason.REMOTE)
    await cluster.leave(client)
    cluster.sessions.is_slow = False
    assert not is_restored(await cluster.connect(0, "b", resumes="a"))
    cluster.sessions.answer()
    await settle()
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_failed_write_is_not_repeated_after_the_session_has_ended() -> None:
    cluster = Cluster()
    cluster.sessions.is_slow = True
    client = await cluster.connect(0, "a")
    client.session.close(Reason.REMOTE)
    await cluster.leave(client)
    cluster.sessions.answer(BackendError("away"))
    cluster.sessions.is_slow = False
    await settle()
    await cluster.tick()
    assert cluster.sessions.sids == []
    await cluster.elapse(2 * TTL_S)
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_session_whose_end_is_not_wanted_is_removed_silently() -> None:
    cluster = Cluster()
    cluster.nodes[0].application.prepare("connect", Decision(disconnect_wanted=False))
    client = await cluster.connect(0, "a")
    client.session.close(Reason.REMOTE)
    await cluster.leave(client)
    assert await cluster.ended() == []
    assert cluster.sessions.sids == []


@in_loop
async def test_the_last_state_of_a_session_is_stored_whatever_is_under_way() -> None:
    cluster = Cluster()
    cluster.sessions.is_slow = True
    client = await cluster.connect(0, "a")
    client.subscribe(room("1"))
    await settle()
    client.leave()
    await settle()
    assert cluster.sessions.calls == [("save new", "a")]
    cluster.sessions.answer()
    await settle()
    cluster.sessions.answer()
    await settle()
    assert cluster.sessions.calls == [("save new", "a"), ("save", "a")]
    kept = json.loads(cluster.sessions.kept.take(Sid("a")) or b"")
    assert list(kept["subscriptions"]) == [room("1")]


@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "failed"])
@in_loop
async def test_a_newer_write_waits_for_the_one_under_way_and_replaces_it_if_that_fails(
    is_lost: bool,
) -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    writer = cluster.writer(0)
    snapshot = writer._live.snapshot(client.session)
    newer = msgspec.structs.replace(snapshot, revision=snapshot.revision + 1)
    cluster.sessions.is_slow = True
    writer.save(Sid("a"), snapshot)
    writer.save(Sid("a"), newer)
    await settle()
    assert cluster.sessions.calls == [("save new", "a"), ("save", "a")], "the newer one waits"
    cluster.sessions.is_slow = False
    cluster.sessions.answer(BackendError("lost") if is_lost else None)
    await settle()
    await (writer.flush() or settle())
    assert cluster.sessions.calls[2:] == [("save new", "a")], "it is written once"
    assert read(cluster.sessions.kept.take(Sid("a"))) == newer


# Leaving while the session is looked for


@pytest.mark.parametrize("answered", ["before it leaves", "in the same turn", "later"])
@in_loop
async def test_a_client_that_leaves_during_the_lookup_can_resume_again(
    answered: str,
) -> None:
    cluster = Cluster()
    await cluster.leave(await cluster.connect(0, "a"))
    cluster.sessions.is_slow = True
    hasty = await cluster.connect(1, "b", resumes="a")
    if answered == "before it leaves":
        hasty.session.close(Reason.RESUMED)
        cluster.sessions.answer()
        await settle()
    elif answered == "in the same turn":
        cluster.sessions.answer()
        await asyncio.sleep(0)
    hasty.leave()
    cluster.sessions.is_slow = False
    cluster.sessions.answer()
    await settle()
    assert cluster.nodes[1].counters.clients_num == 0
    assert cluster.sessions.sids == ["a"]
    again = await cluster.connect(0, "c", resumes="a")
    assert is_restored(again)
    await cluster.leave(again)
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["c"]


@pytest.mark.parametrize("has_left", [True, False])
@in_loop
async def test_a_client_that_asks_again_during_the_lookup_resumes(has_left: bool) -> None:
    """A client gives up on a slow answer, and its next connection comes to the same node."""
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    client.subscribe(room("1"))
    await cluster.leave(client)
    cluster.sessions.is_slow = True
    hasty = await cluster.connect(1, "b", resumes="a")
    if has_left:
        await cluster.leave(hasty)
    again = await cluster.connect(1, "c", resumes="a")
    cluster.sessions.is_slow = False
    cluster.sessions.answer()
    await settle()
    assert again.heard[0]["restored_ids"] == [room("1")]
    assert is_restored(hasty) is not has_left
    if not has_left:
        assert hasty.outbound.ended_for is Reason.RESUMED
        await cluster.leave(hasty)
    await cluster.leave(again)
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["c"]
    assert cluster.sessions.sids == []


@pytest.mark.parametrize("node", [0, 1])
@in_loop
async def test_a_client_that_did_not_receive_its_new_sid_resumes_by_the_previous_one(
    node: int,
) -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    client.subscribe(room("1"))
    await cluster.leave(client)
    await cluster.leave(await cluster.connect(1, "b", resumes="a"))
    again = await cluster.connect(node, "c", resumes="a")
    assert again.heard[0]["restored_ids"] == [room("1")]
    await cluster.leave(again)
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["c"]
    assert cluster.sessions.sids == []


@in_loop
async def test_a_connection_whose_session_was_taken_over_ends_nothing() -> None:
    cluster = Cluster()
    half_open = await cluster.connect(0, "a")
    await cluster.leave(await cluster.connect(1, "b", resumes="a"))
    await cluster.leave(half_open)
    again = await cluster.connect(0, "c", resumes="a")
    assert is_restored(again)
    await cluster.leave(again)
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["c"]


# While the cache is away


@in_loop
async def test_a_client_that_gave_up_in_an_outage_resumes_by_the_previous_sid() -> None:
    cluster = Cluster()
    await cluster.leave(await cluster.connect(0, "a"))
    hasty = await cluster.connect(0, "b", resumes="a")
    cluster.sessions.is_away = True
    await cluster.leave(hasty)
    again = await cluster.connect(0, "c", resumes="a")
    assert is_restored(again)
    again.say("unsubscribe", room("nothing"))
    cluster.sessions.is_away = False
    await cluster.leave(again)
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["c"]
    assert cluster.sessions.sids == []
    assert not cluster.writer(0)._states


@in_loop
async def test_failed_writes_are_repeated() -> None:
    cluster = Cluster()
    cluster.sessions.is_away = True
    left, living, sent_away = [await cluster.connect(0, sid) for sid in "abc"]
    sent_away.session.close(Reason.REMOTE)
    await cluster.leave(left, sent_away)
    await cluster.elapse(3)
    # Nobody else can know of this one.
    assert await cluster.ended() == ["c"]
    cluster.sessions.is_away = False
    await cluster.tick()
    assert cluster.sessions.sids == ["a", "b"]
    assert is_restored(await cluster.connect(1, "d", resumes="a"))
    await cluster.leave(living)
    await cluster.elapse(2 * TTL_S)
    assert await cluster.ended() == ["b", "c"]


@in_loop
async def test_failed_writes_are_repeated_before_the_next_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node may be let down before its clock ticks: as it starts, what keeps sessions comes later."""
    monkeypatch.setattr(session_writer, "FIRST_PAUSE_S", 0.005)
    cluster = Cluster()
    cluster.sessions.is_away = True
    await cluster.connect(0, "a")
    async with asyncio.timeout(5):
        while len(cluster.sessions.calls) < 4:  # noqa: ASYNC110  (nothing says so)
            await asyncio.sleep(0.001)
        assert cluster.sessions.sids == []
        cluster.sessions.is_away = False
        while cluster.sessions.sids != ["a"]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("leaves", [False, True])
@in_loop
async def test_a_session_that_begins_right_after_an_outage_is_stored_at_once(leaves: bool) -> None:
    """An outage in which nobody came or left is known to the clock alone, and ends unnoticed."""
    cluster = Cluster()
    client = await cluster.connect(0, "a") if leaves else None
    cluster.sessions.is_away = True
    await cluster.tick()
    cluster.sessions.is_away = False
    if client is None:
        await cluster.connect(0, "a")
    else:
        cluster.sessions.lose_everything()
        await cluster.leave(client)
    assert cluster.sessions.sids == ["a"]


@in_loop
async def test_a_stored_session_that_ends_in_an_outage_ends_once() -> None:
    cluster = Cluster()
    sent_away, leaving = [await cluster.connect(0, sid) for sid in "ab"]
    cluster.sessions.is_away = True
    sent_away.session.close(Reason.REMOTE)
    await cluster.leave(sent_away, leaving)
    await cluster.elapse(2)
    cluster.sessions.is_away = False
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["a", "b"]


@in_loop
async def test_a_client_that_returns_to_its_node_in_an_outage_resumes() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    client.subscribe(room("1"))
    await settle()
    cluster.sessions.is_away = True
    await cluster.leave(client)
    again = await cluster.connect(0, "b", resumes="a")
    assert again.heard[0]["restored_ids"] == [room("1")]
    cluster.sessions.is_away = False
    await cluster.tick()
    assert cluster.sessions.sids == ["b"]
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == []


@in_loop
async def test_a_client_that_returns_to_another_node_in_an_outage_gets_a_new_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeover, "PATIENCE_S", 0)
    cluster = Cluster()
    await cluster.leave(await cluster.connect(0, "a"))
    cluster.sessions.is_away = True
    again = await cluster.connect(1, "b", resumes="a")
    assert again.heard == [{"type": "welcome", "sid": "b"}]


@in_loop
async def test_a_client_that_returns_to_another_node_in_a_short_outage_resumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeover, "PAUSE_S", 0)
    cluster = Cluster()
    await cluster.leave(await cluster.connect(0, "a"))
    cluster.sessions.is_away = True
    again = await cluster.connect(1, "b", resumes="a")
    assert again.heard == []
    cluster.sessions.is_away = False
    await settle()
    assert again.heard[0]["restored"] is True


@in_loop
async def test_an_outage_and_its_end_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Cluster()
    cluster.sessions.is_away = True
    for number in range(5):
        await cluster.leave(await cluster.connect(0, f"a{number}"))
    cluster.sessions.is_away = False
    await cluster.tick()
    told = [each.message for each in caplog.records if "stored" in each.message]
    assert told == ["Sessions can't be stored, will retry: away", "Sessions are stored again"]


@in_loop
async def test_an_outage_costs_no_attempt_for_each_client_that_leaves() -> None:
    cluster = Cluster()
    clients = [await cluster.connect(0, f"a{number}") for number in range(20)]
    cluster.sessions.is_away = True
    await cluster.leave(clients[0])
    cluster.sessions.calls.clear()
    for each in clients[1:]:
        await cluster.leave(each)
    assert cluster.sessions.calls == []


@in_loop
async def test_so_many_wait_and_the_oldest_beyond_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_writer, "PENDING_LIMIT", 3)
    cluster = Cluster()
    kept = await cluster.connect(0, "kept")
    cluster.sessions.is_away = True
    clients = [await cluster.connect(0, f"a{number}") for number in range(6)]
    await cluster.leave(kept, *clients[:5])
    # What was kept before is there still, and its end will be found out.
    assert await cluster.ended() == ["a0", "a1"]
    cluster.sessions.is_away = False
    await cluster.tick()
    assert cluster.sessions.sids == ["a2", "a3", "a4", "a5", "kept"]
    await cluster.elapse(2 * TTL_S)
    assert await cluster.ended() == ["a0", "a1", "a2", "a3", "a4", "kept"]


@in_loop
async def test_lost_sessions_are_stored_again() -> None:
    cluster = Cluster()
    living, leaving = [await cluster.connect(0, sid) for sid in "ab"]
    cluster.sessions.lose_everything()
    for heart in cluster.nodes:
        heart.node.restore()
    await settle()
    assert cluster.sessions.sids == ["a", "b"]
    await cluster.leave(leaving)
    assert is_restored(await cluster.connect(1, "c", resumes="b"))
    await cluster.leave(living)
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_session_that_ends_before_the_loss_is_noticed_ends_once() -> None:
    cluster = Cluster()
    leaving, sent_away = [await cluster.connect(0, sid) for sid in "ab"]
    cluster.sessions.is_away = True
    sent_away.session.close(Reason.REMOTE)
    await cluster.leave(leaving, sent_away)
    cluster.sessions.lose_everything()
    cluster.sessions.is_away = False
    await cluster.tick()
    assert cluster.sessions.sids == ["a"]
    for heart in cluster.nodes:
        heart.node.restore()
    await cluster.elapse(3 * TTL_S)
    assert await cluster.ended() == ["a", "b"]


@in_loop
async def test_an_answer_that_was_lost_costs_no_end() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    cluster.sessions.is_slow = True
    client.session.close(Reason.REMOTE)
    await cluster.leave(client)
    cluster.sessions.answer(BackendError("away"))
    cluster.sessions.is_slow = False
    await settle()
    assert await cluster.ended() == []
    await cluster.tick()
    assert await cluster.ended() == ["a"]


# Ends of nodes, and what others have written


@in_loop
async def test_a_node_that_ends_leaves_its_sessions_to_the_others() -> None:
    cluster = Cluster()
    clients = [await cluster.connect(0, sid) for sid in "ab"]
    for each in clients:
        each.leave()
    await cluster.nodes[0].node.settle(1)
    assert await cluster.ended() == []
    assert is_restored(await cluster.connect(1, "c", resumes="a"))
    await cluster.elapse(2 * TTL_S, 1)
    assert await cluster.ended() == ["b"]


@in_loop
async def test_a_node_that_ends_in_an_outage_reports_the_sessions_that_were_never_stored() -> None:
    cluster = Cluster()
    known = await cluster.connect(0, "known")
    cluster.sessions.is_away = True
    client = await cluster.connect(0, "a")
    await cluster.leave(known, client)
    await cluster.nodes[0].node.settle(1)
    assert await cluster.ended() == ["a"]
    cluster.sessions.is_away = False
    await cluster.elapse(2 * TTL_S, 1)
    assert await cluster.ended() == ["a", "known"]


@in_loop
async def test_an_unreadable_session_is_ignored_and_others_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Cluster()
    for sid, kept in (("a", b"{}"), ("b", b"\xff")):
        cluster.sessions.kept.save(Sid(sid), kept)
    await cluster.leave(await cluster.connect(0, "c"))
    assert (await cluster.connect(1, "d", resumes="a")).heard == [{"type": "welcome", "sid": "d"}]
    await cluster.elapse(2 * TTL_S)
    assert await cluster.ended() == ["c"]
    assert caplog.text.count("can't be read") == 2


# Performed on what was resumed


@pytest.mark.parametrize("is_here", [True, False])
@in_loop
async def test_the_application_is_notified_of_resumed_sessions_if_it_wants_that(
    is_here: bool,
) -> None:
    """On every subscription, in order, before anything that the client says itself."""
    cluster = Cluster(restored_action="restored")
    client = await cluster.connect(0, "a")
    for name in ("1", "2"):
        client.subscribe(room(name))
    await settle()
    application = cluster.nodes[0 if is_here else 1].application
    later = [application.later("perform") for _ in range(2)]
    cluster.sessions.is_slow = not is_here
    again = cluster.begin(0 if is_here else 1, "b", resumes="a")
    again.say("message", room("1"), data="mine")
    cluster.sessions.is_slow = False
    cluster.sessions.answer()
    await settle()
    action = '{"action":"restored"}'
    performed = [call[1:] for call in application.calls if call[0] == "perform"]
    assert performed == [(room("1"), action)]
    assert is_restored(again)
    for each in later:
        each.set_result(Decision())
        await settle()
    performed = [call[1:] for call in application.calls if call[0] == "perform"]
    assert performed == [(room("1"), action), (room("2"), action), (room("1"), "mine")]


@in_loop
async def test_the_application_is_not_notified_of_resumed_sessions_by_default() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    client.subscribe(room("1"))
    await settle()
    await cluster.connect(1, "b", resumes="a")
    assert cluster.nodes[1].application.calls == []


@in_loop
async def test_a_new_session_performs_nothing_by_itself() -> None:
    cluster = Cluster(restored_action="restored")
    client = await cluster.connect(0, "a", resumes="nobody")
    client.subscribe(room("1"))
    assert [call[0] for call in cluster.nodes[0].application.calls] == ["connect", "subscribe"]


@in_loop
async def test_a_connection_whose_session_was_put_back_does_not_end_it() -> None:
    """The client that came back gave up at once; its old connection is found dead after that."""
    cluster = Cluster()
    old = await cluster.connect(0, "s1")
    cluster.sessions.is_slow = True
    new = cluster.begin(0, "s2", "s1")
    await settle()
    await cluster.leave(new)
    cluster.sessions.answer()  # it has been found, for nobody: it is given back
    await settle()
    await cluster.leave(old)
    cluster.sessions.is_slow = False
    cluster.sessions.answer()
    await settle()
    assert cluster.sessions.sids == ["s1"]
    await cluster.elapse(TTL_S + 2)
    assert await cluster.ended() == ["s1"]


# Whatever happens, in whatever order: one end for each that was let in


class World:
    """Clients by the session that they were last; each belongs to a chain that began with a Connect."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.here: list[Client] = []
        self.sids = 0
        self.connects = 0

    async def connect(self, node: int, resumes: str | None) -> None:
        self.sids += 1
        client = self.cluster.begin(node % 2, f"s{self.sids}", resumes)
        self.here.append(client)
        await settle(3)

    async def do(self, action: str, number: int) -> None:
        heart = self.cluster.nodes[number % 2]
        client = self.here[number % len(self.here)] if self.here else None
        match action:
            case "connect":
                await self.connect(number, None)
            case "come back" if self.sids:
                await self.connect(number, f"s{1 + number % self.sids}")
            case "leave" if client is not None:
                self.here.remove(client)
                client.leave()
            case "leave unsettled" if client is not None:
                self.here.remove(client)
                client.leave()
                return
            case "send away" if client is not None:
                client.session.close(Reason.REMOTE)
            case "subscribe" if client is not None and client.session.connected:
                if room("1") not in client.session.subscriptions:
                    client.say("subscribe", room("1"))
            case "slow":
                self.cluster.sessions.is_slow = True
            case "answer":
                self.cluster.sessions.is_slow = False
                self.cluster.sessions.answer()
            case "tick":
                heart.node.touch_sessions()
                heart.node.tick()
        await settle(3)

    async def finish(self) -> None:
        self.cluster.sessions.is_slow = False
        self.cluster.sessions.answer()
        await settle()
        for client in self.here:
            client.leave()
        await settle()
        await self.cluster.elapse(2 * TTL_S)


@given(
    actions=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    *["connect", "come back", "come back", "leave", "leave unsettled"],
                    *["send away", "subscribe", "slow", "answer", "tick"],
                ]
            ),
            st.integers(0, 7),
        ),
        max_size=40,
    )
)
@settings(max_examples=300, deadline=None)
def test_for_every_connect_there_is_one_disconnect(actions: list[tuple[str, int]]) -> None:
    """Whoever comes back, and as often, to whichever node, unless something was lost."""

    async def play() -> None:
        world = World()
        for action, number in actions:
            await world.do(action, number)
        await world.finish()
        connects = sum(
            call[0] == "connect"
            for heart in world.cluster.nodes
            for call in heart.application.calls
        )
        ended = await world.cluster.ended()
        assert len(ended) == connects
        assert len(set(ended)) == connects
        assert world.cluster.sessions.sids == []
        for heart in world.cluster.nodes:
            assert heart.hub.streams_num == heart.hub.sessions.identifiers_num == 0
            assert heart.counters.clients_num == 0

    asyncio.run(play())
