"""Aliases find a resumed session until its client sends something."""

from collections.abc import Callable

import pytest

from catenary.messages.names import Sid
from catenary.node.session import Session
from catenary.node.session_aliases import SessionAliases
from tests.parts.heart import Heart, in_loop

OLD, NEW = Sid("old"), Sid("new")


def resumed() -> tuple[SessionAliases, Session]:
    aliases, session = SessionAliases(), Heart().connect("new").session
    aliases.add(session, OLD)
    return aliases, session


@in_loop
async def test_a_client_that_has_said_nothing_is_found_by_its_previous_sid_once() -> None:
    aliases, _ = resumed()
    assert aliases.take(OLD) == NEW
    assert aliases.take(OLD) is None
    assert aliases.take(NEW) is None


@in_loop
async def test_a_client_that_has_sent_something_has_no_alias() -> None:
    aliases, session = resumed()
    session.previous_sid = None
    assert aliases.take(OLD) is None


@pytest.mark.parametrize("before", [lambda _: None, SessionAliases.prune], ids=["", "pruned"])
@in_loop
async def test_a_session_that_leaves_keeps_the_alias_that_its_client_may_still_use(
    before: Callable[[SessionAliases], None],
) -> None:
    aliases, session = resumed()
    before(aliases)
    assert aliases.release(session) == OLD
    assert aliases.release(session) is None


@in_loop
async def test_aliases_of_clients_that_have_sent_something_are_pruned() -> None:
    aliases, session = resumed()
    session.previous_sid = None
    aliases.prune()
    assert aliases._unconfirmed == {}


@in_loop
async def test_an_alias_belongs_to_the_session_that_was_resumed_last() -> None:
    aliases, first = resumed()
    second = Heart().connect("newer").session
    aliases.add(second, OLD)
    assert aliases.release(first) is None
    assert aliases.take(OLD) == Sid("newer")
