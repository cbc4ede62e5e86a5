"""Acts on single clients of this node for an operator or the application: closes the client's connection, or carries out a
command as if the client had sent it.

Knows: the node, the hub. Does not know: who asks, other nodes.
"""

import asyncio
from typing import Final, Literal

from catenary.messages.commands import Checkpoint, Command, Subscribe, Unsubscribe
from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason
from catenary.node.hub import Hub
from catenary.node.node import Node
from catenary.node.session import Session

Outcome = Literal["done", "unchanged", "rejected", "late", "busy"]
"""*Done*; *unchanged*: the client was in this state before; *rejected*: by the application, or by a limit of the client; *late*: the application
has not decided within :data:`DECISION_S`, but still may; *busy*: too many commands of the client wait, nothing was done."""

DECISION_S: Final = 8.0
"""Longest wait for the decision about a command."""

RECHECK_S: Final = 0.1
"""Interval of the checks whether the client has left: no event reports it."""


class Administration:
    """Acts on the clients of one node. Methods return None if this node has no such session."""

    __slots__ = ("_hub", "_node")

    def __init__(self, node: Node, hub: Hub) -> None:
        self._node = node
        self._hub = hub

    def disconnect(self, sid: Sid, *, reconnect: bool) -> Outcome | None:
        """Closes the connection of a session, which can't be resumed then; ``reconnect`` says whether its client may
        connect again by itself."""
        session = self._find(sid)
        if session is None:
            return None
        session.close(Reason.REMOTE, reconnect=reconnect)
        return "done"

    async def subscribe(self, sid: Sid, identifier: Identifier) -> Outcome | None:
        """Subscribes a client, after the commands that it has sent itself: the application decides, and the client gets the
        confirmation or rejection."""
        session = self._find(sid)
        if session is None:
            return None
        if identifier in session.subscriptions:
            return "unchanged"
        outcome = await self._execute(session, Subscribe(identifier))
        is_subscribed = identifier in session.subscriptions
        return "rejected" if outcome == "done" and not is_subscribed else outcome

    async def unsubscribe(self, sid: Sid, identifier: Identifier) -> Outcome | None:
        """Unsubscribes a client, after the commands that it has sent itself."""
        session = self._find(sid)
        if session is None:
            return None
        if identifier not in session.subscriptions:
            return "unchanged"
        return await self._execute(session, Unsubscribe(identifier))

    def _find(self, sid: Sid) -> Session | None:
        session = self._hub.sessions.find(sid)
        return None if session is None or session.closed else session

    async def _execute(self, session: Session, command: Command) -> Outcome | None:
        """Returns when the command is decided, or the client has left."""
        if session.inbox is not None and session.inbox.is_full:
            return "busy"
        loop = asyncio.get_running_loop()
        decided: asyncio.Future[None] = loop.create_future()

        def reached() -> None:
            if not decided.done():
                decided.set_result(None)

        self._node.submit(session, command)
        self._node.execute(session, Checkpoint(reached))
        give_up_at = loop.time() + DECISION_S
        while not decided.done():
            if session.closed:
                return None
            if loop.time() >= give_up_at:
                return "late"
            await asyncio.wait([decided], timeout=RECHECK_S)
        return None if session.closed else "done"
