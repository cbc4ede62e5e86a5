"""The application of a Pusher app's clients: grants the streams of its channels, and calls nothing.

The reader of their messages (``protocols/pusher_reader.py``) has checked the signature of a subscription before it becomes
a command. Clients of other endpoints never reach this application, whatever identifiers they name.
Knows: channel names, the app. Does not know: signatures, JSON.
"""

from catenary.config.pusher_apps import PusherApp
from catenary.errors import AppFailed
from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.messages.replies import Confirmed
from catenary.protocols.pusher_events import is_presence, takes_client_events
from catenary.routing.identity import everybody


def realm_of(app: PusherApp) -> str:
    """The realm of an app's clients."""
    return f"pusher:{app.id}"


class PusherApplication:
    """Satisfies :class:`catenary.ports.Application`. Identifiers are names of channels."""

    __slots__ = ("_app",)

    def __init__(self, app: PusherApp) -> None:
        self._app = app

    def connect(self, environment: Environment) -> Decision:
        """Accepts every client."""
        return everybody(environment)

    def subscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Grants the channel's stream. On a presence channel the members, which the client reads next, confirm it."""
        stream = self._app.stream_of(identifier)
        has_members = is_presence(identifier)
        may_send = self._app.client_events and takes_client_events(identifier)
        return Decision(
            streams=(stream,),
            replies=() if has_members else (Confirmed(identifier),),
            whisper_stream=stream if may_send else None,
            presence_stream=stream if has_members else None,
            disconnect_wanted=False,
        )

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Always accepts; the protocol has no reply to this command."""
        return Decision(stop_all_streams=True)

    def perform(self, environment: Environment, identifier: Identifier, data: str) -> Decision:
        """Raises :class:`AppFailed`, which is logged: there are no actions."""
        raise AppFailed("expected no actions on a Pusher channel")

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        """Does nothing: nobody is to be notified."""
