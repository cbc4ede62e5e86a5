"""Limits of one client: of its commands, and of its application's decisions about it.

Knows: sizes and numbers. Does not know: what happens when a limit is exceeded.
"""

import sys
from collections.abc import Mapping

import msgspec

from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Stream
from catenary.node.session import Subscription


class ClientLimits(msgspec.Struct, frozen=True):
    """0 means no limit. Sizes are in characters.

    The first two limit commands of clients, the others decisions of applications: streams of a subscription, size of a
    stream's name, keys and total size of the state of a connection or of a subscription. ``max_state_size`` also limits
    the identifiers of a connection and the presence info of a member. ``max_user_connections`` limits the clients of this
    node with the same connection identifiers, ``max_command_rate`` the commands of a client per second.
    """

    max_identifier_size: int = 0
    max_subscriptions: int = 0
    max_streams: int = 0
    max_stream_name_size: int = 0
    max_state_keys: int = 0
    max_state_size: int = 0
    max_user_connections: int = 0
    max_command_rate: int = 0

    def excess(
        self, environment: Environment, subscription: Subscription | None, decision: Decision
    ) -> str:
        """Describes the first limit that a decision exceeds; empty if it exceeds none.

        ``subscription`` is the subject of the decision; None if it does not exist yet.
        """
        # Inlined, and only for what a decision contains: this is called twice for each connection.
        why = ""
        longest = self.max_stream_name_size or sys.maxsize
        if decision.streams:
            why = self._streams_excess(subscription, decision)
            for name in decision.streams:
                if len(name) > longest:
                    why = why or self._long_name(name)
        whisper, presence = decision.whisper_stream, decision.presence_stream
        if whisper is not None and len(whisper) > longest:
            why = why or self._long_name(whisper)
        if presence is not None and len(presence) > longest:
            why = why or self._long_name(presence)
        if decision.cstate:
            why = why or self._state_excess(
                "the connection", environment.cstate or {}, decision.cstate
            )
        if decision.istate:
            known = {} if subscription is None else environment.istate_of(subscription.identifier)
            why = why or self._state_excess("the subscription", known, decision.istate)
        if 0 < self.max_state_size < len(decision.identifiers):
            why = why or self._long_text("identifiers", decision.identifiers)
        if decision.presence is not None and 0 < self.max_state_size < len(decision.presence.info):
            why = why or self._long_text("presence info", decision.presence.info)
        return why

    def _streams_excess(self, subscription: Subscription | None, decision: Decision) -> str:
        limit, new = self.max_streams, decision.streams
        had = () if subscription is None or decision.stop_all_streams else subscription.streams
        if not limit or len(had) + len(new) <= limit or len({*had, *new}) <= limit:
            return ""
        return f"expected up to {limit} streams for a subscription (max_streams), got {len(new)}"

    def _long_name(self, name: Stream) -> str:
        return (
            f"expected names of streams of up to {self.max_stream_name_size} characters "
            f"(max_stream_name_size), got {len(name)}: {name[:40]!r}…"
        )

    def _state_excess(self, whose: str, had: Mapping[str, str], new: Mapping[str, str]) -> str:
        state = {**had, **new} if had else new
        if 0 < self.max_state_keys < len(state):
            return (
                f"expected up to {self.max_state_keys} keys of state for {whose} "
                f"(max_state_keys), got {len(state)}"
            )
        size = sum(map(len, state)) + sum(map(len, state.values()))
        if 0 < self.max_state_size < size:
            return (
                f"expected state of up to {self.max_state_size} characters for {whose} "
                f"(max_state_size), got {size}"
            )
        return ""

    def _long_text(self, what: str, text: str) -> str:
        return (
            f"expected {what} of up to {self.max_state_size} characters "
            f"(max_state_size), got {len(text)}"
        )
