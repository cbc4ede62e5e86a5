"""Keys that are derived from the application's one secret.

A publisher and a server that share the secret come to the same keys without being told them.
Sources: docs/broadcasting.md, docs/rpc.md and docs/api.md (anycable/anycable).
Knows: strings. Does not know: options, requests.
"""

import hashlib
import hmac
from typing import Final

BROADCAST_PHRASE: Final = "broadcast-cable"
RPC_PHRASE: Final = "rpc-cable"
API_PHRASE: Final = "api-cable"


def derived_key(secret: str, phrase: str) -> str:
    """HMAC-SHA256 of a phrase under the secret, in lower-case hexadecimal digits."""
    return hmac.new(secret.encode(), phrase.encode(), hashlib.sha256).hexdigest()


def broadcast_key(explicit: str, secret: str) -> str:
    """The key of HTTP broadcasts: the explicit one, else the derived one, else empty for none."""
    return _key(explicit, secret, BROADCAST_PHRASE)


def rpc_key(explicit: str, secret: str) -> str:
    """The key that calls over HTTP carry; empty for none."""
    return _key(explicit, secret, RPC_PHRASE)


def api_key(explicit: str, secret: str) -> str:
    """The key of the HTTP API; empty for none."""
    return _key(explicit, secret, API_PHRASE)


def same_key(given: str, expected: str) -> bool:
    """Compares in constant time. An empty expected key is matched by nothing."""
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())


def _key(explicit: str, secret: str, phrase: str) -> str:
    if explicit or not secret:
        return explicit
    return derived_key(secret, phrase)
