"""Routes decisions: to the application of a client's realm, to the channel that an identifier names, else to the default
application.

Source: router/router.go of anycable-go. Knows: channel names. Does not know: what the channels do.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.lenient_json import JSON_ERRORS, read_again
from catenary.messages.names import Identifier
from catenary.ports import Application, Channels


class _Params(msgspec.Struct, gc=False):
    channel: str


_read: Final = msgspec.json.Decoder(_Params).decode


def channel_name(identifier: Identifier) -> str | None:
    """The channel of an identifier; None if it is not a JSON object with a channel."""
    try:
        return _read(identifier).channel
    except JSON_ERRORS as error:
        return _channel_again(identifier, error)


def _channel_again(identifier: Identifier, error: Exception) -> str | None:
    try:
        return read_again(_read, identifier, error).channel
    except msgspec.DecodeError:
        return None


Identify = Callable[[Environment], Decision | Awaitable[Decision] | None]
"""Decides about a connection without the application; None passes the decision on."""


class Router:
    """Satisfies :class:`catenary.ports.Application`.

    The application of its realm decides everything about a client that has one. About other clients, the first of
    ``identify`` that returns a decision decides about a connection, the channel in ``channels`` about its
    subscriptions, ``default`` about everything else.
    """

    __slots__ = ("_channels", "_default", "_identify", "_realms")

    def __init__(
        self,
        default: Application,
        *,
        channels: Mapping[str, Channels],
        identify: Sequence[Identify],
        realms: Mapping[str, Application] | None = None,
    ) -> None:
        self._default = default
        self._channels = dict(channels)
        self._identify = tuple(identify)
        self._realms = dict(realms or {})

    def _of(self, environment: Environment, identifier: Identifier) -> Channels:
        if environment.realm:
            return self._realms[environment.realm]
        if not self._channels:
            return self._default
        name = channel_name(identifier)
        return self._default if name is None else self._channels.get(name, self._default)

    def connect(self, environment: Environment) -> Decision | Awaitable[Decision]:
        if environment.realm:
            return self._realms[environment.realm].connect(environment)
        for identify in self._identify:
            decision = identify(environment)
            if decision is not None:
                return decision
        return self._default.connect(environment)

    def subscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        return self._of(environment, identifier).subscribe(environment, identifier)

    def unsubscribe(
        self, environment: Environment, identifier: Identifier
    ) -> Decision | Awaitable[Decision]:
        return self._of(environment, identifier).unsubscribe(environment, identifier)

    def perform(
        self, environment: Environment, identifier: Identifier, data: str
    ) -> Decision | Awaitable[Decision]:
        return self._of(environment, identifier).perform(environment, identifier, data)

    def disconnect(
        self, environment: Environment, subscriptions: tuple[Identifier, ...]
    ) -> Awaitable[None]:
        application = self._realms[environment.realm] if environment.realm else self._default
        return application.disconnect(environment, subscriptions)
