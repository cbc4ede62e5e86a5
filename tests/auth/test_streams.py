"""Streams that identifiers grant: every rule as a table."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catenary.auth.signatures import Signatures
from catenary.auth.streams import (
    CableReadyStreams,
    Grant,
    PubSubStreams,
    Resolve,
    StreamNames,
    TurboStreams,
)
from catenary.messages.names import Identifier, Stream
from catenary.transports.stream_tails import changes_of
from tests.parts.tokens import SECRET, signed_name

SIGNED = signed_name("chat/1")
UNSIGNED = SIGNED[:-1]
SIGNATURES = Signatures(SECRET)
DEEP = '{"x":' + "[" * 30_000 + "]" * 30_000 + "}"


def pubsub(
    *, key: bool = True, is_public: bool = False, whisper: bool = False, presence: bool = False
) -> PubSubStreams:
    return PubSubStreams(
        SIGNATURES if key else None, is_public=is_public, whisper=whisper, presence=presence
    )


def identifier(**params: object) -> Identifier:
    return Identifier(json.dumps({"channel": "$pubsub", **params}))


CHAT = Stream("chat/1")


@pytest.mark.parametrize(
    ("resolve", "grant"),
    [
        (pubsub(), Grant(CHAT)),
        (pubsub(is_public=True), Grant(CHAT)),
        (pubsub(whisper=True), Grant(CHAT, whisper=True)),
        (pubsub(presence=True), Grant(CHAT, presence=True)),
        (pubsub(key=False), None),
        (pubsub(key=False, is_public=True), None),
    ],
)
def test_signed_names(resolve: Resolve, grant: Grant | None) -> None:
    assert resolve(identifier(signed_stream_name=SIGNED)) == grant
    assert resolve(identifier(signed_stream_name=SIGNED, stream_name="other")) == grant
    assert resolve(identifier(signed_stream_name=SIGNED, stream_name=None)) == grant
    assert resolve(identifier(signed_stream_name=UNSIGNED)) is None


@pytest.mark.parametrize(
    ("resolve", "is_granted"),
    [
        (pubsub(is_public=True), True),
        (pubsub(is_public=True, key=False), True),
        (pubsub(whisper=True, presence=True), False),
    ],
)
def test_plain_names_grant_everything_if_streams_are_public(
    resolve: Resolve, *, is_granted: bool
) -> None:
    grant = Grant(CHAT, whisper=True, presence=True) if is_granted else None
    assert resolve(identifier(stream_name="chat/1")) == grant
    assert resolve(identifier(stream_name="chat/1", signed_stream_name="")) == grant
    assert resolve(identifier(stream_name="chat/1", signed_stream_name=None)) == grant


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"stream_name":""}',
        '{"stream_name":7}',
        '{"stream_name":"\\u0000occupied:chat"}',
        '{"stream_name":null}',
        '{"signed_stream_name":7}',
        '{"stream_name":"a","signed_stream_name":7}',
        json.dumps({"stream_name": "a", "signed_stream_name": UNSIGNED}),
        json.dumps({"signed_stream_name": signed_name("")}),
        json.dumps({"signed_stream_name": signed_name(7)}),
        json.dumps({"identifier": SIGNED}),
        "garbage",
        '"chat"',
        "",
        DEEP,
        "\ud800",
    ],
    ids=lambda text: ascii(text)[:30],
)
def test_everything_else_grants_nothing(text: str) -> None:
    resolve = pubsub(is_public=True, whisper=True, presence=True)
    assert resolve(Identifier(text)) is None


@pytest.mark.parametrize(
    ("resolve", "param", "other"),
    [
        (TurboStreams(SIGNATURES), "signed_stream_name", "identifier"),
        (CableReadyStreams(SIGNATURES), "identifier", "signed_stream_name"),
    ],
)
def test_turbo_and_cable_ready_accept_only_signed_names(
    resolve: Resolve, param: str, other: str
) -> None:
    assert resolve(identifier(**{param: SIGNED})) == Grant(CHAT)
    for params in (
        {},
        {param: UNSIGNED},
        {param: ""},
        {param: 7},
        {param: None},
        {param: signed_name("chat/1", "another key")},
        {param: signed_name("")},
        {other: SIGNED},
        {"stream_name": "chat/1"},
    ):
        assert resolve(identifier(**params)) is None, params
    assert resolve(Identifier(DEEP)) is None
    assert resolve(Identifier("\ud800")) is None


@pytest.mark.parametrize(
    "name", ["", "\0nodes", "\0occupied:chat/1", changes_of(Stream("chat/1")), "private/1"]
)
def test_some_streams_are_never_public_however_they_are_named(name: str) -> None:
    def is_reserved(stream: Stream) -> bool:
        return stream.startswith("private")

    resolve = PubSubStreams(
        SIGNATURES, is_public=True, whisper=True, presence=True, reserved=is_reserved
    )
    names = StreamNames(SIGNATURES, is_public=True, reserved=is_reserved)
    assert resolve(identifier(stream_name=name)) is None
    assert not names.opens(Stream(name), "")


@given(text=st.text() | st.dictionaries(st.text(), st.text()).map(json.dumps))
def test_any_identifier_is_granted_or_refused(text: str) -> None:
    for resolve in (pubsub(), TurboStreams(SIGNATURES), CableReadyStreams(SIGNATURES)):
        assert resolve(Identifier(text)) is None


@pytest.mark.parametrize("is_public", [True, False])
def test_a_signature_opens_the_stream_that_it_names_and_no_other(is_public: bool) -> None:
    names = StreamNames(SIGNATURES, is_public=is_public)
    assert names.opens(CHAT, SIGNED)
    assert not names.opens(Stream("chat/2"), SIGNED)
    assert not names.opens(CHAT, UNSIGNED)
    assert names.opens(CHAT, "") is is_public
    assert not StreamNames(None, is_public=True).opens(CHAT, SIGNED)
