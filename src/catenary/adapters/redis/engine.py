"""Redis as the engine of a cluster: the connections for commands, and the stores that use them.

Knows: how the stores are built. Does not know: who uses them.
"""

import msgspec

from catenary.adapters.redis import appender, history, presence, sessions, stream_records
from catenary.adapters.redis.appender import RedisAppender
from catenary.adapters.redis.client import connect
from catenary.adapters.redis.cluster_commands import ClusterCommands
from catenary.adapters.redis.commands import Commands, RedisCommands, Script
from catenary.adapters.redis.history import RedisHistory
from catenary.adapters.redis.names import RedisNames
from catenary.adapters.redis.presence import RedisPresence
from catenary.adapters.redis.sessions import RedisSessions
from catenary.adapters.redis.stream_records import RedisStreamRecords
from catenary.broker.history_limits import NOTHING, HistoryLimit, HistoryLimits
from catenary.broker.limits import Limits
from catenary.broker.stream_rules import StreamRules
from catenary.config.addresses import RedisAddress
from catenary.metrics.counters import Counters
from catenary.supervision.service import Supervisor


class RedisEngine:
    """The stores that nodes share. Without ``limits`` nothing is stored: there is only pub/sub."""

    __slots__ = (
        "address",
        "appender",
        "commands",
        "counters",
        "history",
        "names",
        "presence",
        "sessions",
        "stream_records",
    )

    def __init__(
        self,
        address: RedisAddress,
        names: RedisNames,
        limits: Limits | None,
        counters: Counters,
        supervisor: Supervisor | None = None,
        *,
        rules: StreamRules | None = None,
    ) -> None:
        """``rules`` may have other limits for a stream."""
        has_slots = bool(address.cluster_nodes)
        names = msgspec.structs.replace(names, has_slots=has_slots)
        self.address = address
        self.names = names
        self.counters = counters
        self.history: RedisHistory | None = None
        self.sessions: RedisSessions | None = None
        self.presence: RedisPresence | None = None
        self.stream_records: RedisStreamRecords | None = None
        scripts: tuple[Script, ...] = appender.SCRIPTS
        if has_slots:
            scripts += appender.CLUSTER_SCRIPTS
        if limits is not None:
            scripts += (*history.SCRIPTS, *sessions.SCRIPTS, *presence.SCRIPTS)
            scripts += stream_records.SCRIPTS
        self.commands: RedisCommands
        if has_slots:
            self.commands = ClusterCommands(
                address,
                scripts,
                counters,
                supervisor,
                keeps=limits is not None,
                moving=names.moving,
            )
        else:
            self.commands = Commands(
                connect(address),
                scripts,
                counters,
                supervisor,
                keeps=limits is not None,
                reign_key=names.reign if limits is not None else "",
            )
        usual = HistoryLimit(limits.history_limit, limits.history_ttl_s) if limits else NOTHING
        stored = HistoryLimits(usual, rules)
        self.appender = RedisAppender(self.commands, names, stored)
        if limits is None:
            return
        self.history = RedisHistory(self.commands, names, stored)
        self.sessions = RedisSessions(self.commands, names.shared, ttl_s=limits.sessions_ttl_s)
        self.presence = RedisPresence(self.commands, names.shared, ttl_s=limits.presence_ttl_s)
        self.stream_records = RedisStreamRecords(
            self.commands,
            self.appender,
            names,
            gone_s=int(stored.largest.ttl_s),
        )

    @property
    def trouble(self) -> str | None:
        """Why Redis can't be used at the moment; None if it can."""
        return self.commands.trouble

    async def start(self) -> None:
        """Starts to connect; does not wait for Redis."""
        await self.commands.start()

    async def close(self, timeout_s: float) -> None:
        """Waits for outstanding replies, then disconnects."""
        await self.commands.close(timeout_s)
