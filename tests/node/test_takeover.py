"""The table of takeovers is complete, and its actions fit to what a node knows."""

import pytest

from catenary.node.session_writes import CacheState
from catenary.node.takeover import TAKEOVERS, CacheAnswer, TakeoverAction

OWN = {TakeoverAction.RESUME_OWN, TakeoverAction.RESUME_OWN_UNCONFIRMED, TakeoverAction.END_OWN}


def test_every_answer_has_an_action() -> None:
    assert set(TAKEOVERS) == {None, *CacheState}
    assert all(set(actions) == set(CacheAnswer) for actions in TAKEOVERS.values())


@pytest.mark.parametrize("answer", CacheAnswer)
def test_a_node_resumes_its_own_session_only_if_it_knows_one(answer: CacheAnswer) -> None:
    assert TAKEOVERS[None][answer] not in OWN
    assert all(TAKEOVERS[state][answer] is not TakeoverAction.RESUME_FOUND for state in CacheState)


@pytest.mark.parametrize("state", CacheState)
def test_a_session_that_may_have_been_disconnected_ends(state: CacheState) -> None:
    assert TAKEOVERS[state][CacheAnswer.BEHIND] is TakeoverAction.END_OWN


def test_a_missing_session_was_taken_by_another_node_only_if_it_was_certainly_stored() -> None:
    taken_elsewhere = {
        each for each in CacheState if TAKEOVERS[each][CacheAnswer.MISSING] not in OWN
    }
    assert taken_elsewhere == {CacheState.KEPT}
