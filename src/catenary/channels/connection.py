"""One client of the application, for as long as one call lasts.

Source: ActionCable::Connection::Base, and docs/rails/channels_state.md (docs.anycable.io).
Knows: identifiers, state, the client's request. Does not know: channels, how it is called.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, overload
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from catenary.channels.call import Call
from catenary.channels.errors import ConnectionUnauthorized
from catenary.channels.states import State, changes
from catenary.messages.environment import AsgiEnvironment, Environment
from catenary.messages.lenient_json import read_object

T = TypeVar("T")


class Headers(Mapping[str, str]):
    """The request's headers, as far as the server passes them on; names in any case."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in values.items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Request:
    """The HTTP request that opened the connection."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    @property
    def url(self) -> str:
        """The whole URL."""
        return self._environment.url

    @cached_property
    def path(self) -> str:
        """The URL's path, decoded."""
        return unquote(urlsplit(self.url).path)

    @cached_property
    def params(self) -> Mapping[str, str]:
        """The URL's query; of several values of one name, the last."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @cached_property
    def headers(self) -> Headers:
        """Only what the server is told to pass on: its option ``headers``."""
        return Headers(self._environment.headers)

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        """The client's cookies, as they were set; one that can't be read spoils no other."""
        pairs = (each.partition("=") for each in self.headers.get("cookie", "").split(";"))
        return {
            name.strip(): value.strip().removeprefix('"').removesuffix('"')
            for name, equals, value in pairs
            if equals and name.strip()
        }

    @property
    def remote_addr(self) -> str:
        """The client's address, empty where the server does not tell it."""
        return self.headers.get("remote_addr", "")

    @property
    def scope(self) -> Mapping[str, Any]:
        """What the ASGI application in which the cable is mounted knows of the request, such as
        ``scope["session"]``; empty elsewhere, and where the session has outlived its request."""
        environment = self._environment
        return environment.scope if isinstance(environment, AsgiEnvironment) else {}

    @property
    def state(self) -> Mapping[str, Any]:
        """``scope["state"]``: what its lifespan and its middleware left there."""
        state: Mapping[str, Any] = self.scope.get("state", {})
        return state


class Connection:
    """Who a client is. Subclass it, name ``identified_by``, and write ``connect``.

    Objects live for one call. What ``identified_by`` names is set by ``connect`` and can be read in
    every call; what is declared with ``Connection.state`` can be changed in every call. Other
    attributes can't be set: they would be gone in the next call.
    """

    identified_by: ClassVar[tuple[str, ...]] = ()
    """Attributes that say who this is. They may be annotated with types that JSON can carry."""

    def __init__(self, call: Call, hints: Mapping[str, Any]) -> None:
        """For the cable alone."""
        self.__dict__["_call"] = call
        self.__dict__["_hints"] = hints
        self.__dict__["_is_open"] = False

    # For authors to write

    def connect(self) -> Awaitable[None] | None:
        """Lets the client in, having set what ``identified_by`` names, or rejects it."""
        return None

    def disconnect(self) -> Awaitable[None] | None:
        """The client is gone, and its subscriptions have been told so."""
        return None

    # For authors to call

    @property
    def sid(self) -> str:
        """The session's id: what others exclude with ``exclude_socket``."""
        return self._environment.sid

    @cached_property
    def request(self) -> Request:
        """How the client came."""
        return Request(self._environment)

    def reject_unauthorized_connection(self) -> NoReturn:
        """In ``connect``: the client is sent away, and told not to come back."""
        self._call.is_rejected = True
        raise ConnectionUnauthorized

    def close(self) -> None:
        """Ends the connection, once what was transmitted is sent."""
        self._call.closes = True

    @overload
    @staticmethod
    def state(default: T) -> T: ...
    @overload
    @staticmethod
    def state(*, default_factory: Callable[[], T]) -> T: ...
    @staticmethod
    def state(default: Any = None, *, default_factory: Callable[[], Any] | None = None) -> Any:
        """Declares an attribute that survives between calls, as JSON."""
        return State(default, default_factory)

    # For the cable

    @property
    def _environment(self) -> Environment:
        call: Call = self.__dict__["_call"]
        return call.environment

    @property
    def _call(self) -> Call:
        call: Call = self.__dict__["_call"]
        return call

    def kept_state(self) -> Mapping[str, str]:
        """What the server keeps of this connection."""
        return self._environment.cstate or {}

    def changed_state(self, states: tuple[State, ...]) -> dict[str, str]:
        """What it has to keep anew. Raises TypeError for what JSON can't carry."""
        return changes(states, self, self.kept_state())

    def identify(self) -> str:
        """The identifiers, as JSON. Raises TypeError where one was not set."""
        values = {}
        for name in self.identified_by:
            if name not in self.__dict__:
                raise TypeError(f"{type(self).__name__}.connect: expected {name} to be set")
            values[name] = self.__dict__[name]
        return identifiers(values)

    def open_for_identifiers(self) -> None:
        """Now ``connect`` runs."""
        self.__dict__["_is_open"] = True

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Only for what is not set: identifiers, when they are first read in a later call.
            if name not in type(self).identified_by or self._is_open:
                raise AttributeError(f"{type(self).__name__} has no {name}")
            kept = _read_identifiers(self._environment.identifiers)
            for each, value in kept.items():
                hint = self._hints.get(each, Any)
                self.__dict__.setdefault(each, msgspec.convert(value, hint))
            if name not in kept:
                raise AttributeError(f"{type(self).__name__}: {name} is not among the identifiers")
            return self.__dict__[name]

        def __setattr__(self, name: str, value: object) -> None:
            if name in type(self).identified_by:
                if not self._is_open:
                    raise AttributeError(f"{name}: identifiers are set in connect alone")
                self.__dict__[name] = value
                return
            refuse_strangers(self, name)
            object.__setattr__(self, name, value)


def refuse_strangers(instance: object, name: str) -> None:
    """Raises AttributeError for an attribute that would be gone in the next call."""
    known = getattr(type(instance), name, None)
    if isinstance(known, State | property):
        return
    kind = type(instance).__name__
    raise AttributeError(
        f"{kind}.{name} would be gone after this call: declare it with {name}: … = "
        f"{kind}.state(…), or compute it with functools.cached_property"
    )


def identifiers(values: Mapping[str, object]) -> str:
    """Identifiers as the server knows them; empty where there are none."""
    return msgspec.json.encode(values).decode() if values else ""


def _read_identifiers(text: str) -> dict[str, Any]:
    return read_object(text) if text else {}
