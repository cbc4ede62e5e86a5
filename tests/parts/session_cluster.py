"""Two nodes with one cache of sessions in memory, which is unavailable, slow or refusing when a test decides."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

from catenary.adapters.memory.sessions import LocalSessions
from catenary.broker.revocations import Revocations
from catenary.errors import BackendError, BackendRefused, NotCaughtUp, TooLarge
from catenary.messages.names import Sid
from catenary.messages.publications import RemoteDisconnect
from catenary.node.session import Traits
from catenary.node.session_writer import SessionWriter
from tests.parts.heart import NEVER, Client, Heart, settle

T = TypeVar("T")

TTL_S = 10


class SharedSessions:
    """The cache that several nodes share.

    Calls take effect in their order and are answered at once, or, where ``is_slow``, when a test
    says so. While it ``is_away`` nothing takes effect. Snapshots of more than ``max_bytes`` are
    refused for good, and so are all calls in ``refused``. ``disconnects`` are the remote disconnects
    that were sent.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.kept = LocalSessions(ttl_s=TTL_S, clock=lambda: self.now)
        self.calls: list[tuple[str, str]] = []
        self.is_away = False
        self.is_slow = False
        self.max_bytes = 1_000_000
        self.refused: set[str] = set()
        self.amended = 0
        """Bytes that were written by amending."""
        self._owed: list[asyncio.Future[None]] = []
        self.disconnects: list[RemoteDisconnect] = []

    @property
    def sids(self) -> list[Sid]:
        """The stored sessions."""
        return sorted(self.kept._snapshots._kept)

    def lose_everything(self) -> None:
        self.kept = LocalSessions(ttl_s=TTL_S, clock=lambda: self.now)

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> Awaitable[None]:
        self.calls.append(("save new" if is_new else "save", sid))
        if max(map(len, snapshot.split(b"\n"))) > self.max_bytes:
            return self._refuse(TooLarge(f"expected at most {self.max_bytes} bytes"))
        if "save" in self.refused:
            return self._refuse(BackendRefused("WRONGTYPE"))
        return self._do(lambda: self.kept.save(sid, snapshot, is_new=is_new))

    def amend(self, sid: Sid, lines: Mapping[int, bytes]) -> Awaitable[None]:
        self.calls.append(("amend", sid))
        self.amended += sum(map(len, lines.values()))
        if max(map(len, lines.values())) > self.max_bytes:
            return self._refuse(TooLarge(f"expected at most {self.max_bytes} bytes"))
        if "save" in self.refused:
            return self._refuse(BackendRefused("WRONGTYPE"))
        return self._do(lambda: self.kept.amend(sid, lines))

    def touch(self, sids: Collection[Sid]) -> Awaitable[None]:
        return self._do(lambda: self.kept.touch(sids))

    def take(self, sid: Sid) -> Awaitable[bytes | None]:
        self.calls.append(("take", sid))
        if "take" in self.refused:
            return self._refuse(BackendRefused("WRONGTYPE"))
        return self._do(lambda: self.kept.take(sid))

    def expire(self) -> Awaitable[tuple[bytes, ...]]:
        if "expire" in self.refused:
            return self._refuse(BackendRefused("WRONGTYPE"))
        return self._do(self.kept.expire)

    def _refuse(self, error: BackendRefused) -> "asyncio.Future[Any]":
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_exception(error)
        return answer

    def _do(self, effect: Callable[[], T]) -> Awaitable[T]:
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self.is_away:
            answer.set_exception(BackendError("away"))
            return answer
        result = effect()
        if not self.is_slow:
            answer.set_result(result)
            return answer
        owed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owed.append(owed)
        return self._answer_later(owed, result)

    async def _answer_later(self, owed: "asyncio.Future[None]", result: T) -> T:
        await owed
        return result

    def answer(self, error: Exception | None = None) -> None:
        """Gives all pending answers."""
        for owed in self._owed:
            if owed.done():
                continue
            if error is None:
                owed.set_result(None)
            else:
                owed.set_exception(error)
        self._owed.clear()


class NodeSessions:
    """Satisfies :class:`catenary.ports.SessionCache`: one node's view of the shared sessions."""

    is_shared = True

    def __init__(self, shared: SharedSessions) -> None:
        self._shared = shared
        self.revocations = Revocations(TTL_S)
        self.save = shared.save
        self.amend = shared.amend
        self.touch = shared.touch
        self.remove = shared.take
        self.expire = shared.expire

    def take(self, sid: Sid) -> Awaitable[bytes | None]:
        if self.revocations.newest < len(self._shared.disconnects):
            answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
            answer.set_exception(NotCaughtUp("not all disconnects have been received"))
            return answer
        return self._shared.take(sid)

    def give_up(self) -> tuple[bytes, ...]:
        return ()

    def missed(self) -> list[RemoteDisconnect]:
        """The remote disconnects that this node has not received; it has from now on."""
        missed = self._shared.disconnects[self.revocations.newest :]
        for each in missed:
            self.revocations.revoke(each.identifiers, self._shared.now)
        return missed


class Cluster:
    """Two nodes with one cache."""

    def __init__(self, *, restored_action: str = "") -> None:
        self.sessions = SharedSessions()
        self.views = [NodeSessions(self.sessions) for _ in range(2)]
        self.nodes = [Heart(sessions=each, restored_action=restored_action) for each in self.views]

    def writer(self, node: int) -> SessionWriter:
        """The writer of one node's sessions."""
        writer = self.nodes[node].node._resumption._writer
        assert isinstance(writer, SessionWriter)
        return writer

    async def connect(self, node: int, sid: str, resumes: str | None = None) -> Client:
        client = self.begin(node, sid, resumes)
        await settle()
        return client

    def begin(self, node: int, sid: str, resumes: str | None = None) -> Client:
        wanted = None if resumes is None else Sid(resumes)
        traits = Traits(NEVER, is_resumable=True, resumes=wanted)
        return self.nodes[node].connect(sid, traits=traits)

    def disconnect(self, identifiers: str, *nodes: int, reconnect: bool = False) -> None:
        """A remote disconnect, which these nodes receive at once, or all."""
        self.sessions.disconnects.append(RemoteDisconnect(identifiers, reconnect))
        self.receive(*nodes)

    def receive(self, *nodes: int) -> None:
        """These nodes receive the remote disconnects that they have missed, or all nodes do."""
        for each in nodes or range(len(self.nodes)):
            for command in self.views[each].missed():
                self.nodes[each].hub.deliver(command)

    def is_behind(self, node: int) -> bool:
        """Has this node not received all remote disconnects?"""
        return self.views[node].revocations.newest < len(self.sessions.disconnects)

    async def leave(self, *clients: Client) -> None:
        for client in clients:
            client.leave()
        await settle()

    async def elapse(self, seconds: float, *nodes: int) -> None:
        """Time goes by on these nodes, or on all; each second they touch and look."""
        for _ in range(int(seconds)):
            self.sessions.now += 1
            await self.tick(*nodes)

    async def tick(self, *nodes: int) -> None:
        for each in nodes or range(len(self.nodes)):
            self.nodes[each].node.touch_sessions()
            self.nodes[each].node.tick()
        await settle()

    async def ended(self) -> list[str]:
        """The sessions for which Disconnect was called, on all nodes."""
        for each in self.nodes:
            await each.disconnector.drain(5)
        return sorted(env.sid for heart in self.nodes for env, _ in heart.application.ended)


def is_restored(client: Client) -> bool:
    return bool(client.heard and client.heard[0].get("restored"))
