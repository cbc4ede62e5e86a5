"""Reads a server's ``-ERR``: it refuses the user, or a subject that this user may not use.

Source: "Client Protocol" of the NATS documentation (docs.nats.io).
Knows: texts. Does not know: connections.
"""

import re
from typing import Final

_violation: Final = re.compile(
    r'permissions violation for (publish|subscription)(?: to| with reply of)? "(.*?)"(?: using queue ".*")?\Z',
    re.IGNORECASE | re.DOTALL,
).match

_LOGIN: Final = ("authorization", "authentication", "nkey", "jwt")


def forbidden_subject(words: str) -> tuple[str, str]:
    """Which subject this user may not publish on, or else subscribe to; both empty for another error."""
    found = _violation(words)
    if found is None:
        return "", ""
    kind, subject = found.groups()
    return (subject, "") if kind.lower() == "publish" else ("", subject)


def ending(words: str, credentials: str) -> str:
    """Why the server ends the connection; ``credentials`` names what this node has logged in with."""
    lower = words.lower()
    if "expired" in lower or "revoked" in lower:
        return f"{words}: renew {credentials}"
    if any(word in lower for word in _LOGIN):
        return f"it refuses {credentials}: {words}"
    return words
