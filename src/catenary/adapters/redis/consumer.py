"""One consumer of a group that shares a Redis stream: the commands of Redis, and what they answer.

Only commands of Redis 6.2 are used. Every method raises :class:`redis.exceptions.RedisError` or
OSError where Redis is away, is silent for too long, or refuses.
Knows: streams and groups. Does not know: what the entries say, who takes them.
Source: redis.io, "Redis Streams".
"""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ResponseError

T = TypeVar("T")

_REMOVE: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
"""Removes a consumer that owes nothing. In one step: what a removed consumer owed would be lost."""


class Entry(NamedTuple):
    """An entry of the stream. ``fields`` are names and values in turn; None where it was deleted
    from the stream before it was acknowledged."""

    id: bytes
    fields: list[bytes] | None


class Consumer:
    """A consumer with a name that no other process has."""

    __slots__ = ("_blocked", "_claimed_to", "_client", "_group", "_patience_s", "_stream", "name")

    def __init__(self, client: Redis, stream: str, group: str, patience_s: float) -> None:
        self.name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._client = client
        self._stream = stream
        self._group = group
        self._patience_s = patience_s
        self._blocked: asyncio.Timeout | None = None
        self._claimed_to: str | bytes = "0-0"
        # redis-py answers in another shape for each of its versions and protocols.
        client.set_response_callback("XREADGROUP", _entries)

    async def join(self) -> None:
        """Sees to it that the group is there. A new one begins with all that the stream holds:
        what was published before any node came, or after Redis lost the group, is wanted."""
        try:
            await self._within_patience(
                self._client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
            )
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def read_new(self, count: int, block_ms: int) -> list[Entry]:
        """Entries that nobody has got yet; waits for the first one, and answers none after a while.

        :meth:`interrupt` ends it with TimeoutError; what Redis gave out all the same is owed.
        """
        try:
            async with asyncio.timeout(block_ms / 1000 + self._patience_s) as self._blocked:
                return await self._read(">", count, "BLOCK", block_ms)
        finally:
            self._blocked = None

    def interrupt(self) -> None:
        """Ends a wait for new entries, if there is one."""
        if self._blocked is not None and not self._blocked.expired():
            self._blocked.reschedule(asyncio.get_running_loop().time())

    async def read_owed(self, count: int) -> list[Entry]:
        """The first entries that this consumer has got and not acknowledged.

        For each of them the time runs anew after which others may claim it, in the same step:
        nothing is answered that another consumer has claimed.
        """
        return await self._within_patience(self._read("0", count))

    async def acknowledge(self, ids: Sequence[bytes]) -> None:
        """They are done: no consumer gets them any more, and the stream does not keep them."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xack(self._stream, self._group, *ids)
        pipeline.xdel(self._stream, *ids)
        await self._within_patience(pipeline.execute())

    async def claim(self, count: int, idle_s: float) -> int:
        """Takes over what any consumer got this long ago and did not acknowledge; how many.

        Redis looks at ten times ``count`` entries; the next call goes on behind them.
        """
        answer = await self._within_patience(
            self._client.xautoclaim(
                *(self._stream, self._group, self.name, int(idle_s * 1000)),
                start_id=self._claimed_to,
                count=count,
            )
        )
        self._claimed_to = answer[0]
        return len(answer[1])

    async def lag(self) -> int:
        """How many entries wait in the stream for any consumer to take them."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xlen(self._stream)
        pipeline.xpending(self._stream, self._group)
        length, owed = await self._within_patience(pipeline.execute())
        waiting: int = length - owed["pending"]
        return max(waiting, 0)

    async def remove_silent(self, idle_s: float) -> list[str]:
        """Removes consumers that owe nothing and have not asked for anything this long: names.

        Each consumer calls this more often than that. It shows that it lives itself: before Redis
        7.2, to wait for new entries does not.
        """
        await self.read_owed(1)
        consumers = await self._within_patience(
            self._client.xinfo_consumers(self._stream, self._group)
        )
        silent = [
            each["name"]
            for each in consumers
            if each["pending"] == 0 and each["idle"] >= idle_s * 1000
        ]
        return [name.decode(errors="replace") for name in silent if await self._remove(name)]

    async def leave(self) -> bool:
        """Removes this consumer; False, and it stays, where it owes something for others to claim."""
        return await self._remove(self.name)

    async def _remove(self, name: str | bytes) -> bool:
        removal = self._client.eval(_REMOVE, 1, self._stream, self._group, name)
        return bool(await self._within_patience(removal))

    async def _read(self, after: str, count: int, *waiting: str | int) -> list[Entry]:
        entries: list[Entry] = await self._client.execute_command(  # type: ignore[no-untyped-call]
            *("XREADGROUP", "GROUP", self._group, self.name),
            *("COUNT", count, *waiting),
            *("STREAMS", self._stream, after),
        )
        return entries

    async def _within_patience(self, answer: Awaitable[T]) -> T:
        async with asyncio.timeout(self._patience_s):
            return await answer


def _entries(response: Any, **kwargs: Any) -> list[Entry]:
    """The entries of the one stream that was read: a list of pairs before RESP3, then a dict."""
    if not response:
        return []
    entries = next(iter(response.values())) if isinstance(response, dict) else response[0][1]
    return [Entry(id_, fields) for id_, fields in entries]
