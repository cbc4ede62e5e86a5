"""The key of one subscription: a session may have several, each with an identifier of its own."""

import msgspec

from catenary.messages.names import Identifier, Sid


class SubscriptionKey(msgspec.Struct, frozen=True):
    """One subscription of one session."""

    sid: Sid
    identifier: Identifier
