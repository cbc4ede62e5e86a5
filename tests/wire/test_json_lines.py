"""JSON Lines: whatever JSON is written, each message is one line of the same meaning."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from catenary.wire.json_lines import LINES, lines_of

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.tuples(JSON, st.sampled_from([None, 0, 2, "\t"]))))
def test_messages_are_lines_however_they_are_indented(messages: list[tuple[Any, Any]]) -> None:
    written = [json.dumps(each, indent=indent).encode() for each, indent in messages]
    batch = b"".join(map(LINES.frame, written))
    assert batch.count(b"\n") == len(messages)
    assert [json.loads(line) for line in lines_of(batch)] == [each for each, _ in messages]


@given(st.lists(st.binary(max_size=5), min_size=1))
def test_a_message_in_pieces_is_one_line(pieces: list[bytes]) -> None:
    batches = list(LINES.frame_pieces(iter(pieces)))
    assert b"".join(batches) == LINES.frame(b"".join(pieces))
    assert [each for each in batches if each] == batches[-1:]


@given(st.lists(st.binary(max_size=9)))
def test_lines_that_are_not_empty_are_found(lines: list[bytes]) -> None:
    body = b"\n".join(lines)
    expected = [each for each in body.split(b"\n") if each.strip()]
    assert list(lines_of(body)) == expected
    assert list(lines_of(body + b"\n" + LINES.ping)) == expected
