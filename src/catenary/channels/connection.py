"""A connection as its application sees it: one client, for the length of one call.

Source: ActionCable::Connection::Base, and docs/rails/channels_state.md (docs.anycable.io).
Knows: identifiers, state, the client's request. Does not know: channels, servers.
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
    """The headers of the request that the server passes on. Names are case-insensitive."""

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
        """The URL, with its query."""
        return self._environment.url

    @cached_property
    def path(self) -> str:
        """The URL's path, decoded."""
        return unquote(urlsplit(self.url).path)

    @cached_property
    def params(self) -> Mapping[str, str]:
        """The query of the URL; of several values of one name, the last one."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @cached_property
    def headers(self) -> Headers:
        """The headers that the server passes on: those of its option ``headers``."""
        return Headers(self._environment.headers)

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        """The cookies of the request. A cookie that can't be parsed is left out."""
        pairs = (each.partition("=") for each in self.headers.get("cookie", "").split(";"))
        return {
            name.strip(): value.strip().removeprefix('"').removesuffix('"')
            for name, equals, value in pairs
            if equals and name.strip()
        }

    @property
    def remote_addr(self) -> str:
        """The IP address of the client, empty if the server does not pass it on."""
        return self.headers.get("remote_addr", "")

    @property
    def scope(self) -> Mapping[str, Any]:
        """The ASGI scope of the request, such as ``scope["session"]``, if the cable is mounted in an ASGI
        application; otherwise, and after the session was resumed by another connection, empty."""
        environment = self._environment
        return environment.scope if isinstance(environment, AsgiEnvironment) else {}

    @property
    def state(self) -> Mapping[str, Any]:
        """``scope["state"]``, which the lifespan and the middleware of the ASGI application fill."""
        state: Mapping[str, Any] = self.scope.get("state", {})
        return state


class Connection:
    """A client. Subclass it, name ``identified_by``, and write ``connect``.

    ::

        class User(Connection):
            identified_by = ("user_id",)
            user_id: int

            async def connect(self) -> None:
                self.user_id = user_of(self.request.cookies) or self.reject_unauthorized_connection()

    Objects live for one call. ``connect`` sets the attributes in ``identified_by``, and every later call
    can read them; attributes declared with ``Connection.state`` can be changed in every call. Setting
    any other attribute raises AttributeError, because it would be lost after the call.
    """

    identified_by: ClassVar[tuple[str, ...]] = ()
    """The names of the attributes that identify a client, annotated with types that JSON can carry."""

    def __init__(self, call: Call, hints: Mapping[str, Any]) -> None:
        """Called by the cable only."""
        self.__dict__["_call"] = call
        self.__dict__["_hints"] = hints
        self.__dict__["_is_open"] = False

    # To be overridden

    def connect(self) -> Awaitable[None] | None:
        """Accepts the client after setting its identifiers, or rejects it. An exception rejects it, too."""
        return None

    def disconnect(self) -> Awaitable[None] | None:
        """Runs once after the client has left, after ``unsubscribed`` of its channels."""
        return None

    # To be called

    @property
    def sid(self) -> str:
        """The id of the session; ``exclude_socket`` of a broadcast takes it."""
        return self._environment.sid

    @cached_property
    def request(self) -> Request:
        """The HTTP request that opened the connection."""
        return Request(self._environment)

    def reject_unauthorized_connection(self) -> NoReturn:
        """Rejects the client in ``connect``; it does not reconnect. Ends the method by an exception."""
        self._call.is_rejected = True
        raise ConnectionUnauthorized

    def close(self) -> None:
        """Closes the connection after its transmissions are sent."""
        self._call.closes = True

    @overload
    @staticmethod
    def state(default: T) -> T: ...
    @overload
    @staticmethod
    def state(*, default_factory: Callable[[], T]) -> T: ...
    @staticmethod
    def state(default: Any = None, *, default_factory: Callable[[], Any] | None = None) -> Any:
        """Declares an attribute that survives between calls: ``seen: int = Connection.state(0)``.

        The server stores it as JSON. A list or dict needs a ``default_factory``.
        """
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

    def stored_state(self) -> Mapping[str, str]:
        """The stored state of this connection: names → JSON."""
        return self._environment.cstate or {}

    def changed_state(self, states: tuple[State, ...]) -> dict[str, str]:
        """The state to store after this call. Raises TypeError for a value that JSON can't carry."""
        return changes(states, self, self.stored_state())

    def identify(self) -> str:
        """The identifiers, as JSON. Raises TypeError if one was not set."""
        values = {}
        for name in self.identified_by:
            if name not in self.__dict__:
                raise TypeError(f"{type(self).__name__}.connect: expected {name} to be set")
            values[name] = self.__dict__[name]
        return identifiers(values)

    def open_for_identifiers(self) -> None:
        """Allows setting identifiers, because ``connect`` runs next."""
        self.__dict__["_is_open"] = True

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Called for attributes that are not set: identifiers, on their first use in a later call.
            if name not in type(self).identified_by or self._is_open:
                raise AttributeError(f"{type(self).__name__} has no {name}")
            stored = _read_identifiers(self._environment.identifiers)
            for each, value in stored.items():
                hint = self._hints.get(each, Any)
                self.__dict__.setdefault(each, msgspec.convert(value, hint))
            if name not in stored:
                raise AttributeError(f"{type(self).__name__}: {name} is not among the identifiers")
            return self.__dict__[name]

        def __setattr__(self, name: str, value: object) -> None:
            if name in type(self).identified_by:
                if not self._is_open:
                    raise AttributeError(f"{name}: identifiers can be set in connect only")
                self.__dict__[name] = value
                return
            refuse_undeclared(self, name)
            object.__setattr__(self, name, value)


def refuse_undeclared(instance: object, name: str) -> None:
    """Raises AttributeError for an attribute that would be lost after the call."""
    known = getattr(type(instance), name, None)
    if isinstance(known, State | property):
        return
    kind = type(instance).__name__
    raise AttributeError(
        f"{kind}.{name} would be gone after this call: declare it with {name}: … = "
        f"{kind}.state(…), or compute it with functools.cached_property"
    )


def identifiers(values: Mapping[str, object]) -> str:
    """Identifiers as the JSON that the server stores; empty if there are none."""
    return msgspec.json.encode(values).decode() if values else ""


def _read_identifiers(text: str) -> dict[str, Any]:
    return read_object(text) if text else {}
