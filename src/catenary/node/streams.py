"""Streams without an application: clients name the stream that they want to hear.

Source: docs/signed_streams.md (anycable), "Public streams". Knows: identifiers. Does not know: RPC.
"""

from typing import Final

import msgspec

from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier, Stream
from catenary.messages.replies import Confirmed, Rejected


class _Params(msgspec.Struct, gc=False):
    stream_name: str = ""
    signed_stream_name: str = ""


_read: Final = msgspec.json.Decoder(_Params).decode


class PublicStreams:
    """The ``$pubsub`` channel: everybody may hear, and whisper to, any stream by its name.

    Satisfies :class:`catenary.ports.Channels`. Where ``is_allowed`` is false, and for a name that
    is signed, it refuses.
    """

    __slots__ = ("_is_allowed",)

    def __init__(self, *, is_allowed: bool) -> None:
        self._is_allowed = is_allowed

    def subscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Confirms or rejects, without asking anybody."""
        try:
            params = _read(identifier)
        except (msgspec.DecodeError, RecursionError):
            return _rejection(identifier)
        if not self._is_allowed or not params.stream_name or params.signed_stream_name:
            return _rejection(identifier)
        stream = Stream(params.stream_name)
        return Decision(
            streams=(stream,),
            replies=(Confirmed(identifier),),
            whispers_to=stream,
            disconnect_wanted=False,
        )

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Always agrees; says nothing to the client, as the protocol wants it."""
        return Decision(stop_all_streams=True)

    def perform(self, environment: Environment, identifier: Identifier, data: str) -> Decision:
        """There are no actions: raises :class:`AppFailed`, which is logged."""
        raise AppFailed("expected no actions on a stream without a channel")


def _rejection(identifier: Identifier) -> Decision:
    return Decision(
        verdict=Verdict.FAILURE, replies=(Rejected(identifier),), disconnect_wanted=False
    )
