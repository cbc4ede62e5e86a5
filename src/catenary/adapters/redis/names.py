"""The names of keys and channels in Redis: nodes with the same names are one cluster of Catenary.

On a Redis Cluster, hash tags put all keys that one script uses into one slot: those of a stream, and those that are not of a
stream (sessions, members). The channel of a stream has the slot of its keys.
Knows: names. Does not know: what is stored there.
Source: redis.io, "Redis Cluster specification", section "Hash tags".
"""

import msgspec

from catenary.messages.names import Stream


class StreamKeys:
    """The keys of one kind, one for each stream."""

    __slots__ = ("_end", "_start")

    def __init__(self, start: str, end: str) -> None:
        self._start = start
        self._end = end

    def of(self, stream: Stream) -> str:
        return f"{self._start}{stream}{self._end}"


class StreamChannels:
    """The channels of streams, as bytes."""

    __slots__ = ("_end", "name", "start")

    def __init__(self, start: str, end: str) -> None:
        self.start = start.encode()
        """No other channel of Catenary begins with it."""
        self._end = end.encode()
        self.name = slice(len(self.start), -len(self._end) or None)
        """Where the name of the stream is in the name of its channel."""

    def of(self, stream: Stream) -> bytes:
        return self.start + stream.encode() + self._end


class RedisNames(msgspec.Struct, frozen=True):
    """Keys begin with ``prefix``. Remote commands are published on ``channel``, messages of streams on
    ``<channel>:<stream>``.

    With ``has_slots``, Redis is a cluster, and a stream is written as ``{:<stream>}``. The colon keeps the hash tag of a
    stream whose name begins with "}" from being empty.
    """

    prefix: str = "catenary"
    channel: str = "__anycable_internal__"
    has_slots: bool = False

    @property
    def shared(self) -> str:
        """The beginning of keys that are not of a stream. They are in one slot."""
        return f"{self.prefix}:{{:{self.channel}}}" if self.has_slots else self.prefix

    @property
    def reign(self) -> str:
        """The key that says since when the present primary is one."""
        return f"{self.prefix}:reign"

    @property
    def channels(self) -> StreamChannels:
        """The channels of messages of streams."""
        return StreamChannels(*self._around(self.channel))

    @property
    def moving(self) -> bytes:
        """The channel of messages of streams whose slot moves to another node."""
        return self.channel.encode() + b"#moving"

    def keys(self, kind: str) -> StreamKeys:
        """The keys ``<prefix>:<kind>:<stream>``."""
        return StreamKeys(*self._around(f"{self.prefix}:{kind}"))

    def _around(self, start: str) -> tuple[str, str]:
        """The text before and after the name of a stream."""
        return (f"{start}:{{:", "}") if self.has_slots else (f"{start}:", "")
