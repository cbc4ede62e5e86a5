"""What a client may say.

Source: Action Cable protocol, docs/misc/action_cable_protocol.md of docs.anycable.io.
"""

import msgspec

from catenary.messages.names import Identifier


class Subscribe(msgspec.Struct, frozen=True, gc=False):
    """Asks for a subscription."""

    identifier: Identifier


class Unsubscribe(msgspec.Struct, frozen=True, gc=False):
    """Gives a subscription back."""

    identifier: Identifier


class Perform(msgspec.Struct, frozen=True, gc=False):
    """Calls an action of a channel; ``data`` is JSON text that only the application reads."""

    identifier: Identifier
    data: str


class Whisper(msgspec.Struct, frozen=True, gc=False):
    """Speaks to the other subscribers of a stream; ``data`` is JSON text."""

    identifier: Identifier
    data: str


class ClientPing(msgspec.Struct, frozen=True, gc=False):
    """Asks for a pong."""


class ClientPong(msgspec.Struct, frozen=True, gc=False):
    """Answers a ping."""


Command = Subscribe | Unsubscribe | Perform | Whisper | ClientPing | ClientPong
ChannelCommand = Subscribe | Unsubscribe | Perform
