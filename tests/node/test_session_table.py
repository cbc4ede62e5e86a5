"""Connected sessions by sid and identifiers, and remote disconnects, which close some in each turn of the loop."""

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from catenary.messages.environment import Environment, Ingress
from catenary.messages.names import Sid
from catenary.messages.publications import RemoteDisconnect
from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.encoder import Encoder
from catenary.node.session import Session
from catenary.node.session_table import CLOSE_COST, SessionTable
from catenary.node.turns import Turns
from catenary.protocols.actioncable_json import ActionCableJson
from catenary.wire.framing import WEBSOCKET_TEXT
from tests.parts.heart import MemoryOutbound


class World:
    """A table whose turns are taken by hand."""

    def __init__(self, budget: int = 1000) -> None:
        self.counters = Counters()
        self.due: deque[Callable[[], object]] = deque()
        self.table = SessionTable(self.counters, Turns(budget, self.due.append))
        self._encoder = Encoder(ActionCableJson(), WEBSOCKET_TEXT)
        self._numbers = count()

    def session(self, identifiers: str, sid: str = "") -> tuple[Session, MemoryOutbound]:
        environment = Environment(Sid(sid or f"s{next(self._numbers)}"), "", {}, identifiers)
        outbound = MemoryOutbound()
        session = Session(environment, self._encoder, outbound)
        self.table.add(session)
        return session, outbound

    def turn(self) -> None:
        """One turn of the event loop."""
        for _ in range(len(self.due)):
            self.due.popleft()()


@pytest.mark.parametrize("reconnect", [True, False])
@pytest.mark.parametrize("sessions", [1, 2, 5])
def test_a_remote_disconnect_closes_every_session_of_its_identifiers(
    sessions: int, reconnect: bool
) -> None:
    world = World()
    outbounds = [world.session('{"user":1}')[1] for _ in range(sessions)]
    _, other = world.session('{"user":2}')
    world.table.disconnect(RemoteDisconnect('{"user":1}', reconnect))
    world.table.disconnect(RemoteDisconnect('{"user":3}', reconnect))
    expected: dict[str, Any] = {"type": "disconnect", "reason": "remote", "reconnect": reconnect}
    for outbound in outbounds:
        assert outbound.heard == [expected]
        assert outbound.ended_for is Reason.REMOTE
    assert other.goodbye is None
    assert world.counters.remote_commands_total == 2


def test_removed_sessions_are_not_closed_by_a_disconnect_of_their_identifiers() -> None:
    world = World()
    (first, lost), (second, open_), (third, also_lost) = (world.session("u") for _ in range(3))
    world.table.remove(first)
    world.table.remove(third)
    world.table.disconnect(RemoteDisconnect("u", reconnect=False))
    assert lost.goodbye is also_lost.goodbye is None
    assert open_.goodbye is not None
    world.table.remove(second)
    assert world.table.identifiers_num == world.counters.clients_num == 0


def test_a_later_session_with_the_same_sid_replaces_the_first() -> None:
    world = World()
    (first, _), (second, _) = world.session("u", "twin"), world.session("u", "twin")
    world.table.remove(first)
    assert world.table.find(Sid("twin")) is second
    world.table.remove(second)
    assert world.table.find(Sid("twin")) is None
    assert world.counters.clients_num == 0


def test_sessions_are_closing_until_the_last_one_is_closed() -> None:
    world = World(budget=2 * CLOSE_COST)
    sessions = [world.session("u") for _ in range(5)]
    other, _ = world.session("v")
    world.table.disconnect(RemoteDisconnect("u", reconnect=False))
    closed = [sum(outbound.goodbye is not None for _, outbound in sessions)]
    while world.table.is_closing(sessions[-1][0]):
        assert not world.table.is_closing(other)
        world.turn()
        closed.append(sum(outbound.goodbye is not None for _, outbound in sessions))
    assert closed == [2, 4, 5]


def test_a_session_that_is_identified_later_has_only_its_new_identifiers() -> None:
    world = World()
    session, outbound = world.session('{"sid":1}')
    _, other = world.session('{"user":1}')
    world.table.identify(session, '{"user":1}')
    world.table.disconnect(RemoteDisconnect('{"sid":1}', reconnect=False))
    assert outbound.ended_for is None
    world.table.disconnect(RemoteDisconnect('{"user":1}', reconnect=False))
    assert outbound.ended_for is other.ended_for is Reason.REMOTE
    world.table.remove(session)
    assert (world.table.identifiers_num, world.counters.clients_num) == (1, 1)


def test_sessions_are_counted_by_their_realm() -> None:
    world = World()
    world.session("")
    session, _ = world.session("")
    world.table.remove(session)
    session.environment.ingress = Ingress(realm="own")
    world.table.add(session)
    assert (world.table.number_in("own"), world.table.number_in("other")) == (1, 0)
    world.table.remove(session)
    assert world.table.number_in("own") == 0
