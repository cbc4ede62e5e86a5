"""Sessions that are not resumed: after a remote disconnect, or with an expired token."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catenary.adapters.memory.sessions import LocalSessions
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.messages.publications import RemoteDisconnect
from catenary.messages.replies import Welcome
from catenary.node import hub, takeover
from catenary.node.resumption import ExpiryRules
from catenary.node.session import Traits
from tests.parts.heart import NEVER, Client, Heart, in_loop, room, settle
from tests.parts.session_cluster import TTL_S, Cluster, is_restored

NOW = 1_700_000_000.0


class World:
    """One node, its clocks, and clients with tokens."""

    def __init__(self, *, may_resume_expired: bool = False) -> None:
        self.now = 0.0
        self.sessions = LocalSessions(ttl_s=TTL_S, clock=lambda: self.now)
        rules = ExpiryRules(
            now=lambda: NOW + self.now,
            shows_token=self._shows_token,
            may_resume_expired=may_resume_expired,
        )
        self.heart = Heart(sessions=self.sessions, expiry=rules)
        self.has_token = False

    def _shows_token(self, environment: Environment) -> bool:
        return self.has_token

    def connect(self, sid: str, resumes: str | None = None) -> Client:
        wanted = None if resumes is None else Sid(resumes)
        return self.heart.connect(sid, traits=Traits(NEVER, is_resumable=True, resumes=wanted))

    def enter(self, sid: str, identifiers: str, expires_in_s: float | None = None) -> Client:
        """A client that is let in as somebody, and subscribed to a private stream."""
        decision = Decision(
            identifiers=identifiers,
            replies=(Welcome(Sid(sid)),),
            expires_at=None if expires_in_s is None else NOW + self.now + expires_in_s,
        )
        self.heart.application.prepare("connect", decision)
        client = self.connect(sid)
        client.subscribe(room("private"))
        return client

    def disconnect(self, identifiers: str, *, reconnect: bool = False) -> None:
        self.heart.node.publications.publish(
            b'{"command":"disconnect","payload":{"identifier":"%b","reconnect":%b}}'
            % (identifiers.encode(), b"true" if reconnect else b"false")
        )

    async def ended(self) -> list[str]:
        await self.heart.disconnector.drain(5)
        return [each.sid for each, _ in self.heart.application.ended]


# Remote disconnects, on a node that is alone


@pytest.mark.parametrize("reconnect", [False, True])
@in_loop
async def test_a_session_that_is_away_ends_with_a_remote_disconnect(reconnect: bool) -> None:
    """Also where the client may reconnect: then the application lets it in, as it does when it is here."""
    world = World()
    world.enter("a", "eve").leave()
    world.disconnect("eve", reconnect=reconnect)
    again = world.connect("b", resumes="a")
    assert not is_restored(again)
    assert world.heart.application.calls[-1] == ("connect", "b")
    assert again.session.subscriptions == {}
    assert await world.ended() == ["a"]
    world.now += 2 * TTL_S
    world.heart.node.tick()
    assert await world.ended() == ["a"]


@in_loop
async def test_one_that_does_not_come_back_ends_when_its_time_is_over() -> None:
    world = World()
    world.enter("a", "eve").leave()
    world.disconnect("eve")
    world.now += TTL_S
    world.heart.node.tick()
    assert await world.ended() == ["a"]


@in_loop
async def test_sessions_of_others_are_not_touched() -> None:
    world = World()
    for sid, identifiers in (("a", "eve"), ("b", "eve2"), ("c", "Eve"), ("d", "")):
        world.enter(sid, identifiers).leave()
    world.disconnect("eve")
    restored = [is_restored(world.connect(f"{sid}2", resumes=sid)) for sid in "abcd"]
    assert restored == [False, True, True, True]


@in_loop
async def test_all_sessions_of_the_identifiers_end() -> None:
    world = World()
    for sid in "abc":
        world.enter(sid, "eve").leave()
    world.disconnect("eve")
    assert not any(is_restored(world.connect(f"{sid}2", resumes=sid)) for sid in "abc")
    assert await world.ended() == ["a", "b", "c"]


@pytest.mark.parametrize("leaves", [True, False])
@in_loop
async def test_a_session_ends_that_is_not_closed_yet(
    leaves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are many, some are closed in each turn of the loop; one may leave, or be taken over, before."""
    monkeypatch.setattr(hub, "TURN", 1)
    world = World()
    clients = [world.enter(f"a{number}", "eve") for number in range(5)]
    world.disconnect("eve")
    open_yet = next(each for each in clients if each.outbound.goodbye is None)
    if leaves:
        open_yet.leave()
    assert not is_restored(world.connect("b", resumes=open_yet.session.sid))
    await settle()
    assert all(each.session.closed for each in clients)
    assert not world.heart.hub.sessions._closing
    world.enter("c", "eve").leave()
    assert is_restored(world.connect("d", resumes="c"))


@in_loop
async def test_a_client_that_was_let_in_again_can_resume() -> None:
    world = World()
    world.enter("a", "eve").leave()
    world.disconnect("eve", reconnect=True)
    world.enter("b", "eve").leave()
    assert is_restored(world.connect("c", resumes="b"))
    world.disconnect("eve", reconnect=True)
    world.enter("d", "eve").leave()
    assert is_restored(world.connect("e", resumes="d"))


@in_loop
async def test_a_resumed_session_ends_like_any_other() -> None:
    world = World()
    world.enter("a", "eve").leave()
    again = world.connect("b", resumes="a")
    world.disconnect("eve")
    assert again.outbound.goodbye is not None
    again.leave()
    for sid in "ab":
        assert not is_restored(world.connect(f"{sid}2", resumes=sid))


@pytest.mark.parametrize("known_name", ["a", "b"])
@in_loop
async def test_both_names_of_a_session_end(known_name: str) -> None:
    """Its client has not said anything since it was resumed, so the session is found by its old name, too."""
    world = World()
    world.enter("a", "eve").leave()
    world.connect("b", resumes="a").leave()
    world.disconnect("eve")
    assert not is_restored(world.connect("c", resumes=known_name))


@in_loop
async def test_a_client_that_the_application_disconnects_gets_a_new_session() -> None:
    world = World()
    client = world.enter("a", "eve")
    world.heart.application.prepare("perform", Decision(disconnect=True))
    client.say("message", room("private"), data="{}")
    client.leave()
    assert not is_restored(world.connect("b", resumes="a"))
    assert await world.ended() == ["a"]


# Remote disconnects, on several nodes


EVE = '{"sid": "a"}'
"""What the application of the tests calls the client whose session is ``a``."""


async def kept(cluster: Cluster, node: int = 0) -> None:
    """The session ``a`` of a client that has left."""
    client = await cluster.connect(node, "a")
    client.subscribe(room("private"))
    await settle()
    await cluster.leave(client)


@pytest.mark.parametrize("node", [0, 1])
@in_loop
async def test_no_node_resumes_a_session_after_a_remote_disconnect(node: int) -> None:
    cluster = Cluster()
    await kept(cluster)
    cluster.disconnect(EVE)
    again = await cluster.connect(node, "b", resumes="a")
    assert not is_restored(again)
    assert ("connect", "b") in cluster.nodes[node].application.calls
    await cluster.elapse(2 * TTL_S)
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_session_whose_node_has_died_ends_as_well() -> None:
    cluster = Cluster()
    await cluster.connect(0, "a")
    cluster.disconnect(EVE, 1)
    assert not is_restored(await cluster.connect(1, "b", resumes="a"))
    await cluster.elapse(2 * TTL_S, 1)
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_session_ends_that_a_node_saves_which_was_away() -> None:
    """The node did not receive the command, and saves the session of a client that left afterwards."""
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    client.subscribe(room("private"))
    cluster.disconnect(EVE, 1)
    await cluster.leave(client)
    assert cluster.sessions.sids == ["a"]
    assert not is_restored(await cluster.connect(1, "b", resumes="a"))
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_session_ends_that_is_saved_a_moment_later() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    cluster.sessions.is_away = True
    await cluster.leave(client)
    cluster.disconnect(EVE)
    cluster.sessions.is_away = False
    await cluster.tick()
    assert cluster.sessions.sids == ["a"]
    assert not is_restored(await cluster.connect(1, "b", resumes="a"))
    assert await cluster.ended() == ["a"]


@pytest.mark.parametrize("node", [0, 1])
@in_loop
async def test_a_session_ends_that_is_being_taken_over(node: int) -> None:
    cluster = Cluster()
    await kept(cluster)
    cluster.sessions.is_slow = True
    again = await cluster.connect(node, "b", resumes="a")
    cluster.disconnect(EVE)
    assert again.heard == []
    cluster.sessions.is_slow = False
    cluster.sessions.answer()
    await settle()
    assert not is_restored(again)
    await cluster.leave(again)
    await cluster.elapse(2 * TTL_S)
    assert await cluster.ended() == ["a", "b"]


@in_loop
async def test_a_session_ends_that_is_taken_from_a_connection_that_looks_open() -> None:
    """Its node is asked for it while it has not received the command."""
    cluster = Cluster()
    half_open = await cluster.connect(0, "a")
    cluster.disconnect(EVE, 1)
    again = await cluster.connect(0, "b", resumes="a")
    assert again.heard == []
    cluster.receive(0)
    async with asyncio.timeout(5):
        while not again.heard:  # noqa: ASYNC110  (nothing says so)
            await asyncio.sleep(0.01)
    assert not is_restored(again)
    await cluster.leave(half_open, again)
    await cluster.elapse(2 * TTL_S)
    assert await cluster.ended() == ["a", "b"]


@pytest.mark.parametrize("leaves", [False, True])
@in_loop
async def test_others_wait_until_a_node_has_received_a_remote_disconnect(leaves: bool) -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    client.subscribe(room("private"))
    await settle()
    if leaves:
        await cluster.leave(client)
    cluster.disconnect("somebody", 1)
    again = await cluster.connect(0, "b", resumes="a")
    assert again.heard == []
    cluster.receive(0)
    async with asyncio.timeout(5):
        while not again.heard:  # noqa: ASYNC110  (nothing says so)
            await asyncio.sleep(0.01)
    assert again.heard[0]["restored_ids"] == [room("private")]


@in_loop
async def test_a_node_that_does_not_catch_up_resumes_no_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeover, "PATIENCE_S", 0)
    cluster = Cluster()
    half_open = await cluster.connect(0, "a")
    await cluster.leave(await cluster.connect(1, "other"))
    cluster.disconnect("somebody", 1)
    assert not is_restored(await cluster.connect(0, "b", resumes="a"))
    assert not is_restored(await cluster.connect(0, "c", resumes="other"))
    assert half_open.outbound.goodbye is not None
    cluster.receive()
    await cluster.leave(half_open)
    assert is_restored(await cluster.connect(0, "d", resumes="other"))
    await cluster.elapse(2 * TTL_S)
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_session_that_ends_is_removed_by_a_node_that_has_not_caught_up() -> None:
    cluster = Cluster()
    client = await cluster.connect(0, "a")
    cluster.disconnect("somebody", 1)
    cluster.nodes[0].hub.deliver(RemoteDisconnect(EVE, reconnect=False))
    await cluster.leave(client)
    assert cluster.sessions.sids == []
    assert await cluster.ended() == ["a"]


@in_loop
async def test_a_client_that_was_let_in_again_can_resume_on_every_node() -> None:
    cluster = Cluster()
    await kept(cluster)
    cluster.disconnect(EVE, reconnect=True)
    decision = Decision(identifiers=EVE, replies=(Welcome(Sid("b")),))
    cluster.nodes[0].application.prepare("connect", decision)
    await cluster.leave(await cluster.connect(0, "b"))
    assert is_restored(await cluster.connect(1, "c", resumes="b"))


# Every order of what may happen


class Trial:
    """Two nodes; clients of two users come, leave and return while they are disconnected remotely.

    A session must not be resumed once its user was disconnected, whatever node knew of that when. A node that
    has not received the command may go on with a session that it has itself, until it receives it.
    """

    USERS = ("eve", "bob")

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.numbers = 0
        self.clients: list[tuple[Client, str, int]] = []
        self.born: dict[str, tuple[str, int]] = {}
        self.disconnected = dict.fromkeys(self.USERS, 0)
        self.moment = 0

    async def do(self, action: str, number: int) -> None:
        self.moment += 1
        cluster, node = self.cluster, number % 2
        match action:
            case "enter":
                user = self.USERS[number // 2 % 2]
                sid = self._sid()
                decision = Decision(identifiers=user, replies=(Welcome(Sid(sid)),))
                cluster.nodes[node].application.prepare("connect", decision)
                self.born[sid] = (user, self.moment)
                self.clients.append((cluster.begin(node, sid), sid, node))
            case "return" if self.born:
                old = list(self.born)[number // 2 % len(self.born)]
                user, since = self.born[old]
                sid = self._sid()
                decision = Decision(identifiers=user, replies=(Welcome(Sid(sid)),))
                cluster.nodes[node].application.prepared["connect"].append(decision)
                client = cluster.begin(node, sid, old)
                await settle()
                if is_restored(client):
                    cluster.nodes[node].application.prepared["connect"].clear()
                    assert self.disconnected[user] < since or cluster.is_behind(node)
                    self.born[sid] = (user, since)
                elif client.heard:
                    self.born[sid] = (user, self.moment)
                else:
                    client.leave()
                    cluster.nodes[node].application.prepared["connect"].clear()
                    return
                self.clients.append((client, sid, node))
            case "leave" if self.clients:
                self.clients.pop(number % len(self.clients))[0].leave()
            case "disconnect":
                user = self.USERS[number // 2 % 2]
                self.disconnected[user] = self.moment
                cluster.disconnect(user, node)
            case "receive":
                cluster.receive(node)
            case "away":
                cluster.sessions.is_away = not cluster.sessions.is_away
            case "tick":
                await cluster.tick(node)
        await settle(number % 3)

    async def finish(self) -> None:
        self.cluster.sessions.is_away = False
        self.cluster.receive()
        await self.cluster.tick()
        for client, sid, _ in self.clients:
            user, since = self.born[sid]
            assert client.session.closed or since > self.disconnected[user]

    def _sid(self) -> str:
        self.numbers += 1
        return f"s{self.numbers}"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["enter", "return", "return", "leave", "disconnect", "receive", "away", "tick"]
            ),
            st.integers(0, 11),
        ),
        max_size=30,
    )
)
@settings(max_examples=200, deadline=None)
def test_no_session_outlives_a_remote_disconnect(actions: list[tuple[str, int]]) -> None:
    async def play() -> None:
        trial = Trial()
        for action, number in actions:
            await trial.do(action, number)
        await trial.finish()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(takeover, "PATIENCE_S", 0)
        asyncio.run(play())


# Tokens


@in_loop
async def test_a_session_is_not_resumed_when_its_token_has_expired() -> None:
    world = World()
    world.enter("a", "eve", expires_in_s=5).leave()
    world.now += 5
    again = world.connect("b", resumes="a")
    assert again.heard == [{"type": "disconnect", "reason": "token_expired", "reconnect": False}]
    assert again.outbound.goodbye is not None
    assert ("connect", "b") not in world.heart.application.calls
    again.leave()
    assert await world.ended() == ["a"]
    assert world.heart.counters.failed_auths_total == 1
    assert world.heart.counters.clients_num == 0


@in_loop
async def test_it_is_resumed_until_then_and_the_expiry_stays_the_same() -> None:
    world = World()
    world.enter("a", "eve", expires_in_s=5).leave()
    world.now += 4
    again = world.connect("b", resumes="a")
    assert is_restored(again)
    again.leave()
    world.now += 2
    assert not is_restored(world.connect("c", resumes="b"))


@in_loop
async def test_a_client_with_a_new_token_is_asked_for_it() -> None:
    world = World()
    world.enter("a", "eve", expires_in_s=5).leave()
    world.now += 6
    world.has_token = True
    again = world.connect("b", resumes="a")
    assert again.heard == [{"type": "welcome", "sid": "b"}]
    assert await world.ended() == ["a"]


@in_loop
async def test_a_token_without_an_expiry_lasts() -> None:
    world = World()
    world.enter("a", "eve").leave()
    world.now += TTL_S - 1
    assert is_restored(world.connect("b", resumes="a"))


@in_loop
async def test_an_option_lets_sessions_outlive_their_token() -> None:
    world = World(may_resume_expired=True)
    world.enter("a", "eve", expires_in_s=5).leave()
    world.now += 6
    assert is_restored(world.connect("b", resumes="a"))


@in_loop
async def test_a_connection_outlives_its_token() -> None:
    """As with anycable-go: a token is checked when a client connects."""
    world = World()
    client = world.enter("a", "eve", expires_in_s=5)
    world.now += 6
    world.heart.node.tick()
    world.heart.publish("private", "hello")
    assert client.messages == ["hello"]


@in_loop
async def test_an_expired_session_that_looks_open_is_not_resumed_either() -> None:
    world = World()
    half_open = world.enter("a", "eve", expires_in_s=5)
    world.now += 6
    assert not is_restored(world.connect("b", resumes="a"))
    half_open.leave()
    assert await world.ended() == ["a"]
