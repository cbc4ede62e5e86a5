"""Publications: every form of docs/broadcasting.md (anycable), and text that has none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.errors import PublicationError
from catenary.messages.names import Sid, Stream
from catenary.messages.publications import (
    BATCH_LIMIT,
    STEP_MESSAGES,
    Publication,
    Publishable,
    RemoteDisconnect,
    parse,
    parse_in_steps,
)

A = Publication(Stream("a"), "1")
B = Publication(Stream("b"), "2")


@pytest.mark.parametrize(
    ("raw", "publications"),
    [
        pytest.param('{"stream":"a","data":"1"}', (A,), id="one"),
        pytest.param(' {"data":"1",\n"stream":"a"}\n', (A,), id="white space, another order"),
        pytest.param('{"stream":"a","data":"1","x":[{}],"offset":5}', (A,), id="unknown keys"),
        pytest.param('{"stream":"a","data":""}', (Publication(Stream("a"), ""),), id="empty data"),
        pytest.param(
            r'{"stream":"é\u00e9","data":"{\"text\":\"☃ \\u2603\"}"}',
            (Publication(Stream("éé"), r'{"text":"☃ \u2603"}'),),
            id="data is text, escapes and all",
        ),
        pytest.param('{"stream":"a","data":"1","meta":null}', (A,), id="meta null"),
        pytest.param('{"stream":"a","data":"1","meta":{}}', (A,), id="meta empty"),
        pytest.param('{"stream":"a","data":"1","meta":{"x":1}}', (A,), id="meta unknown"),
        pytest.param(
            '{"stream":"a","data":"1","meta":{"exclude_socket":"s"}}',
            (Publication(Stream("a"), "1", exclude_socket=Sid("s")),),
            id="exclude_socket",
        ),
        pytest.param(
            '{"stream":"a","data":"1","meta":{"exclude_socket":"","broadcast_type":""}}',
            (A,),
            id="meta of empty strings",
        ),
        pytest.param(
            '{"stream":"a","data":"1","meta":{"exclude_socket":null,"broadcast_type":null}}',
            (A,),
            id="meta of nulls",
        ),
        pytest.param(
            '{"stream":"a","data":"1","meta":{"broadcast_type":"k","transient":true}}',
            (Publication(Stream("a"), "1", kind="k", transient=True),),
            id="broadcast_type and transient",
        ),
        pytest.param('[{"stream":"a","data":"1"}]', (A,), id="batch of one"),
        pytest.param(
            '[{"stream":"a","data":"1"},{"stream":"b","data":"2"},{"stream":"a","data":"1"}]',
            (A, B, A),
            id="batch in order",
        ),
        pytest.param(
            '[{"stream":"a","data":"1","meta":{"exclude_socket":"s"}},{"stream":"b","data":"2"}]',
            (Publication(Stream("a"), "1", exclude_socket=Sid("s")), B),
            id="batch with meta",
        ),
        pytest.param("[]", (), id="empty batch"),
        pytest.param(
            '{"stream":"\\ud800","data":"\\udc00 x"}',
            (Publication(Stream("\ufffd"), "\ufffd x"),),
            id="halves of surrogate pairs",
        ),
        pytest.param(
            '[{"stream":"a","data":"1"},{"stream":"b","data":"party \\ud83c","x":[1e400]}]',
            (A, Publication(Stream("b"), "party \ufffd")),
            id="half of a surrogate pair in a batch",
        ),
        pytest.param(
            '{"command":"disconnect","payload":{"identifier":"\\ud800"}}',
            (RemoteDisconnect("\ufffd", reconnect=False),),
            id="half of a surrogate pair in a command",
        ),
        pytest.param(
            '{"stream":"a","data":"1","x":' + "[" * 5_000 + "]" * 5_000 + "}", (A,), id="depth"
        ),
        pytest.param(
            '{"command":"disconnect","payload":{"identifier":"{\\"u\\":1}","reconnect":true}}',
            (RemoteDisconnect('{"u":1}', reconnect=True),),
            id="disconnect",
        ),
        pytest.param(
            '{"payload":{"reconnect":false,"identifier":"u","x":1},"command":"disconnect"}',
            (RemoteDisconnect("u", reconnect=False),),
            id="disconnect for good",
        ),
        pytest.param(
            '{"command":"disconnect","payload":{"identifier":"u"}}',
            (RemoteDisconnect("u", reconnect=False),),
            id="disconnect without reconnect",
        ),
        pytest.param(
            '{"command":"disconnect","stream":"a","data":"1"}', (A,), id="a message comes first"
        ),
    ],
)
def test_reads(raw: str, publications: tuple[Publishable, ...]) -> None:
    assert parse(raw.encode()) == publications
    assert parse(raw) == publications


MESSAGE = '{"stream":"a","data":"1"}'


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("", "truncated"),
        ("nonsense", "malformed"),
        (MESSAGE + " x", "trailing"),
        (MESSAGE[:-1], "truncated"),
        ("null", "`object`"),
        ("5", "`object`"),
        ('"a"', "`object`"),
        ("{}", "`stream`"),
        ('{"data":"1"}', "`stream`"),
        ('{"stream":"a"}', "`data`"),
        ('{"stream":"","data":"1"}', "got an empty one"),
        ('{"stream":null,"data":"1"}', "$.stream"),
        ('{"stream":5,"data":"1"}', "$.stream"),
        ('{"stream":"a","data":null}', "$.data"),
        ('{"stream":"a","data":{"x":1}}', "$.data"),
        ('{"stream":"a","data":5}', "$.data"),
        ('{"stream":"a","data":"1","meta":"x"}', "$.meta"),
        ('{"stream":"a","data":"1","meta":[]}', "$.meta"),
        ('{"stream":"a","data":"1","meta":{"exclude_socket":5}}', "$.meta.exclude_socket"),
        ('{"stream":"a","data":"1","meta":{"broadcast_type":{}}}', "$.meta.broadcast_type"),
        ('{"stream":"a","data":"1","meta":{"transient":"yes"}}', "$.meta.transient"),
        ("[null]", "$[0]"),
        (f"[{MESSAGE},null]", "$[1]"),
        (f"[{MESSAGE},5]", "$[1]"),
        (f"[[{MESSAGE}]]", "$[0]"),
        (f'[{MESSAGE},{{"data":"1"}}]', "`stream`"),
        (f'[{MESSAGE},{{"stream":"","data":"1"}}]', "got an empty one"),
        ('[{"command":"disconnect","payload":{"identifier":"u"}}]', "`stream`"),
        ('{"command":"stop"}', "expected the command 'disconnect', got 'stop'"),
        ('{"command":""}', "got ''"),
        ('{"command":5}', "$.command"),
        ('{"command":null}', "$.command"),
        ('{"command":"disconnect"}', "got `null`"),
        ('{"command":"disconnect","payload":"u"}', "got `str`"),
        ('{"command":"disconnect","payload":{}}', "`identifier`"),
        ('{"command":"disconnect","payload":{"identifier":5}}', "$.identifier"),
        ('{"command":"disconnect","payload":{"identifier":"u","reconnect":1}}', "$.reconnect"),
        ('{"stream":"a","data":"1\n2"}', "malformed"),
        ("1e999", "range"),
        ("9" * 5000, "range"),
        ("[" * 50_000, "$[0]"),
        ("[" * 50_000 + "]" * 50_000, "$[0]"),
        ('{"stream":"a","data":"1","x":' + "[" * 300_000, "depth"),
        ('{"command":"disconnect","payload":' + "[" * 300_000, "depth"),
        ('{"stream":"a","data":"\ud800"}', "utf-8"),
        ("\ud800", "utf-8"),
    ],
    ids=lambda value: ascii(value)[:70],
)
def test_refuses(raw: str, why: str) -> None:
    for form in (raw, raw.encode(errors="surrogatepass")):
        with pytest.raises(PublicationError, match=r"^expected ") as caught:
            parse(form)
        assert why in str(caught.value) or "\ud800" in raw


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        b'{"stream":"\xff","data":"1"}',
        b'{"stream":"a","data":"\xed\xa0\x80"}',
        b'{"x":"\xff"}',
        b'["\xff"]',
        b'[{"stream":"\xff","data":"1"}]',
        b'{"command":"\xff"}',
        b'{"command":"disconnect","payload":{"identifier":"\xff"}}',
    ],
    ids=ascii,
)
def test_refuses_text_that_is_not_utf8(raw: bytes) -> None:
    with pytest.raises(PublicationError, match=r"^expected "):
        parse(raw)


# Properties

anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
nasty_text = st.text(st.characters() | st.characters(categories=["Cs"]))


def perhaps(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


metas = perhaps(exclude_socket=st.text(), broadcast_type=st.text(), transient=st.booleans())
almost_messages = perhaps(
    stream=nasty_text | anything, data=nasty_text | anything, meta=metas | anything
)
almost_commands = perhaps(
    command=st.just("disconnect") | anything,
    payload=perhaps(identifier=nasty_text | anything, reconnect=st.booleans() | anything)
    | anything,
)
almost_publications = (
    almost_messages | almost_commands | st.lists(almost_messages | anything, max_size=3) | anything
)


@given(raw=st.binary() | nasty_text | almost_publications.map(json.dumps))
def test_anything_is_read_or_refused(raw: bytes | str) -> None:
    try:
        publications = parse(raw)
    except PublicationError as error:
        refused = str(error)
        publications = ()
    else:
        refused = ""
    assert "unreachable" not in refused
    for publication in publications:
        # It can be encoded: no unpaired surrogate is left.
        match publication:
            case Publication(stream, data):
                assert stream.encode() is not None
                assert data.encode() is not None
            case RemoteDisconnect(identifiers):
                assert identifiers.encode() is not None


@st.composite
def messages(draw: st.DrawFn) -> tuple[dict[str, Any], Publication]:
    """A message as JSON, and the publication that it stands for."""
    stream, data = draw(st.text(min_size=1)), draw(st.text())
    meta = draw(st.none() | metas)
    said: dict[str, Any] = {"stream": stream, "data": data}
    if meta is None:
        return said, Publication(Stream(stream), data)
    return said | {"meta": meta}, Publication(
        Stream(stream),
        data,
        Sid(meta["exclude_socket"]) if meta.get("exclude_socket") else None,
        meta.get("broadcast_type", ""),
        meta.get("transient", False),
    )


@given(batch=st.lists(messages(), max_size=4), ensure_ascii=st.booleans())
def test_messages_are_read_as_publications(
    batch: list[tuple[dict[str, Any], Publication]], ensure_ascii: bool
) -> None:
    raw = json.dumps([said for said, _ in batch], ensure_ascii=ensure_ascii)
    meant = tuple(publication for _, publication in batch)

    assert parse(raw) == parse(raw.encode()) == meant
    for said, publication in batch:
        assert parse(json.dumps(said, ensure_ascii=ensure_ascii)) == (publication,)


# In steps


def in_steps(raw: bytes) -> tuple[list[int], tuple[Publishable, ...]]:
    """The sizes of the steps, and the result."""
    steps = parse_in_steps(raw)
    sizes: list[int] = []
    while True:
        try:
            sizes.append(next(steps))
        except StopIteration as end:
            return sizes, end.value


@given(batch=st.lists(messages(), max_size=4), ensure_ascii=st.booleans())
def test_a_batch_in_steps_is_the_same_batch(
    batch: list[tuple[dict[str, Any], Publication]], ensure_ascii: bool
) -> None:
    raw = json.dumps([said for said, _ in batch], ensure_ascii=ensure_ascii).encode()
    assert in_steps(raw)[1] == parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"stream":"a","data":"1"}',
        b'{"command":"disconnect","payload":{"identifier":"{}"}}',
        rb'[{"stream":"a","data":"\ud83c"}]',
        b"[]",
    ],
    ids=["one", "command", "half of a surrogate pair", "empty batch"],
)
def test_other_texts_in_steps(raw: bytes) -> None:
    assert in_steps(raw)[1] == parse(raw)


def test_a_step_is_a_hundred_messages() -> None:
    one = b'{"stream":"a","data":"1"}'
    sizes, publications = in_steps(b"[" + b",".join([one] * (2 * STEP_MESSAGES + 1)) + b"]")
    assert sizes == [STEP_MESSAGES * len(one)] * 2 + [len(one)]
    assert publications == (A,) * (2 * STEP_MESSAGES + 1)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'[{"stream":"a","data":"1"},{"stream":"a"}]', "got message 2: .*`data`"),
        (b'[{"stream":"a","data":"1"},{"stream":"","data":"1"}]', "expected a stream"),
        (b'[{"stream":"a","data":"1"},5]', "got message 2: "),
        (b'[{"stream":"a","data":"1"}', "expected {stream, data}, a list of those"),
        (b"[" + b"1," * BATCH_LIMIT + b"1]", "expected up to 10000 messages in a batch, got 10001"),
    ],
)
def test_a_batch_with_a_fault_is_refused_whole(raw: bytes, expected: str) -> None:
    with pytest.raises(PublicationError, match=expected):
        in_steps(raw)
