"""No application (``--norpc``): everything that nothing else decides is refused.

Source: docs/configuration.md (anycable/anycable), and the answers of anycable-go 1.6.16 (its NullController).
"""

import msgspec

from catenary.errors import AppUnavailable
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier

_NONE = "there is no application (norpc)"

_UNAUTHORIZED = Decision(
    verdict=Verdict.FAILURE,
    transmissions=('{"type":"disconnect","reason":"unauthorized","reconnect":false}',),
    error=_NONE,
)


class NoApplication:
    """Satisfies :class:`catenary.ports.Application`: refuses connections and subscriptions."""

    __slots__ = ()

    def connect(self, environment: Environment) -> Decision:
        """Refuses the connection; the client does not reconnect."""
        return _UNAUTHORIZED

    def subscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Rejects the subscription."""
        rejection = {"type": "reject_subscription", "identifier": identifier}
        return Decision(
            verdict=Verdict.FAILURE,
            transmissions=(msgspec.json.encode(rejection).decode(),),
            error=_NONE,
        )

    def unsubscribe(self, environment: Environment, identifier: Identifier) -> Decision:
        """Raises :class:`AppUnavailable`: there are no subscriptions of an application."""
        raise AppUnavailable("expected an application to unsubscribe from, got none (norpc)")

    def perform(self, environment: Environment, identifier: Identifier, data: str) -> Decision:
        """Raises :class:`AppUnavailable`: there is no application to act."""
        raise AppUnavailable("expected an application to perform the action, got none (norpc)")

    async def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> None:
        """Does nothing."""
