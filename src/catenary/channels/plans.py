"""Plans: the methods that each kind of call runs. Read from the classes once, when a cable is built.

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
    """The methods of one kind of call, in order; the ``main`` one takes arguments.

    A plan that ``says_yes`` accepts a client or a subscription: an exception rejects it, even if it was
    rescued.
    """

    methods: tuple[Method, ...]
    main: Method | None
    rescuers: tuple[Rescuer, ...]
    states: tuple[State, ...]
    """The states of the channel, which the methods may change."""
    says_yes: bool

    @property
    def is_empty(self) -> bool:
        """Whether the application has no code for this call."""
        return not self.methods


class ServedChannel:
    """A channel class as a cable serves it: its plans, and how params are read."""

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
            declared.overridden("subscribed"),
            declared.of("after_subscribe"),
            says_yes=True,
        )
        self.unsubscribe = self._plan(
            declared.of("before_unsubscribe"),
            declared.overridden("unsubscribed"),
            declared.of("after_unsubscribe"),
            # An end can't be refused.
            is_command=False,
        )
        self.restore = self._plan([], declared.overridden("restored"), [])
        self.nothing = self._plan([], [], [])
        self.performs = {
            name: self._plan([], [each.method], []) for name, each in self.actions.items()
        }
        self.timer_plans = {
            name: self._plan([], [each.method], []) for name, each in declared.timers.items()
        }

    def build(self, call: Call, connection: Connection) -> Channel[Any]:
        """A channel for one call. Raises :class:`msgspec.ValidationError` for params of other types."""
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
    """The connection class of a channel: ``User`` for ``Channel[User]``."""
    for each in kind.__mro__:
        for base in getattr(each, "__orig_bases__", ()):
            (wanted, *_) = get_args(base) or (None,)
            if get_origin(base) is Channel and isinstance(wanted, type):
                return cast(type[Connection], wanted)
    return Connection


def served_channels(
    channels: Sequence[type[Channel[Any]]], connection: Declaration
) -> dict[str, ServedChannel]:
    """The channels of a cable, by name.

    Raises :class:`DeclarationError` for two with one name, and for one with another connection class.
    """
    served: dict[str, ServedChannel] = {}
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
        served[kind.channel_name] = ServedChannel(kind, connection)
    return served
