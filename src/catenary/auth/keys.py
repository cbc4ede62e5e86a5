"""Keys that are derived from the application's one secret.

A publisher and a server that share the secret come to the same keys without being told them.
Sources: docs/broadcasting.md, docs/rpc.md and docs/api.md (anycable/anycable).
Knows: keys and what they come from. Does not know: requests.
"""

import hashlib
import hmac
from typing import Final

from catenary.config.effective import Key

BROADCAST_PHRASE: Final = "broadcast-cable"
RPC_PHRASE: Final = "rpc-cable"
API_PHRASE: Final = "api-cable"


def derived_key(secret: str, phrase: str) -> str:
    """HMAC-SHA256 of a phrase under the secret, in lower-case hexadecimal digits."""
    return hmac.new(secret.encode(), phrase.encode(), hashlib.sha256).hexdigest()


def key_text(key: Key | None, phrase: str) -> str:
    """The key itself; empty where none is asked for."""
    if key is None:
        return ""
    return derived_key(key.text, phrase) if key.derived else key.text
