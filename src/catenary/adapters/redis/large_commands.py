"""Commands with thousands of arguments, packed part by part, so that the caller can pause in between.

Knows: RESP arrays. Does not know: connections, scripts' contents.
Source: redis.io, "Redis serialization protocol specification", "Transactions".
"""

from collections.abc import Iterable
from typing import Final

from catenary.adapters.redis.connection import Argument, pack
from catenary.errors import TooLarge

_MULTI: Final = pack("MULTI")
_EXEC: Final = pack("EXEC")


def check_size(packed: bytes, args: Iterable[Argument], limit: int) -> None:
    """Raises :class:`TooLarge` if one of the arguments, which are packed already, is longer than ``limit`` bytes."""
    if len(packed) <= limit:
        return
    for each in args:
        if isinstance(each, int):
            continue
        if len(each.encode() if isinstance(each, str) else each) > limit:
            raise TooLarge(f"expected at most {limit} bytes (proto-max-bulk-len of Redis)")


class _Arguments:
    """A part of an array of arguments."""

    __slots__ = ("_limit", "count", "parts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.count = 0
        self.parts: list[bytes] = []

    def add(self, *args: Argument) -> None:
        """Raises :class:`TooLarge`."""
        packed = pack(*args)
        check_size(packed, args, self._limit)
        # Without the line that says how many there are: "*<number>\r\n".
        self.parts.append(packed[packed.index(b"\n") + 1 :])
        self.count += len(args)


class ScriptCall:
    """A call of one script. ``limit`` is the greatest length of an argument in bytes. A cluster runs it where ``key`` is."""

    __slots__ = ("_args", "_keys", "_sha", "key", "replies")

    def __init__(self, sha: str, limit: int, key: Argument = "") -> None:
        self.key = key
        self._sha = sha
        self._keys = _Arguments(limit)
        self._args = _Arguments(limit)
        self.replies: Final = 1

    def add(self, keys: Iterable[Argument], *args: Argument) -> None:
        """Adds keys, and arguments after them. Raises :class:`TooLarge`."""
        self._keys.add(*keys)
        self._args.add(*args)

    def packed(self) -> bytes:
        """The whole command."""
        keys, args = self._keys, self._args
        call = pack("EVALSHA", self._sha, keys.count)
        rest = call[call.index(b"\n") + 1 :]
        return b"".join(
            (b"*%d\r\n" % (3 + keys.count + args.count), rest, *keys.parts, *args.parts)
        )


class Transaction:
    """Commands that take effect in one step, all or none (MULTI and EXEC).

    None takes effect if Redis refuses to queue one. One that fails while it is executed fails alone: Redis does not
    roll back.
    """

    __slots__ = ("_limit", "_parts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts = [_MULTI]

    @property
    def replies(self) -> int:
        """How many replies Redis sends."""
        return len(self._parts) + 1

    def add(self, *args: Argument) -> None:
        """Adds a command. Raises :class:`TooLarge`."""
        packed = pack(*args)
        check_size(packed, args, self._limit)
        self._parts.append(packed)

    def packed(self) -> bytes:
        """All commands."""
        return b"".join((*self._parts, _EXEC))


LargeCommand = ScriptCall | Transaction
