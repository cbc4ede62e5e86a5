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
    """Issues and checks sessions. They end when they expire, and when the key changes."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        """Raises ValueError for an empty key, with which anyone could sign."""
        if not key:
            raise ValueError("expected a key, got an empty one")
        self._key = derived_key(key, _PHRASE).encode()

    def issued(self, now_s: float, nonce: bytes) -> str:
        """A new session, as text for a cookie: expiry (seconds since 1970), nonce, signature."""
        content = f"{int(now_s) + SESSION_S}.{_text(nonce)}"
        return f"{content}.{self._signature(content)}"

    def is_valid(self, session: str, now_s: float) -> bool:
        """Whether this session was issued with the key and has not expired. Compares in constant time."""
        content, _, signature = session.rpartition(".")
        if not hmac.compare_digest(self._signature(content).encode(), signature.encode()):
            return False
        return now_s < int(content.partition(".")[0])

    def _signature(self, content: str) -> str:
        return _text(hmac.digest(self._key, content.encode(), "sha256"))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
