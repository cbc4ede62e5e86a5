"""Keys that are derived from the application's one secret.

A publisher and a server that share the secret come to the same keys without being told them.
Sources: docs/broadcasting.md and docs/rpc.md (anycable/anycable).
Knows: strings. Does not know: options, requests.
"""

import hashlib
import hmac
from typing import Final

BROADCAST_PHRASE: Final = "broadcast-cable"
RPC_PHRASE: Final = "rpc-cable"


def derived_key(secret: str, phrase: str) -> str:
    """HMAC-SHA256 of a phrase under the secret, in lower-case hexadecimal digits."""
    return hmac.new(secret.encode(), phrase.encode(), hashlib.sha256).hexdigest()
