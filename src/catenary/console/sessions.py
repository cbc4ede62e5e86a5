"""Sessions of people who have logged in: signed cookies, so that every worker and node with the same key accepts them.

Knows: a key, the time as an argument. Does not know: requests.
"""

import base64
import hmac
from typing import Final

from catenary.auth.keys import derived_key

SESSION_S: Final = 12 * 3600
"""How long a session lasts, from its login."""
_PHRASE: Final = "console-session"


class Sessions:
    """Issues and checks sessions. They end when they expire, and when the key is no longer accepted."""

    __slots__ = ("_keys",)

    def __init__(self, key: str) -> None:
        """Raises ValueError for an empty key, with which anyone could sign."""
        if not key:
            raise ValueError("expected a key, got an empty one")
        self.replace(key)

    def replace(self, *keys: str) -> None:
        """Issues sessions with the first of these keys from now on, and accepts those of all of them."""
        self._keys = tuple(derived_key(key, _PHRASE).encode() for key in keys)

    def issued(self, now_s: float, nonce: bytes) -> str:
        """A new session, as text for a cookie: expiry (seconds since 1970), nonce, signature."""
        content = f"{int(now_s) + SESSION_S}.{_text(nonce)}"
        return f"{content}.{_signature(self._keys[0], content)}"

    def is_valid(self, session: str, now_s: float) -> bool:
        """Whether this session was issued with the key and has not expired. Compares in constant time."""
        content, _, signature = session.rpartition(".")
        given = signature.encode()
        expected = (_signature(key, content).encode() for key in self._keys)
        if not any(hmac.compare_digest(each, given) for each in expected):
            return False
        return now_s < int(content.partition(".")[0])


def _signature(key: bytes, content: str) -> str:
    return _text(hmac.digest(key, content.encode(), "sha256"))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
