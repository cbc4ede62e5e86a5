"""An application that admits nobody, for endpoints whose protocol refuses a connection after its handshake.

Knows: decisions. Does not know: why, how the client is notified: its codec does.
"""

from typing import Final

from catenary.errors import AppFailed
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier

REFUSED: Final = "refused"
"""The realm of this application."""


class RefusingApplication:
    """Satisfies :class:`catenary.ports.Application`."""

    __slots__ = ()

    def connect(self, environment: Environment) -> Decision:
        """Refuses every client."""
        return Decision(verdict=Verdict.FAILURE)

    def subscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Raises :class:`AppFailed`: no client is connected."""
        raise AppFailed("expected no command of a client that was refused")

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Raises :class:`AppFailed`: no client is connected."""
        return self.subscribe(environment, identifier)

    def perform(self, environment: Environment, identifier: Identifier, data: str) -> Decision:
        """Raises :class:`AppFailed`: no client is connected."""
        return self.subscribe(environment, identifier)

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        """Does nothing."""
