"""Runs the methods of one call in order, lets the application rescue exceptions, and collects changed
state.

Source: ActiveSupport::Rescuable for ``rescue_from``. Knows: plans, the call that they run in.
Does not know: which call it is, replies.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from catenary.channels.call import Call, current
from catenary.channels.channel import Channel
from catenary.channels.connection import Connection
from catenary.channels.declaration import Method
from catenary.channels.errors import (
    AbandonedError,
    ConnectionUnauthorized,
    ExitedError,
    SubscriptionRejected,
)
from catenary.channels.plans import Plan
from catenary.channels.running import Runner
from catenary.channels.states import State
from catenary.supervision.service import is_cancelled

_NO_ARGUMENTS: Final[dict[str, Any]] = {}

Prepare = Callable[[], dict[str, Any]]
"""Reads the arguments of a plan's main method; the application may rescue its exceptions."""


def no_arguments() -> dict[str, Any]:
    """The arguments of methods that take none."""
    return _NO_ARGUMENTS


class Owners(msgspec.Struct, frozen=True):
    """The objects on which the methods of a plan are called; some plans have no ``channel``."""

    connection: Connection
    channel: Channel[Any] | None = None

    def of(self, method: Method) -> Connection | Channel[Any] | None:
        """The object on which a method is called."""
        return self.channel if method.is_channels else self.connection


class Dispatcher:
    """Runs plans; ``connection_states`` are the states that the connection class declares."""

    def __init__(self, runner: Runner, connection_states: tuple[State, ...]) -> None:
        self._runner = runner
        self._connection_states = connection_states

    async def carry_out(
        self, call: Call, plan: Plan, owners: Owners, prepare: Prepare
    ) -> Exception | None:
        """Runs the methods of a plan; returns the exception of one, unless it was rescued."""
        token = current.set(call)
        try:
            try:
                await self._run(call, plan, owners, prepare)
            except (SubscriptionRejected, ConnectionUnauthorized):
                call.is_rejected = True
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                # A future that the method awaited was cancelled, not the call.
                return AbandonedError(error)
            except SystemExit as error:
                # asyncio would pass it on and end the server.
                return _exited(error)
            except Exception as error:  # noqa: BLE001
                # An exception of the application must fail this call only.
                return await self._rescue(call, plan, owners, error)
            return self._collect_state(call, plan, owners)
        finally:
            current.reset(token)

    async def _run(self, call: Call, plan: Plan, owners: Owners, prepare: Prepare) -> None:
        arguments = prepare()
        for method in plan.methods:
            owner = owners.of(method)
            if method is plan.main:
                await self._runner.run(method, owner, arguments, call.complete)
            else:
                await self._runner.run(method, owner, _NO_ARGUMENTS)
            if call.is_rejected:
                return

    async def _rescue(
        self, call: Call, plan: Plan, owners: Owners, error: Exception
    ) -> Exception | None:
        """Runs the first rescuer that matches. A rescued ``connect`` or ``subscribed`` still rejects."""
        for rescuer in plan.rescuers:
            if isinstance(error, rescuer.kinds):
                owner, arguments = owners.of(rescuer.method), {rescuer.argument: error}
                try:
                    await self._runner.run(rescuer.method, owner, arguments)
                except (SubscriptionRejected, ConnectionUnauthorized):
                    pass
                except SystemExit as exiting:
                    return _exited(exiting)
                except Exception as another:  # noqa: BLE001
                    return another
                call.is_rejected = call.is_rejected or plan.says_yes
                return self._collect_state(call, plan, owners)
        return error

    def _collect_state(self, call: Call, plan: Plan, owners: Owners) -> Exception | None:
        channel = owners.channel
        try:
            if self._connection_states:
                call.cstate = owners.connection.changed_state(self._connection_states)
            if channel is not None and plan.states:
                call.istate.update(channel.changed_state(plan.states))
        except TypeError as error:
            return error
        return None


def _exited(error: SystemExit) -> ExitedError:
    """The error for the log, with the traceback of the exit."""
    exited = ExitedError(f"sys.exit({error.code!r}) ends this call, and not the server")
    exited.__cause__ = error
    return exited
