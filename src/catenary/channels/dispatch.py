"""Dispatch: one call's methods are run in their order, what they raise is rescued, what they changed
is kept.

Source: ActiveSupport::Rescuable for ``rescue_from``. Knows: plans, the call that they run in.
Does not know: which call it is, what is answered.
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
"""Reads the arguments of a plan's main method; what it raises is the application's to rescue."""


def no_arguments() -> dict[str, Any]:
    """For methods that take none."""
    return _NO_ARGUMENTS


class Owners(msgspec.Struct, frozen=True):
    """Whose methods a plan runs; without a ``channel`` the connection's alone."""

    connection: Connection
    channel: Channel[Any] | None = None

    def of(self, method: Method) -> Connection | Channel[Any] | None:
        """On whom a method is called."""
        return self.channel if method.is_channels else self.connection


class Dispatcher:
    """Carries plans out; ``connection_states`` are the names that a connection keeps."""

    def __init__(self, runner: Runner, connection_states: tuple[State, ...]) -> None:
        self._runner = runner
        self._connection_states = connection_states

    async def carry_out(
        self, call: Call, plan: Plan, owners: Owners, prepare: Prepare
    ) -> Exception | None:
        """Runs the methods of a plan; returns what they raised, unless it was rescued."""
        token = current.set(call)
        try:
            try:
                await self._run(call, plan, owners, prepare)
            except (SubscriptionRejected, ConnectionUnauthorized):
                call.is_rejected = True
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                # What the method waited for was cancelled, and not the call.
                return AbandonedError(error)
            except SystemExit as error:
                # asyncio would let it through, and end the server for all clients.
                return _exited(error)
            except Exception as error:  # noqa: BLE001
                # Whatever an application raises costs this call and no other.
                return await self._rescue(call, plan, owners, error)
            return self._keep(call, plan, owners)
        finally:
            current.reset(token)

    async def _run(self, call: Call, plan: Plan, owners: Owners, prepare: Prepare) -> None:
        arguments = prepare()
        for method in plan.methods:
            owner = owners.of(method)
            if method is plan.main:
                await self._runner.run(method, owner, arguments, call.get_through)
            else:
                await self._runner.run(method, owner, _NO_ARGUMENTS)
            if call.is_rejected:
                return

    async def _rescue(
        self, call: Call, plan: Plan, owners: Owners, error: Exception
    ) -> Exception | None:
        """Lets the application answer for what was raised. A call that only says yes or no says no."""
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
                return self._keep(call, plan, owners)
        return error

    def _keep(self, call: Call, plan: Plan, owners: Owners) -> Exception | None:
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
    """With where it was called, for the log."""
    exited = ExitedError(f"sys.exit({error.code!r}) ends this call, and not the server")
    exited.__cause__ = error
    return exited
