"""The signature of a request to Pusher's HTTP API.

    HMAC-SHA256 under the secret of the app, in hexadecimal, of:  METHOD LF PATH LF SORTED_PARAMETERS

Source: "HTTP API", section "Authentication" (pusher.com/docs/channels/library_auth_reference/rest-api).
Knows: queries, bodies, secrets. Does not know: routes, what a request asks for.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from catenary.auth.pusher import PusherSignatures

MAX_AGE_S: Final = 600
"""The longest difference between the timestamp of a request and the server's clock, in seconds."""

VERSION: Final = "1.0"

MAX_PARAMETERS: Final = 100

_SHOWN: Final = 40
"""Characters of a foreign value that an error shows."""


class SignatureError(ValueError):
    """A request without a valid signature; the message says what was expected, and shows no secret."""


class SignedRequest(msgspec.Struct, frozen=True):
    """The head of a request. ``path`` and ``query`` are encoded as in the request target."""

    method: str
    path: str
    query: str


def verified_parameters(
    request: SignedRequest, signatures: PusherSignatures, now_s: float
) -> Mapping[str, str]:
    """Returns the decoded parameters of a request that an app has signed.

    The signature covers the digest of the body, so a request can be verified before its body has arrived;
    :func:`check_body` then compares the digest with the body. ``now_s`` counts seconds since 1970. Raises
    :class:`SignatureError`, for which the status is 401.
    """
    parameters = _parameters(request.query)
    _check_key(parameters, signatures.key)
    _check_version(parameters)
    _check_time(parameters, now_s)
    _check_signature(parameters, request, signatures)
    return parameters


def check_body(parameters: Mapping[str, str], body: bytes) -> None:
    """Compares a body with its signed digest. A body without a digest is not signed, and is refused.

    Raises :class:`SignatureError`.
    """
    given = parameters.get("body_md5")
    if given is None:
        if body:
            raise SignatureError("body_md5 is missing")
        return
    expected = hashlib.md5(body, usedforsecurity=False).hexdigest()
    if not hmac.compare_digest(_bytes(given.lower()), expected.encode()):
        raise SignatureError("body_md5 is not the MD5 digest of the body")


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise SignatureError(f"expected up to {MAX_PARAMETERS} parameters") from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise SignatureError("expected each parameter once")
    return parameters


def _check_key(parameters: Mapping[str, str], key: str) -> None:
    given = parameters.get("auth_key")
    if given is None:
        raise SignatureError("auth_key is missing")
    if not hmac.compare_digest(_bytes(given), _bytes(key)):
        raise SignatureError("auth_key is not a key of this app")


def _check_version(parameters: Mapping[str, str]) -> None:
    version = parameters.get("auth_version")
    if version is None:
        raise SignatureError("auth_version is missing")
    if version != VERSION:
        raise SignatureError(f"auth_version: expected {VERSION}, got {version[:_SHOWN]!r}")


def _check_time(parameters: Mapping[str, str], now_s: float) -> None:
    given = parameters.get("auth_timestamp")
    if given is None:
        raise SignatureError("auth_timestamp is missing")
    if not (given.isascii() and given.isdecimal()) or len(given) > 15:
        raise SignatureError(f"auth_timestamp: expected seconds since 1970, got {given[:_SHOWN]!r}")
    if abs(now_s - int(given)) > MAX_AGE_S:
        raise SignatureError(
            f"Timestamp expired: auth_timestamp {given} is not within {MAX_AGE_S} s of the server's"
            f" time, {int(now_s)}"
        )


def _check_signature(
    parameters: Mapping[str, str], request: SignedRequest, signatures: PusherSignatures
) -> None:
    given = parameters.get("auth_signature")
    if given is None:
        raise SignatureError("auth_signature is missing")
    # Some libraries sign the path before they percent-encode it, others after.
    matches = False
    for path in (request.path, unquote(request.path)):
        matches |= signatures.verifies(_signed_text(request.method, path, parameters), given)
    if not matches:
        text = _signed_text(request.method, request.path, parameters)
        raise SignatureError(
            f"Invalid signature: expected HMAC-SHA256 in hexadecimal of {text[:500]!r} with the"
            " secret of the app"
        )


def _signed_text(method: str, path: str, parameters: Mapping[str, str]) -> str:
    signed = sorted(
        (name.lower(), value) for name, value in parameters.items() if name != "auth_signature"
    )
    query = "&".join(f"{name}={value}" for name, value in signed)
    return f"{method}\n{path}\n{query}"


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
