"""Two nodes with one cache of sessions in memory, which is away, slow or refuses where a test says so."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from catenary.adapters.memory.sessions import LocalSessions
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.messages.names import Sid
from catenary.node.session import Traits
from tests.parts.heart import NEVER, Client, Heart, settle

T = TypeVar("T")

TTL_S = 10


class SharedSessions:
    """Satisfies :class:`catenary.ports.SessionCache`, for several nodes.

    Calls take effect in their order and are answered at once, or, where ``is_slow``, when a test
    says so. While it ``is_away`` nothing takes effect. Snapshots of more than ``max_bytes`` are
    refused for good, and so are all calls in ``refused``.
    """

    is_shared = True

    def __init__(self) -> None:
        self.now = 0.0
        self.kept = LocalSessions(ttl_s=TTL_S, clock=lambda: self.now)
        self.calls: list[tuple[str, str]] = []
        self.is_away = False
        self.is_slow = False
        self.max_bytes = 1_000_000
        self.refused: set[str] = set()
        self._owed: list[asyncio.Future[None]] = []

    @property
    def sids(self) -> list[Sid]:
        """Whose sessions are there."""
        return sorted(self.kept._snapshots._kept)

    def lose_everything(self) -> None:
        self.kept = LocalSessions(ttl_s=TTL_S, clock=lambda: self.now)

    def save(self, sid: Sid, snapshot: bytes, *, is_new: bool = True) -> Awaitable[None]:
        self.calls.append(("save new" if is_new else "save", sid))
        if len(snapshot) > self.max_bytes:
            return self._refuse(TooLarge(f"expected at most {self.max_bytes} bytes"))
        if "save" in self.refused:
            return self._refuse(BackendRefused("WRONGTYPE"))
        return self._do(lambda: self.kept.save(sid, snapshot, is_new=is_new))

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

    def give_up(self) -> tuple[bytes, ...]:
        return ()

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
        """Gives all answers that are owed."""
        for owed in self._owed:
            if owed.done():
                continue
            if error is None:
                owed.set_result(None)
            else:
                owed.set_exception(error)
        self._owed.clear()


class Cluster:
    """Two nodes with one cache."""

    def __init__(self, *, restored_action: str = "") -> None:
        self.sessions = SharedSessions()
        self.nodes = [
            Heart(sessions=self.sessions, restored_action=restored_action) for _ in range(2)
        ]

    async def connect(self, node: int, sid: str, resumes: str | None = None) -> Client:
        client = self.begin(node, sid, resumes)
        await settle()
        return client

    def begin(self, node: int, sid: str, resumes: str | None = None) -> Client:
        wanted = None if resumes is None else Sid(resumes)
        traits = Traits(NEVER, is_resumable=True, resumes=wanted)
        return self.nodes[node].connect(sid, traits=traits)

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
            self.nodes[each].node.touch_resumable()
            self.nodes[each].node.keep_time()
        await settle()

    async def ended(self) -> list[str]:
        """Whose end the application has heard of, in all."""
        await asyncio.sleep(0.005)  # the disconnector's pace is one in 0.1 ms
        return sorted(env.sid for heart in self.nodes for env, _ in heart.application.ended)


def is_restored(client: Client) -> bool:
    return bool(client.heard and client.heard[0].get("restored"))
