"""Tokens and signed names as an application makes them, with no code of the server's.

Tokens are PyJWT's; names follow the Python example of docs/signed_streams.md (anycable).
"""

import base64
import hashlib
import hmac
import json
from typing import Any

from jwt.api_jws import PyJWS

# RFC 7518, section 3.2: as long as the hash of the strongest algorithm.
SECRET = "a-secret-of-the-application-that-is-long-enough-for-every-hash-!"

_jws = PyJWS()


def token(
    claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **header: Any
) -> str:
    """A token with any claims."""
    return _jws.encode(
        json.dumps(claims).encode(), key, algorithm, headers={"typ": "JWT", **header}
    )


def forged(header: dict[str, Any], claims: dict[str, Any], key: bytes = SECRET.encode()) -> str:
    """A token with any header, signed with HMAC-SHA256."""
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    return f"{signed}.{base64url(hmac.digest(key, signed.encode(), 'sha256'))}"


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed_name(name: object, key: str = SECRET) -> str:
    """The name of a stream as an application signs it."""
    return signed_text(json.dumps(name), key)


def signed_text(text: str, key: str = SECRET) -> str:
    """The same for text that need not be JSON."""
    encoded = base64.b64encode(text.encode("utf-8")).decode("utf-8")
    digest = hmac.new(key.encode("utf-8"), encoded.encode("utf-8"), hashlib.sha256).hexdigest()
    return f"{encoded}--{digest}"
