"""The meaning of answers, resets and statuses, after the documents of gRPC."""

import pytest

from catenary.errors import AppFailed, AppUnavailable
from catenary.messages.names import Sid
from catenary.rpc.calls import AppAway, AppBusy, AppLate
from catenary.rpc.grpc_status import message, metadata_fields, payload, reset, timeout_field
from catenary.wire.hpack import literal
from catenary.wire.http2_events import Reset, Response


def response(
    body: bytes = b"", status: bytes | None = b"0", http: bytes = b"200", **more: bytes
) -> Response:
    head = {b":status": http, b"content-type": b"application/grpc"}
    trailers = {name.replace("_", "-").encode(): value for name, value in more.items()}
    if status is not None:
        trailers[b"grpc-status"] = status
    return Response(1, head, body, trailers)


def test_a_message_follows_its_prefix() -> None:
    for text in (b"", b"x", b"x" * 70_000):
        assert payload(response(message(text))) == text


def test_a_status_that_is_there_counts_more_than_http_s() -> None:
    assert payload(response(message(b"x"), http=b"503")) == b"x"


@pytest.mark.parametrize(
    ("status", "name", "error"),
    [
        (b"1", "CANCELLED", AppAway),
        (b"2", "UNKNOWN", AppFailed),
        (b"4", "DEADLINE_EXCEEDED", AppLate),
        (b"7", "PERMISSION_DENIED", AppFailed),
        (b"8", "RESOURCE_EXHAUSTED", AppBusy),
        (b"12", "UNIMPLEMENTED", AppFailed),
        (b"13", "INTERNAL", AppFailed),
        (b"14", "UNAVAILABLE", AppAway),
        (b"16", "UNAUTHENTICATED", AppFailed),
        (b"17", "UNKNOWN", AppFailed),
        (b"-1", "UNKNOWN", AppFailed),
        (b"", "UNKNOWN", AppFailed),
        (b"00", "UNKNOWN", AppFailed),
    ],
)
def test_statuses(status: bytes, name: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^gRPC {name}: no luck$"):
        payload(response(status=status, grpc_message=b"no luck"))


@pytest.mark.parametrize(
    "details",
    [
        b"Received message larger than max (5242880 vs. 4194304)",
        b"grpc: received message larger than max (5242880 vs. 4194304)",
        b"gRPC message exceeds maximum size 4194304: 5242880",
        b"Received message exceeds the maximum configured message size.",
        b"message too large",
    ],
)
def test_a_server_s_word_about_size_is_no_reason_to_ask_again(details: bytes) -> None:
    """In the words of C, Go, Java, .NET and others."""
    with pytest.raises(AppFailed):
        payload(response(status=b"8", grpc_message=details))


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"caf%C3%A9 %25 100%", "café % 100%"),
        (b"%zz %C3", "%zz \ufffd"),
        ("é".encode(), "é"),
        (b"x" * 5_000, "x" * 200),
    ],
)
def test_words_are_percent_encoded(sent: bytes, text: str) -> None:
    with pytest.raises(AppFailed) as raised:
        payload(response(status=b"13", grpc_message=sent))
    assert str(raised.value) == f"gRPC INTERNAL: {text}"


@pytest.mark.parametrize(
    ("http", "name", "error"),
    [
        (b"200", "UNKNOWN", AppFailed),
        (b"400", "INTERNAL", AppFailed),
        (b"401", "UNAUTHENTICATED", AppFailed),
        (b"403", "PERMISSION_DENIED", AppFailed),
        (b"404", "UNIMPLEMENTED", AppFailed),
        (b"429", "UNAVAILABLE", AppAway),
        (b"500", "UNKNOWN", AppFailed),
        (b"502", "UNAVAILABLE", AppAway),
        (b"503", "UNAVAILABLE", AppAway),
        (b"504", "UNAVAILABLE", AppAway),
    ],
)
def test_where_no_status_comes_http_s_has_to_do(
    http: bytes, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"gRPC {name}: .* HTTP {http.decode()}"):
        payload(response(b"<html>", status=None, http=http))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "got none"),
        (b"\0\0\0\0", "got none"),
        (b"\1\0\0\0\1x", "not compressed"),
        (b"\0\0\0\0\2x", "one message of 2 bytes, got 1"),
        (message(b"x") * 2, "one message of 1 bytes, got 7"),
    ],
)
def test_a_body_that_is_not_one_message(body: bytes, text: str) -> None:
    with pytest.raises(AppFailed, match=f"INTERNAL: .*{text}"):
        payload(response(body))


def test_a_malformed_answer_is_an_internal_error() -> None:
    error = reset(Reset(1, 1, "expected a status, got none"))
    assert isinstance(error, AppFailed)
    assert not isinstance(error, AppUnavailable)


@pytest.mark.parametrize(
    ("timeout_s", "text"),
    [
        (3.0, b"3000m"),
        (0.0001, b"1m"),
        (-1.0, b"1m"),
        (99_999.999, b"99999999m"),
        (100_000.0, b"100000S"),
        (1e12, b"99999999S"),
    ],
)
def test_the_time_a_server_has(timeout_s: float, text: bytes) -> None:
    assert timeout_field(timeout_s) == literal(b"grpc-timeout", text)


def test_metadata_are_header_fields() -> None:
    assert metadata_fields(Sid("s1")) == (literal(b"sid", b"s1") + literal(b"protov", b"v1"))
