"""Channels without an application, which grant a stream by its name: public, signed, Turbo, CableReady.

Source: docs/signed_streams.md (anycable). Knows: the grant of a name (``auth/streams.py``). Does not know: RPC.
"""

from typing import Final

from catenary.auth.streams import Resolve
from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.messages.replies import Confirmed, Rejected

NOT_GRANTED: Final = "the stream is not public, and its signature is missing or invalid"


class StreamChannel:
    """Subscribes clients to the streams that ``resolve`` grants. Satisfies :class:`catenary.ports.Channels`."""

    __slots__ = ("_resolve",)

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

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
        return Decision(
            streams=(grant.stream,),
            replies=(Confirmed(identifier),),
            whisper_stream=grant.stream if grant.whisper else None,
            presence_stream=grant.stream if grant.presence else None,
            disconnect_wanted=False,
        )

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Always accepts; the protocol has no reply to this command."""
        return Decision(stop_all_streams=True)

    def perform(self, environment: Environment, identifier: Identifier, data: str) -> Decision:
        """Raises :class:`AppFailed`, which is logged: there are no actions."""
        raise AppFailed("expected no actions on a stream without a channel")
