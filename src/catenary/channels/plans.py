"""What each kind of call runs: read once from the classes, when a cable is built.

Knows: methods and their order. Does not know: calls.
"""

from collections.abc import Sequence
from typing import Any, cast, get_args, get_origin

import msgspec

from catenary.channels.call import Call
from catenary.channels.channel import Channel
from catenary.channels.connection import Connection
from catenary.channels.declaration import Declaration, Method, Rescuer, params_struct
from catenary.channels.errors import DeclarationError
from catenary.channels.rates import Rate, parse_rate
from catenary.channels.states import State
from catenary.channels.timers import DeclaredTimer
from catenary.messages.lenient_json import value_reader


class Plan(msgspec.Struct, frozen=True):
    """The methods of one kind of call, in their order; the ``main`` one takes arguments.

    One that ``says_yes`` lets a client in: not when something was raised, even if it was rescued.
    """

    methods: tuple[Method, ...]
    main: Method | None
    rescuers: tuple[Rescuer, ...]
    states: tuple[State, ...]
    """Of the channel: what may have changed afterwards."""
    says_yes: bool

    @property
    def is_empty(self) -> bool:
        """True where the application has written no code for this call."""
        return not self.methods


class Served:
    """A channel class, as this cable serves it."""

    def __init__(self, kind: type[Channel[Any]], connection: Declaration) -> None:
        declared = Declaration(kind, Channel, is_channels=True)
        self.kind = kind
        self.actions = declared.actions
        self.declared_timers = tuple(
            DeclaredTimer(kind.channel_name, name, timer.interval_s)
            for name, timer in declared.timers.items()
        )
        self.rate: Rate | None = (
            None if kind.channel_rate is None else parse_rate(kind.channel_rate)
        )
        params = params_struct(declared)
        self.read_params = None if params is None else value_reader(params)
        self._rescuers = (*declared.rescuers, *connection.rescuers)
        self._connection = connection
        self._states = declared.states
        self.subscribe = self._plan(
            declared.of("before_subscribe"),
            declared.own("subscribed"),
            declared.of("after_subscribe"),
            says_yes=True,
        )
        self.unsubscribe = self._plan(
            declared.of("before_unsubscribe"),
            declared.own("unsubscribed"),
            declared.of("after_unsubscribe"),
            # Nobody may refuse that something ends.
            is_command=False,
        )
        self.restore = self._plan([], declared.own("restored"), [])
        self.nothing = self._plan([], [], [])
        self.performs = {
            name: self._plan([], [each.method], []) for name, each in self.actions.items()
        }
        self.timer_plans = {
            name: self._plan([], [each.method], []) for name, each in declared.timers.items()
        }

    def build(self, call: Call, connection: Connection) -> Channel[Any]:
        """Raises :class:`msgspec.ValidationError` for params that are not as declared."""
        channel = self.kind(call, connection)
        if self.read_params is not None:
            channel.__dict__.update(msgspec.structs.asdict(self.read_params(call.identifier)))
        return channel

    def _plan(
        self,
        before: list[Method],
        main: list[Method],
        after: list[Method],
        *,
        is_command: bool = True,
        says_yes: bool = False,
    ) -> Plan:
        around = self._connection
        methods = [*before, *main, *after]
        if is_command:
            methods = [*around.of("before_command"), *methods, *around.of("after_command")]
        return plan_of(
            tuple(methods),
            next(iter(main), None),
            self._rescuers,
            states=self._states,
            says_yes=says_yes,
        )


def plan_of(
    methods: tuple[Method, ...],
    main: Method | None,
    rescuers: tuple[Rescuer, ...],
    *,
    states: tuple[State, ...] = (),
    says_yes: bool = False,
) -> Plan:
    return Plan(methods, main, rescuers, states, says_yes)


def connection_of(kind: type[Channel[Any]]) -> type[Connection]:
    """The connection class that a channel is declared with: ``Channel[AppConnection]``."""
    for each in kind.__mro__:
        for base in getattr(each, "__orig_bases__", ()):
            (wanted, *_) = get_args(base) or (None,)
            if get_origin(base) is Channel and isinstance(wanted, type):
                return cast(type[Connection], wanted)
    return Connection


def served_channels(
    channels: Sequence[type[Channel[Any]]], connection: Declaration
) -> dict[str, Served]:
    """The channels of a cable by their names.

    Raises :class:`DeclarationError` for two of one name, and for one that is declared with another
    connection class.
    """
    served: dict[str, Served] = {}
    for kind in channels:
        if kind.channel_name in served:
            raise DeclarationError(
                f"expected channels of different names, got {kind.channel_name} twice"
            )
        wanted = connection_of(kind)
        if not issubclass(connection.owner, wanted):
            raise DeclarationError(
                f"{kind.__name__}: expected connections of {wanted.__name__}, the cable has"
                f" {connection.owner.__name__}"
            )
        served[kind.channel_name] = Served(kind, connection)
    return served
