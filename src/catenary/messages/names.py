"""Three kinds of strings that must not be mixed up.

Calling one of them costs as much as any function, so structs that are decoded often declare these types.
"""

from typing import Final, NewType

Sid = NewType("Sid", str)
"""The id of a session: unique among all nodes, sent to the client in the welcome message."""

Stream = NewType("Stream", str)
"""The destination of publications. Clients never see it in the v1 protocol."""

RESERVED: Final = "\0"
"""The beginning of the names of the streams that nodes have for themselves. No client may name one of them."""

Identifier = NewType("Identifier", str)
"""The name of a subscription: the JSON text of its channel and params, byte for byte as the client sent it."""
