"""Three kinds of strings that must not be mixed up.

To call one of them costs as much as any function: where many are read, msgspec is told their types.
"""

from typing import NewType

Sid = NewType("Sid", str)
"""A session's id: unique among all nodes, told to the client in the welcome message."""

Stream = NewType("Stream", str)
"""What publications are addressed to. Clients never see it in the v1 protocol."""

Identifier = NewType("Identifier", str)
"""A subscription as its client names it: the JSON text of channel name and params, byte for byte."""
