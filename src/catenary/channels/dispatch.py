"""Dispatch: one call's methods are run in their order, what they raise is rescued, what they changed
is kept.

Source: ActiveSupport::Rescuable for ``rescue_from``. Knows: plans, the call that they run in.
Does not know: which call it is, what is answered.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from catenary.channels.call import Call, current
from catenary.channels.channel import Channel
from catenary.channels.connection import Connection
from catenary.channels.errors import AbandonedError, ConnectionUnauthorized, SubscriptionRejected
from catenary.channels.plans import Plan
from catenary.channels.running import Runner
from catenary.channels.states import State

_NO_ARGUMENTS: Final[dict[str, Any]] = {}

Prepare = Callable[[], dict[str, Any]]
"""Reads the arguments of a plan's main method; what it raises is the application's to rescue."""


def no_arguments() -> dict[str, Any]:
    """For methods that take none."""
    return _NO_ARGUMENTS


class Dispatcher:
    """Carries plans out; ``connection_states`` are the names that a connection keeps."""

    def __init__(self, runner: Runner, connection_states: tuple[State, ...]) -> None:
        self._runner = runner
        self._connection_states = connection_states

    async def carry_out(
        self,
        call: Call,
        plan: Plan,
        channel: Channel[Any] | None,
        connection: Connection,
        prepare: Prepare,
    ) -> Exception | None:
        """Runs the methods of a plan; returns what they raised, unless it was rescued."""
        token = current.set(call)
        try:
            try:
                await self._run(call, plan, channel, connection, prepare)
            except (SubscriptionRejected, ConnectionUnauthorized):
                call.is_rejected = True
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    raise
                # What the method waited for was cancelled, and not the call.
                return AbandonedError(error)
            except Exception as error:  # noqa: BLE001
                # Whatever an application raises costs this call and no other.
                return await self._rescue(call, plan, channel, connection, error)
            return self._keep(call, plan, channel, connection)
        finally:
            current.reset(token)

    async def _run(
        self,
        call: Call,
        plan: Plan,
        channel: Channel[Any] | None,
        connection: Connection,
        prepare: Prepare,
    ) -> None:
        arguments = prepare()
        for method in plan.methods:
            owner = channel if method.is_channels else connection
            if method is plan.main:
                await self._runner.run(method, owner, arguments, call.get_through)
            else:
                await self._runner.run(method, owner, _NO_ARGUMENTS)
            if call.is_rejected:
                return

    async def _rescue(
        self,
        call: Call,
        plan: Plan,
        channel: Channel[Any] | None,
        connection: Connection,
        error: Exception,
    ) -> Exception | None:
        """Lets the application answer for what was raised. A call that only says yes or no says no."""
        for rescuer in plan.rescuers:
            if isinstance(error, rescuer.kinds):
                owner = channel if rescuer.method.is_channels else connection
                try:
                    await self._runner.run(rescuer.method, owner, {rescuer.argument: error})
                except (SubscriptionRejected, ConnectionUnauthorized):
                    pass
                except Exception as another:  # noqa: BLE001
                    return another
                call.is_rejected = call.is_rejected or plan.says_yes
                return self._keep(call, plan, channel, connection)
        return error

    def _keep(
        self, call: Call, plan: Plan, channel: Channel[Any] | None, connection: Connection
    ) -> Exception | None:
        try:
            if self._connection_states:
                call.cstate = connection.changed_state(self._connection_states)
            if channel is not None and plan.states:
                call.istate.update(channel.changed_state(plan.states))
        except TypeError as error:
            return error
        return None


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
