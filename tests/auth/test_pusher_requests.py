"""Signatures of requests to Pusher's HTTP API."""

import hashlib
from urllib.parse import quote

import pytest

from catenary.auth.pusher_requests import (
    MAX_AGE_S,
    SignatureError,
    SignedRequest,
    signature,
    verified_parameters,
)

KEY = "278d425bdf160c739803"
SECRET = "7ad3773142a6692b25b8"  # the worked example of Pusher's documentation
NOW_S = 1353088179
BODY = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
EXAMPLE = {
    "auth_key": KEY,
    "auth_timestamp": str(NOW_S),
    "auth_version": "1.0",
    "body_md5": "ec365a775a4cd0599faeb73354201b6f",
    "auth_signature": "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
}


def query(parameters: dict[str, str]) -> str:
    return "&".join(f"{name}={quote(value)}" for name, value in parameters.items())


def signed(path: str, /, method: str = "GET", body: bytes = b"", **more: str) -> SignedRequest:
    """A request as a library signs it; ``more`` replaces parameters."""
    parameters = {"auth_key": KEY, "auth_timestamp": str(NOW_S), "auth_version": "1.0"}
    if body:
        parameters["body_md5"] = hashlib.md5(body).hexdigest()
    parameters |= more
    text = "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))
    parameters.setdefault("auth_signature", signature(SECRET, f"{method}\n{path}\n{text}".encode()))
    return SignedRequest(method, quote(path), query(parameters), body)


def verify(request: SignedRequest, now_s: float = NOW_S) -> dict[str, str]:
    return dict(verified_parameters(request, key=KEY, secret=SECRET, now_s=now_s))


def refusal(request: SignedRequest, now_s: float = NOW_S) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(request, now_s)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_the_example_of_the_documentation() -> None:
    request = SignedRequest("POST", "/apps/3/events", query(EXAMPLE), BODY)
    assert verify(request) == EXAMPLE


def test_further_parameters_are_signed_in_order() -> None:
    request = signed("/apps/3/channels", info="user_count", filter_by_prefix="presence-")
    assert verify(request)["filter_by_prefix"] == "presence-"
    changed = request.query.replace("presence-", "private-")
    assert "Invalid signature" in refusal(SignedRequest("GET", request.path, changed))


@pytest.mark.parametrize("path", ["/apps/3/channels/a@b=c,d;e", "/apps/3/channels/a b%"])
def test_a_path_is_signed_encoded_or_not(path: str) -> None:
    request = signed(path)
    assert verify(request)
    encoded = signed(quote(path))
    assert verify(SignedRequest("GET", quote(path), encoded.query))


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


@pytest.mark.parametrize(
    "name", ["auth_key", "auth_timestamp", "auth_version", "auth_signature", "body_md5"]
)
def test_a_missing_parameter_is_named(name: str) -> None:
    parameters = {each: value for each, value in EXAMPLE.items() if each != name}
    request = SignedRequest("POST", "/apps/3/events", query(parameters), BODY)
    assert refusal(request) == f"{name} is missing"


def test_a_request_is_valid_for_ten_minutes() -> None:
    request = signed("/apps/3/channels")
    for now_s in (NOW_S - MAX_AGE_S, NOW_S + MAX_AGE_S):
        assert verify(request, now_s)


@pytest.mark.parametrize("other", ["method", "path", "body", "secret"])
def test_every_part_is_signed(other: str) -> None:
    request = signed("/apps/3/events", "POST", BODY)
    changed = {
        "method": SignedRequest("PUT", request.path, request.query, BODY),
        "path": SignedRequest("POST", "/apps/4/events", request.query, BODY),
        "body": SignedRequest("POST", request.path, request.query, BODY + b" "),
        "secret": request,
    }[other]
    secret = "another" if other == "secret" else SECRET
    with pytest.raises(SignatureError):
        verified_parameters(changed, key=KEY, secret=secret, now_s=NOW_S)


@pytest.mark.parametrize("text", ["auth_key=1&auth_key=2", "&".join("abc" for _ in range(999))])
def test_parameters_that_are_ambiguous_or_too_many_are_refused(text: str) -> None:
    assert refusal(SignedRequest("GET", "/apps/3/channels", text)).startswith("expected")
