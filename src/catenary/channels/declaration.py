"""Declarations in channel and connection classes: params, state, actions, callbacks, timers.

Decorators only mark functions, so that type checkers see the signatures as written. The marks are read
once, when a cable is built.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, Literal, TypeVar, get_origin, get_type_hints, overload

import msgspec

from catenary.channels.errors import DeclarationError, InvalidArguments
from catenary.channels.rates import Rate, parse_rate
from catenary.channels.states import State
from catenary.messages.lenient_json import value_reader

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)

_MARKS: Final = "__catenary_marks__"

When = Literal[
    "before_subscribe",
    "after_subscribe",
    "before_unsubscribe",
    "after_unsubscribe",
    "before_command",
    "after_command",
]


class _Action(msgspec.Struct, frozen=True):
    rate: str | None


class _Callback(msgspec.Struct, frozen=True):
    when: When


class _Timer(msgspec.Struct, frozen=True):
    interval_s: float


class _Rescuer(msgspec.Struct, frozen=True):
    kinds: tuple[type[Exception], ...]


Mark = _Action | _Callback | _Timer | _Rescuer


def _mark(function: F, mark: Mark) -> F:
    setattr(function, _MARKS, (*getattr(function, _MARKS, ()), mark))
    return function


# Decorators


@overload
def action(function: F, /) -> F: ...
@overload
def action(*, rate: str | None = None) -> Callable[[F], F]: ...
def action(function: F | None = None, /, *, rate: str | None = None) -> F | Callable[[F], F]:
    """Lets clients call a method of a channel; methods without it can't be called.

    The client's data is checked against the types of the arguments before the method runs: other types
    raise :class:`InvalidArguments`. ``rate`` limits how often one subscription may call it: ``"5/s"``,
    ``"100/m"``, ``"20/10s"``; a call beyond it raises :class:`RateLimited`.
    """
    if function is not None:
        return _mark(function, _Action(rate))
    return lambda function: _mark(function, _Action(rate))


def every(interval_s: float) -> Callable[[F], F]:
    """Runs a method of a channel every ``interval_s`` seconds while its subscription lives.

    A run that is due while the last one is under way is skipped. Timers run in the server's process and
    in code workers, not behind RPC.
    """
    return lambda function: _mark(function, _Timer(interval_s))


def rescue_from(*kinds: type[Exception]) -> Callable[[F], F]:
    """Calls a method with each exception of these kinds that an action or a callback raises.

    On a connection it serves all channels. Of several that match, the one declared last is called.
    """
    return lambda function: _mark(function, _Rescuer(kinds))


class _Callbacks:
    """Decorators for methods that run before or after others: ``@callback.before_subscribe``."""

    def before_subscribe(self, function: F, /) -> F:
        """Runs the method before ``subscribed``; it may reject."""
        return _mark(function, _Callback("before_subscribe"))

    def after_subscribe(self, function: F, /) -> F:
        """Runs the method after ``subscribed``, unless the subscription was rejected."""
        return _mark(function, _Callback("after_subscribe"))

    def before_unsubscribe(self, function: F, /) -> F:
        """Runs the method before ``unsubscribed``."""
        return _mark(function, _Callback("before_unsubscribe"))

    def after_unsubscribe(self, function: F, /) -> F:
        """Runs the method after ``unsubscribed``."""
        return _mark(function, _Callback("after_unsubscribe"))

    def before_command(self, function: F, /) -> F:
        """On a connection: runs the method before every subscription and action; it may reject."""
        return _mark(function, _Callback("before_command"))

    def after_command(self, function: F, /) -> F:
        """On a connection: runs the method after every subscription and action that was not rejected."""
        return _mark(function, _Callback("after_command"))


callback: Final = _Callbacks()


# Declarations, as they are read


class Method(msgspec.Struct, frozen=True):
    """A method of a class: a coroutine function, or a plain one, which runs in a thread."""

    function: Function
    name: str
    kind: Literal["async", "sync"]
    is_channels: bool


def method_of(owner: type, name: str, *, is_channels: bool) -> Method:
    """The method of a class with this name."""
    function = getattr(owner, name)
    kind: Literal["async", "sync"] = "async" if inspect.iscoroutinefunction(function) else "sync"
    return Method(function, f"{owner.__name__}.{name}", kind, is_channels)


class Action(msgspec.Struct, frozen=True):
    """A method that clients may call."""

    method: Method
    rate: Rate | None
    read: Callable[[str], dict[str, Any]]
    """JSON → arguments. Raises :class:`InvalidArguments`."""


class Timer(msgspec.Struct, frozen=True):
    """A method that runs every ``interval_s`` seconds."""

    method: Method
    interval_s: float


class Rescuer(msgspec.Struct, frozen=True):
    """A method that is called with exceptions of these kinds."""

    method: Method
    kinds: tuple[type[Exception], ...]
    argument: str


class Declaration:
    """The declarations of one class."""

    def __init__(self, owner: type, root: type, *, is_channels: bool) -> None:
        """``root`` is Channel or Connection. Raises :class:`DeclarationError`."""
        self.owner = owner
        self.root = root
        self.actions: dict[str, Action] = {}
        self.timers: dict[str, Timer] = {}
        self.rescuers: list[Rescuer] = []
        self.callbacks: dict[str, list[Method]] = {}
        self._is_channels = is_channels
        for name, mark in _marked(owner):
            self._add(name, mark)
        self.states = tuple(
            each for name in dir(owner) if isinstance(each := _static(owner, name), State)
        )
        self.hints = _hints(owner)
        for state in self.states:
            if state.name in self.hints:
                state.declare(self.hints[state.name])

    def overridden(self, name: str) -> list[Method]:
        """The method with this name if the class overrides it, as a list of at most one."""
        if getattr(self.owner, name) is getattr(self.root, name):
            return []
        return [method_of(self.owner, name, is_channels=self._is_channels)]

    def of(self, when: When) -> list[Method]:
        """The callbacks of one kind, in order."""
        return self.callbacks.get(when, [])

    def fields(self) -> dict[str, Any]:
        """The params: annotated attributes that are no states. Names → types."""
        known = set(_hints(self.root)) | {state.name for state in self.states}
        return {
            name: hint
            for name, hint in self.hints.items()
            if name not in known and not name.startswith("_") and get_origin(hint) is not ClassVar
        }

    def _add(self, name: str, mark: Mark) -> None:
        method = method_of(self.owner, name, is_channels=self._is_channels)
        match mark:
            case _Action(rate):
                limit = None if rate is None else parse_rate(rate)
                self.actions[name] = Action(method, limit, arguments(self.owner, name))
            case _Callback(when):
                self.callbacks.setdefault(when, []).append(method)
            case _Timer(interval_s):
                if not interval_s > 0:
                    raise DeclarationError(f"{method.name}: expected seconds, got {interval_s}")
                self.timers[name] = Timer(method, interval_s)
            case _Rescuer(kinds):
                argument = list(inspect.signature(method.function).parameters)[1:]
                if len(argument) != 1:
                    raise DeclarationError(f"{method.name}: expected one argument, the exception")
                self.rescuers.insert(0, Rescuer(method, kinds, argument[0]))


def _static(owner: type, name: str) -> object:
    return inspect.getattr_static(owner, name, None)


def _marked(owner: type) -> Iterator[tuple[str, Mark]]:
    """Marked names, in the order of their first definition, each as the last class defines it."""
    names = [name for each in reversed(owner.__mro__) for name in vars(each)]
    for name in dict.fromkeys(names):
        for mark in getattr(_static(owner, name), _MARKS, ()):
            yield name, mark


def _hints(owner: type) -> dict[str, Any]:
    try:
        return get_type_hints(owner, include_extras=True)
    except NameError as error:
        raise DeclarationError(
            f"{owner.__name__}: expected annotations that exist at run time: {error}"
        ) from error


def params_struct(declaration: Declaration) -> type[msgspec.Struct] | None:
    """The struct of the params that an identifier must have; None if the class declares none.

    Raises :class:`DeclarationError` for types that can't be checked.
    """
    owner = declaration.owner
    fields: list[Any] = []
    for name, hint in declaration.fields().items():
        if hasattr(declaration.root, name):
            raise DeclarationError(f"{owner.__name__}.{name}: a param can't have this name")
        missing = object()
        default = getattr(owner, name, missing)
        fields.append((name, hint) if default is missing else (name, hint, default))
    if not fields:
        return None
    return _checkable(
        owner.__name__, msgspec.defstruct(f"{owner.__name__}Params", fields, kw_only=True)
    )


def _checkable(what: str, struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    try:
        # A schema exists only if JSON has every type in it; a decoder would accept more.
        msgspec.json.schema(struct)
    except TypeError as error:
        raise DeclarationError(
            f"{what}: expected types that JSON can be checked against: {error}"
        ) from error
    return struct


def arguments(owner: type, name: str) -> Callable[[str], dict[str, Any]]:
    """A function that reads an action's arguments from the client's data. Raises :class:`DeclarationError`."""
    function = getattr(owner, name)
    what = f"{owner.__name__}.{name}"
    parameters = list(inspect.signature(function).parameters.values())[1:]
    hints = get_type_hints(function, include_extras=True)
    rest = [each.name for each in parameters if each.kind is each.VAR_KEYWORD]
    fields: list[Any] = []
    for each in parameters:
        if each.kind is each.VAR_KEYWORD:
            continue
        if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL) or each.name == "action":
            raise DeclarationError(
                f"{what}: expected arguments with names of their own, got {each}"
            )
        hint = hints.get(each.name, Any)
        fields.append(
            (each.name, hint) if each.default is each.empty else (each.name, hint, each.default)
        )
    if not fields and not rest:
        return lambda _: {}
    struct = msgspec.defstruct(f"{name}_arguments", fields, kw_only=True)
    reader = value_reader(_checkable(what, struct))
    read_all = value_reader(dict[str, Any])

    def read(data: str) -> dict[str, Any]:
        try:
            known = msgspec.structs.asdict(reader(data))
            if not rest:
                return known
            return {**read_all(data), **known}
        except msgspec.DecodeError as error:
            raise InvalidArguments(f"{what}: {error}") from error

    def read_with_rest(data: str) -> dict[str, Any]:
        everything = read(data)
        everything.pop("action", None)
        return everything

    return read_with_rest if rest else read
