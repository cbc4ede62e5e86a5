"""Channels without an application, which grant a stream by its name: public, signed, Turbo, CableReady.

Source: docs/signed_streams.md (anycable). Knows: the grant of a name (``auth/streams.py``). Does not know: RPC.
"""

from typing import Final

from catenary.auth.streams import Resolve
from catenary.broker.stream_rules import StreamRules
from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.messages.replies import Confirmed, Rejected

NOT_GRANTED: Final = "the stream is not public, and its signature is missing or invalid"


class StreamChannel:
    """Subscribes clients to the streams that ``resolve`` grants. Satisfies :class:`catenary.ports.Channels`.

    The rule of a stream comes before its grant in deciding about whispers and presence.
    """

    __slots__ = ("_resolve", "_rules")

    def __init__(self, resolve: Resolve, rules: StreamRules | None = None) -> None:
        self._resolve = resolve
        self._rules = rules or StreamRules()

    def subscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Confirms the subscription if its stream is granted, else rejects it."""
        grant = self._resolve(identifier)
        if grant is None:
            return Decision(
                verdict=Verdict.FAILURE,
                replies=(Rejected(identifier),),
                disconnect_wanted=False,
                error=NOT_GRANTED,
            )
        rule = self._rules.of(grant.stream)
        whisper = grant.whisper if rule.whisper is None else rule.whisper
        presence = grant.presence if rule.presence is None else rule.presence
        return Decision(
            streams=(grant.stream,),
            replies=(Confirmed(identifier),),
            whisper_stream=grant.stream if whisper else None,
            presence_stream=grant.stream if presence else None,
            disconnect_wanted=False,
        )

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Always accepts; the protocol has no reply to this command."""
        return Decision(stop_all_streams=True)

    def perform(self, environment: Environment, identifier: Identifier, data: str) -> Decision:
        """Raises :class:`AppFailed`, which is logged: there are no actions."""
        raise AppFailed("expected no actions on a stream without a channel")
