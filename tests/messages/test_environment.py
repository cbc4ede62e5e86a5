"""The client as the application sees it, and changes of its state."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Sid

CHAT, NEWS = Identifier("chat"), Identifier("news")


def environment() -> Environment:
    return Environment(Sid("s"), "http://example.com/cable", {})


MERGES = pytest.mark.parametrize(
    ("changes", "state"),
    [
        pytest.param([], {}, id="nothing"),
        pytest.param([{}], {}, id="no change"),
        pytest.param([{"a": "1"}], {"a": "1"}, id="added"),
        pytest.param([{"a": "1"}, {"b": "2"}], {"a": "1", "b": "2"}, id="added to another"),
        pytest.param([{"a": "1"}, {"a": "2"}], {"a": "2"}, id="replaced"),
        pytest.param([{"a": "1", "b": "2"}, {"a": ""}], {"b": "2"}, id="removed"),
        pytest.param([{"a": ""}], {}, id="removed, though it was not there"),
        pytest.param([{"a": "1"}, {"a": ""}, {"a": "3"}], {"a": "3"}, id="removed and added"),
        pytest.param([{"a": " ", "b": "0"}], {"a": " ", "b": "0"}, id="values that are not empty"),
    ],
)


@MERGES
def test_merges_cstate(changes: list[dict[str, str]], state: dict[str, str]) -> None:
    client = environment()
    for each in changes:
        client.merge_cstate(each)

    assert (client.cstate or {}) == state
    assert client.istate is None


@MERGES
def test_merges_istate_of_one_subscription(
    changes: list[dict[str, str]], state: dict[str, str]
) -> None:
    client = environment()
    client.merge_istate(NEWS, {"n": "1"})
    for each in changes:
        client.merge_istate(CHAT, each)

    assert client.istate_of(CHAT) == state
    assert client.istate_of(NEWS) == {"n": "1"}
    assert client.cstate is None


def test_has_no_state_at_first() -> None:
    client = environment()

    assert (client.identifiers, client.cstate, client.istate) == ("", None, None)
    assert client.istate_of(CHAT) == {}


def test_forgets_the_state_of_one_subscription() -> None:
    client = environment()
    client.merge_istate(CHAT, {"a": "1"})
    client.merge_istate(NEWS, {"n": "1"})

    client.forget_istate(CHAT)
    assert client.istate == {NEWS: {"n": "1"}}
    client.forget_istate(CHAT)
    client.forget_istate(NEWS)
    assert client.istate is None
    client.forget_istate(NEWS)
    assert client.istate is None


def test_the_state_of_a_call_in_progress_does_not_change() -> None:
    client = environment()
    client.merge_cstate({"a": "1"})
    client.merge_istate(CHAT, {"b": "1"})
    cstate, istate = client.cstate, client.istate_of(CHAT)
    changes = {"a": "2", "b": "2"}

    client.merge_cstate(changes)
    client.merge_istate(CHAT, changes)

    assert cstate == {"a": "1"}
    assert istate == {"b": "1"}
    changes["a"] = "3"
    assert client.cstate == {"a": "2", "b": "2"}


def test_clients_do_not_share_state() -> None:
    one, other = environment(), environment()
    one.merge_cstate({"a": "1"})
    one.merge_istate(CHAT, {"a": "1"})

    assert other.cstate is None
    assert other.istate is None


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([CHAT, NEWS, None]),
            st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "1", "2"])),
        )
    )
)
def test_each_state_is_what_was_set_last(
    steps: list[tuple[Identifier | None, dict[str, str]]],
) -> None:
    client = environment()
    said: dict[tuple[Identifier | None, str], str] = {}
    for of, changes in steps:
        if of is None:
            client.merge_cstate(changes)
        else:
            client.merge_istate(of, changes)
        said |= {(of, key): value for key, value in changes.items()}

    for of, state in ((None, client.cstate or {}), (CHAT, client.istate_of(CHAT))):
        assert state == {
            key: value for (whose, key), value in said.items() if whose == of and value
        }
