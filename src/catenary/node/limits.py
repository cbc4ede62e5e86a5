"""Limits of one client: of its commands, and of its application's decisions about it.

Knows: sizes and numbers. Does not know: what happens when a limit is exceeded.
"""

from collections.abc import Mapping, Sequence

import msgspec

from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Stream
from catenary.node.session import Subscription


class ClientLimits(msgspec.Struct, frozen=True):
    """0 means no limit. Sizes are in characters.

    The first two limit commands of clients, the others decisions of applications: streams of a subscription, size of a
    stream's name, keys and total size of the state of a connection or of a subscription. ``max_state_size`` also limits
    the identifiers of a connection and the presence info of a member.
    """

    max_identifier_size: int = 0
    max_subscriptions: int = 0
    max_streams: int = 0
    max_stream_name_size: int = 0
    max_state_keys: int = 0
    max_state_size: int = 0

    def excess(
        self, environment: Environment, subscription: Subscription | None, decision: Decision
    ) -> str:
        """Describes the first limit that a decision exceeds; empty if it exceeds none.

        ``subscription`` is the subject of the decision; None if it does not exist yet.
        """
        # Most decisions have one or two of these parts, and this is called twice for each connection.
        why = ""
        if decision.streams:
            why = self._streams_excess(subscription, decision) or self._names_excess(
                decision.streams
            )
        if decision.whisper_stream is not None:
            why = why or self._names_excess((decision.whisper_stream,))
        if decision.presence_stream is not None:
            why = why or self._names_excess((decision.presence_stream,))
        if decision.cstate:
            why = why or self._state_excess(
                "the connection", environment.cstate or {}, decision.cstate
            )
        if decision.istate:
            known = {} if subscription is None else environment.istate_of(subscription.identifier)
            why = why or self._state_excess("the subscription", known, decision.istate)
        if decision.identifiers:
            why = why or self._text_excess("identifiers", decision.identifiers)
        if decision.presence is not None:
            why = why or self._text_excess("presence info", decision.presence.info)
        return why

    def _streams_excess(self, subscription: Subscription | None, decision: Decision) -> str:
        limit, new = self.max_streams, decision.streams
        had = () if subscription is None or decision.stop_all_streams else subscription.streams
        if not limit or len(had) + len(new) <= limit or len({*had, *new}) <= limit:
            return ""
        return f"expected up to {limit} streams for a subscription (max_streams), got {len(new)}"

    def _names_excess(self, names: Sequence[Stream]) -> str:
        limit = self.max_stream_name_size
        for name in names:
            if 0 < limit < len(name):
                return (
                    f"expected names of streams of up to {limit} characters "
                    f"(max_stream_name_size), got {len(name)}: {name[:40]!r}…"
                )
        return ""

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

    def _text_excess(self, what: str, text: str) -> str:
        if 0 < self.max_state_size < len(text):
            return (
                f"expected {what} of up to {self.max_state_size} characters "
                f"(max_state_size), got {len(text)}"
            )
        return ""
