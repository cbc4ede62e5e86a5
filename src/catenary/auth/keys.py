"""Keys that are derived from the application's secret, and the header that carries a key.

A publisher and a server that share the secret derive the same keys, so keys need no configuration of their own.
Sources: docs/broadcasting.md, docs/rpc.md and docs/api.md (anycable/anycable).
Knows: keys and secrets. Does not know: requests.
"""

import contextlib
import hashlib
import hmac
from typing import Final

from catenary.config.effective import Key
from catenary.wire.http1 import header_text

BROADCAST_PHRASE: Final = "broadcast-cable"
RPC_PHRASE: Final = "rpc-cable"
API_PHRASE: Final = "api-cable"
WRITE_PHRASE: Final = "durable-streams-write"
"""The key that signs names of durable streams for writing is derived from the one that signs names for reading."""


def derived_key(secret: str, phrase: str) -> str:
    """HMAC-SHA256 of a phrase under the secret, in lower-case hexadecimal digits."""
    return hmac.new(key_bytes(secret), phrase.encode(), hashlib.sha256).hexdigest()


def key_bytes(text: str) -> bytes:
    """A key or a secret as bytes: UTF-8.

    Python reads arguments and variables that are not UTF-8 as lone surrogates (PEP 383); these are turned back
    into the original bytes.
    """
    return text.encode(errors="surrogateescape")


def bearer(key: str) -> bytes:
    """The value of the header Authorization that carries a key (RFC 6750, section 2.1)."""
    return b"Bearer " + key_bytes(key)


class BearerKey:
    """Compares the header Authorization of a request with a key; an empty key matches every request.

    A key that is not ASCII is accepted in UTF-8, as curl sends it, and in Latin-1, as browsers and Python's
    http.client send it.
    """

    __slots__ = ("_accepted",)

    def __init__(self, key: str) -> None:
        self.replace(*([key] if key else []))

    def replace(self, *keys: str) -> None:
        """Accepts these keys, none of them empty, from now on; without one, every request matches."""
        sent = set(map(bearer, keys))
        for key in keys:
            with contextlib.suppress(UnicodeEncodeError):
                sent.add(b"Bearer " + key.encode("latin-1"))
        # Decoded as headers are: both encodings of a key may be the same text.
        self._accepted = tuple({header_text(each).encode() for each in sent})

    def matches(self, authorization: str) -> bool:
        """Compares in constant time. ``authorization`` was decoded by :func:`header_text`."""
        given = authorization.encode()
        # Compares all of them, so that the time does not reveal which one is similar.
        is_accepted = not self._accepted
        for each in self._accepted:
            is_accepted |= hmac.compare_digest(given, each)
        return is_accepted


def effective_key(key: Key | None, phrase: str) -> str:
    """The text of a configured key, derived if necessary; empty if no key is required."""
    if key is None:
        return ""
    return derived_key(key.text, phrase) if key.derived else key.text
