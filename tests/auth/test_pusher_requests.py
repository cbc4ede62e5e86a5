"""Signatures of requests to Pusher's HTTP API."""

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from catenary.auth.pusher import PusherSignatures
from catenary.auth.pusher_requests import (
    MAX_AGE_S,
    SignatureError,
    SignedRequest,
    check_body,
    verified_parameters,
)

KEY = "278d425bdf160c739803"
SECRET = "7ad3773142a6692b25b8"  # the worked example of Pusher's documentation
NOW_S = 1353088179
SIGNATURES = PusherSignatures(KEY, SECRET)
BODY = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
EXAMPLE = {
    "auth_key": KEY,
    "auth_timestamp": str(NOW_S),
    "auth_version": "1.0",
    "body_md5": "ec365a775a4cd0599faeb73354201b6f",
    "auth_signature": "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    body: bytes = b""


def query(parameters: dict[str, str]) -> str:
    return "&".join(f"{name}={quote(value)}" for name, value in parameters.items())


def signed(path: str, /, method: str = "GET", body: bytes = b"", **more: str) -> Request:
    """A request as a library signs it; ``more`` replaces parameters."""
    parameters = {"auth_key": KEY, "auth_timestamp": str(NOW_S), "auth_version": "1.0"}
    if body:
        parameters["body_md5"] = hashlib.md5(body).hexdigest()
    parameters |= more
    text = "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))
    parameters.setdefault("auth_signature", SIGNATURES.digest(f"{method}\n{path}\n{text}"))
    return Request(method, quote(path), query(parameters), body)


def verify(
    request: Request, now_s: float = NOW_S, signatures: PusherSignatures = SIGNATURES
) -> dict[str, str]:
    head = SignedRequest(request.method, request.path, request.query)
    parameters = verified_parameters(head, signatures, now_s)
    check_body(parameters, request.body)
    return dict(parameters)


def refusal(request: Request, now_s: float = NOW_S) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(request, now_s)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_the_example_of_the_documentation() -> None:
    request = Request("POST", "/apps/3/events", query(EXAMPLE), BODY)
    assert verify(request) == EXAMPLE


def test_further_parameters_are_signed_in_order() -> None:
    request = signed("/apps/3/channels", info="user_count", filter_by_prefix="presence-")
    assert verify(request)["filter_by_prefix"] == "presence-"
    changed = request.query.replace("presence-", "private-")
    assert "Invalid signature" in refusal(Request("GET", request.path, changed))


@pytest.mark.parametrize("path", ["/apps/3/channels/a@b=c,d;e", "/apps/3/channels/a b%"])
def test_a_path_is_signed_encoded_or_not(path: str) -> None:
    request = signed(path)
    assert verify(request)
    encoded = signed(quote(path))
    assert verify(Request("GET", quote(path), encoded.query))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"auth_key": "other"}, "auth_key is not a key of this app"),
        ({"auth_version": "2.0"}, "auth_version: expected 1.0, got '2.0'"),
        ({"auth_timestamp": "soon"}, "auth_timestamp: expected seconds since 1970, got 'soon'"),
        ({"auth_timestamp": "٣"}, "auth_timestamp: expected seconds since 1970, got '٣'"),
        ({"auth_timestamp": "9" * 99}, "auth_timestamp: expected seconds since 1970"),
        ({"auth_timestamp": str(NOW_S - MAX_AGE_S - 1)}, "Timestamp expired"),
        ({"auth_timestamp": str(NOW_S + MAX_AGE_S + 1)}, "Timestamp expired"),
        ({"auth_signature": "0" * 64}, "Invalid signature"),
        ({"auth_signature": "ü"}, "Invalid signature"),
        ({"body_md5": "0" * 32}, "body_md5 is not the MD5 digest of the body"),
    ],
)
def test_each_failure_has_its_text(changes: dict[str, str], why: str) -> None:
    assert refusal(signed("/apps/3/events", "POST", BODY, **changes)).startswith(why)


def test_a_body_needs_a_digest() -> None:
    request = signed("/apps/3/events", "POST")
    assert refusal(Request("POST", request.path, request.query, BODY)) == "body_md5 is missing"


@pytest.mark.parametrize("name", ["auth_key", "auth_timestamp", "auth_version", "auth_signature"])
def test_a_missing_parameter_is_named(name: str) -> None:
    parameters = {each: value for each, value in EXAMPLE.items() if each != name}
    request = Request("POST", "/apps/3/events", query(parameters), BODY)
    assert refusal(request) == f"{name} is missing"


def test_a_request_is_valid_for_ten_minutes() -> None:
    request = signed("/apps/3/channels")
    for now_s in (NOW_S - MAX_AGE_S, NOW_S + MAX_AGE_S):
        assert verify(request, now_s)


@pytest.mark.parametrize("other", ["method", "path", "body", "secret"])
def test_every_part_is_signed(other: str) -> None:
    request = signed("/apps/3/events", "POST", BODY)
    changed = {
        "method": Request("PUT", request.path, request.query, BODY),
        "path": Request("POST", "/apps/4/events", request.query, BODY),
        "body": Request("POST", request.path, request.query, BODY + b" "),
        "secret": request,
    }[other]
    signatures = PusherSignatures(KEY, "another") if other == "secret" else SIGNATURES
    with pytest.raises(SignatureError):
        verify(changed, signatures=signatures)


def test_an_app_without_a_secret_accepts_nothing() -> None:
    """Everybody can compute an HMAC with an empty key."""
    head = signed("/apps/3/channels", auth_signature="")
    text = "GET\n/apps/3/channels\n" + head.query.removesuffix("&auth_signature=")
    digest = hmac.new(b"", text.encode(), "sha256").hexdigest()
    with pytest.raises(SignatureError):
        verify(
            signed("/apps/3/channels", auth_signature=digest),
            signatures=PusherSignatures(KEY, ""),
        )


@pytest.mark.parametrize("text", ["auth_key=1&auth_key=2", "&".join("abc" for _ in range(999))])
def test_parameters_that_are_ambiguous_or_too_many_are_refused(text: str) -> None:
    assert refusal(Request("GET", "/apps/3/channels", text)).startswith("expected")
