"""W3C Trace Context: what is read, what is ignored."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.messages.publications import Publication, parse, with_trace
from catenary.messages.trace_context import STATE_LIMIT, TraceContext, checked, read, read_text

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_parent_names_its_trace_and_span() -> None:
    assert read(PARENT) == TraceContext(TRACE, SPAN, is_sampled=True)
    assert read(f"00-{TRACE}-{SPAN}-00") == TraceContext(TRACE, SPAN, is_sampled=False)


def test_of_the_flags_only_the_first_matters() -> None:
    context = read(f"00-{TRACE}-{SPAN}-ff")
    assert context is not None
    assert context.parent == PARENT


@pytest.mark.parametrize("later", ["cc-{}-{}-01", "cc-{}-{}-01-what-the-future-brings"])
def test_a_later_version_is_read_as_far_as_it_is_known(later: str) -> None:
    assert read(later.format(TRACE, SPAN)) == TraceContext(TRACE, SPAN, is_sampled=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
    ],
)
def test_another_text_is_no_parent(text: str) -> None:
    assert read(text) is None


@given(st.text())
def test_no_text_is_a_fault(text: str) -> None:
    assert read(text) is None or read(text, text) is not None
    read_text(text)


def test_the_state_goes_with_its_parent() -> None:
    context = read(PARENT, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert context is not None
    assert read_text(context.text) == context
    assert checked("no parent", "rojo=1") == ""


@pytest.mark.parametrize("state", ["a=" + "x" * STATE_LIMIT, "a=1\r\nevil: 1", "a=é"])
def test_a_state_that_is_too_long_or_no_header_is_dropped(state: str) -> None:
    assert read(PARENT, state) == TraceContext(TRACE, SPAN, is_sampled=True)


# In publications


def test_a_publication_names_its_trace_in_meta() -> None:
    meta = {"traceparent": PARENT, "tracestate": "rojo=1"}
    raw = msgspec.json.encode({"stream": "news", "data": "1", "meta": meta})
    assert parse(raw) == (Publication("news", "1", trace=f"{PARENT} rojo=1"),)  # type: ignore[arg-type]


def test_an_invalid_trace_does_not_refuse_the_publication() -> None:
    raw = b'{"stream": "news", "data": "1", "meta": {"traceparent": "mine", "tracestate": "a=1"}}'
    assert parse(raw) == (Publication("news", "1"),)  # type: ignore[arg-type]


def test_the_trace_of_a_request_is_for_messages_without_one() -> None:
    own = f"00-{TRACE}-{SPAN}-00"
    batch = (
        b'[{"stream": "a", "data": "1", "meta": {"traceparent": "%b"}},'
        b' {"stream": "b", "data": "2"}]' % own.encode()
    )
    command = b'{"command": "disconnect", "payload": {"identifier": "x"}}'
    traces = [getattr(each, "trace", None) for each in with_trace(parse(batch), PARENT)]
    assert traces == [own, PARENT]
    assert with_trace(parse(command), PARENT) == parse(command)
