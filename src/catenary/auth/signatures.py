"""Signed strings in the format of Rails' MessageVerifier with SHA-256 and JSON.

``base64(JSON)--hexadecimal HMAC-SHA256 of the base64``. Source: docs/signed_streams.md (anycable),
"Signing algorithm". Knows: strings. Does not know: what they mean.
"""

import base64
import hmac
from typing import Final

import msgspec

from catenary.auth.keys import key_bytes
from catenary.messages.lenient_json import reader

_read: Final = reader(str)


class Signatures:
    """Signs strings with one key and verifies them."""

    __slots__ = ("_keys",)

    def __init__(self, key: str) -> None:
        """Raises ValueError for an empty key, with which anyone could sign."""
        self.replace(key)

    def replace(self, key: str, *retired: str) -> None:
        """Signs with another key from now on, and accepts signatures of this key and of retired ones. Raises ValueError for an
        empty key."""
        if not (key and all(retired)):
            raise ValueError("expected a key, got an empty one")
        self._keys = tuple(map(key_bytes, (key, *retired)))

    def signed(self, text: str) -> str:
        """The string with its signature."""
        encoded = base64.b64encode(msgspec.json.encode(text))
        return f"{encoded.decode()}--{_digest(self._keys[0], encoded)}"

    def verified(self, signed: str) -> str | None:
        """The string that was signed; None if the signature is invalid or covers no string.

        Compares in constant time, and decodes only signed content.
        """
        encoded, dashes, digest = signed.partition("--")
        if not dashes:
            return None
        content, given = _bytes(encoded), _bytes(digest)
        for key in self._keys:
            if hmac.compare_digest(_digest(key, content).encode(), given):
                break
        else:
            return None
        try:
            return _read(base64.b64decode(encoded, validate=True))
        except ValueError:
            return None


def _digest(key: bytes, encoded: bytes) -> str:
    return hmac.new(key, encoded, "sha256").hexdigest()


def _bytes(text: str) -> bytes:
    """Encodes text of a client, which may contain lone surrogates."""
    return text.encode(errors="surrogatepass")
