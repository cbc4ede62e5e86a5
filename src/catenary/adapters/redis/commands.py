"""Commands to Redis over one connection, in the order of the calls.

A call writes a command and returns a future. All calls of one turn of the event loop are one write, and replies come in
the same order. While Redis is unavailable, a call fails at once.
Knows: commands, scripts, outages. Does not know: keys, values.
"""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import hiredis
from redis.asyncio import Redis

from catenary.adapters.redis.connection import (
    LONGEST_PAUSE_S,
    Argument,
    RedisConnection,
    close_client,
    open_connection,
    pack,
)
from catenary.adapters.redis.large_commands import (
    LargeCommand,
    ScriptCall,
    Transaction,
    check_size,
)
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.metrics.counters import Counters
from catenary.protocols.redis_errors import is_lasting, refusal
from catenary.supervision.backoff import Backoff
from catenary.supervision.service import Service, Supervisor

_log: Final = logging.getLogger("catenary.redis")

REPLY_TIMEOUT_S: Final = 5.0
"""If a call has no reply after this time, the connection is dropped."""

PENDING_LIMIT: Final = 100_000
"""Calls without a reply; further ones fail."""

PENDING_BYTES_LIMIT: Final = 64 * 1024 * 1024

MAX_ARGUMENT_BYTES: Final = 512 * 1024 * 1024
"""The longest argument that Redis accepts by default (``proto-max-bulk-len``)."""

NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""The beginning of a script that needs the time: milliseconds of Redis' clock, the same for all nodes."""


class Script:
    """A Lua script, which Redis runs in one step. Once loaded, it is called by its hash."""

    __slots__ = ("sha", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324


BEGIN_REIGN: Final = Script(
    NOW
    + """
local known = redis.call('HMGET', KEYS[1], 'run', 'since')
local since = known[2]
if known[1] ~= ARGV[1] then
  since = string.format('%.0f', math.max(now, (tonumber(since) or 0) + 1))
end
redis.call('HSET', KEYS[1], 'run', ARGV[1], 'since', since)
return since
"""
)
"""Returns since when, in ms, the server is the primary. The run that is stored last is that of the last primary to which a
node has connected: a server that was demoted and promoted again, in the same run, has it from the primary between. It always writes, so that a replica refuses it."""


class RedisCommands(Protocol):
    """Commands to one server (:class:`Commands`), or to a cluster (``ClusterCommands``).

    ``trouble`` is why Redis can't be used at the moment, None if it can. ``run_id`` is an argument of scripts, which identifies
    the run of the server that executes them, and since when that is the primary: ``<run id>[.<ms>]``. ``waiting_num`` is the number of commands without a reply. ``replaced`` is done
    when servers that were lost work again, or others in their place: what they published may not have arrived.
    """

    up_since_s: float
    run_id: bytes
    replaced: "asyncio.Future[str]"

    @property
    def trouble(self) -> str | None: ...

    @property
    def waiting_num(self) -> int: ...

    async def start(self) -> None: ...

    async def close(self, timeout_s: float) -> None: ...

    def call(self, *args: Argument) -> "asyncio.Future[Any]": ...

    def call_all(self, *args: Argument) -> "list[asyncio.Future[Any]]": ...

    def run(
        self, script: Script, keys: Sequence[Argument], *args: Argument
    ) -> "asyncio.Future[Any]": ...

    def script_call(self, script: Script, key: Argument = "") -> ScriptCall: ...

    def send(self, command: LargeCommand) -> "asyncio.Future[Any]": ...

    def is_settled(self, ttl_s: float) -> bool: ...


class Call:
    """A command that was sent. ``is_repeated`` says that its script was missing the first time; ``replies`` counts the
    replies that are still to come: more than one for a transaction, whose last one is the answer."""

    __slots__ = ("future", "is_repeated", "packed", "replies", "sent_at")

    def __init__(self, packed: bytes, loop: asyncio.AbstractEventLoop, replies: int = 1) -> None:
        self.packed = packed
        self.future: asyncio.Future[Any] = loop.create_future()
        self.sent_at = loop.time()
        self.replies = replies
        self.is_repeated = False


class Commands:
    """A connection for commands, which is restored after an outage; it loads ``scripts``.

    Futures raise :class:`BackendError` for a call that Redis refuses, and for a call without a reply,
    which may have taken effect or not. If Redis would refuse it again, they raise
    :class:`BackendRefused`.
    """

    __slots__ = (
        "_after_those",
        "_client",
        "_connection",
        "_counters",
        "_keeps",
        "_loop",
        "_max_argument_bytes",
        "_name",
        "_pending",
        "_pending_bytes",
        "_policy",
        "_reign_key",
        "_scripts",
        "_service",
        "_without_script",
        "replaced",
        "run_id",
        "trouble",
        "up_since_s",
    )

    def __init__(
        self,
        client: Redis,
        scripts: Sequence[Script],
        counters: Counters,
        supervisor: Supervisor | None = None,
        *,
        name: str = "Redis",
        keeps: bool = False,
        reign_key: str = "",
    ) -> None:
        """``keeps``: what is stored there must not be removed before its time. ``reign_key`` is the key of
        :data:`BEGIN_REIGN`; empty if nothing is stored that a primary may lose."""
        self._client = client
        self._keeps = keeps
        self._policy = ""
        self._name = name
        self._scripts = (*scripts, BEGIN_REIGN) if reign_key else scripts
        self._reign_key = reign_key
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._service = Service(f"{name} commands", self._stay_connected, supervisor)
        self._connection: RedisConnection | None = None
        self.trouble: str | None = f"not connected to {name} yet"
        self.up_since_s = 0.0
        """When the connection was opened, on the loop's clock."""
        self.run_id = b""
        """It changes when Redis restarts, and with ``reign_key`` when a replica is promoted."""
        self.replaced: asyncio.Future[str] = self._loop.create_future()
        """Never done: the subscribing connection to this server is lost, too."""
        self._max_argument_bytes = MAX_ARGUMENT_BYTES
        # Calls without a reply; then, in order, those whose script was missing, and those called after them
        self._pending: deque[Call] = deque()
        self._pending_bytes = 0
        self._without_script: list[Call] = []
        self._after_those: list[Call] = []

    async def start(self) -> None:
        """Starts to connect; does not wait for Redis."""
        self._service.start()

    async def close(self, timeout_s: float) -> None:
        """Waits for outstanding replies, then disconnects."""
        unanswered = [call.future for call in self._unanswered()]
        if unanswered:
            await asyncio.wait(unanswered, timeout=timeout_s)
        await self._service.stop()
        await close_client(self._client)

    def call(self, *args: Argument) -> "asyncio.Future[Any]":
        """Sends a command. Text travels as UTF-8."""
        call = Call(pack(*args), self._loop)
        try:
            check_size(call.packed, args, self._max_argument_bytes)
        except TooLarge as error:
            call.future.set_exception(error)
        else:
            self._send_or_fail(call)
        return call.future

    def call_all(self, *args: Argument) -> "list[asyncio.Future[Any]]":
        """Sends a command to all servers: to this one."""
        return [self.call(*args)]

    def send(self, command: LargeCommand) -> "asyncio.Future[Any]":
        """Sends a command that was packed part by part. The future has the last reply, or the first error."""
        call = Call(command.packed(), self._loop, command.replies)
        self._send_or_fail(call)
        return call.future

    def script_call(self, script: Script, key: Argument = "") -> ScriptCall:
        """Begins a call of a script, to be sent with :meth:`send`. ``key`` has a meaning for a cluster only."""
        return ScriptCall(script.sha, self._max_argument_bytes)

    def transaction(self) -> Transaction:
        """Begins a transaction, to be sent with :meth:`send`."""
        return Transaction(self._max_argument_bytes)

    @property
    def waiting_num(self) -> int:
        """Number of commands without a reply, at most :data:`PENDING_LIMIT`."""
        return len(self._pending) + len(self._after_those)

    def _send_or_fail(self, call: Call) -> None:
        if self.trouble is not None:
            call.future.set_exception(BackendError(self.trouble))
        elif self.waiting_num >= PENDING_LIMIT or self._pending_bytes >= PENDING_BYTES_LIMIT:
            self._counters.pubsub_refused_total += 1
            call.future.set_exception(BackendError("too many commands wait for Redis"))
        elif self._without_script:
            self._after_those.append(call)
        else:
            self._send(call)

    def run(
        self, script: Script, keys: Sequence[Argument], *args: Argument
    ) -> "asyncio.Future[Any]":
        """Runs a script."""
        return self.call("EVALSHA", script.sha, len(keys), *keys, *args)

    def is_settled(self, ttl_s: float) -> bool:
        """Has Redis been available for long enough that all live nodes have touched their keys with this time to
        live? They do so several times within it, so a third of it is enough."""
        return self.trouble is None and self._loop.time() - self.up_since_s >= max(ttl_s / 3, 1)

    def _send(self, call: Call) -> None:
        assert self._connection is not None
        self._pending.append(call)
        self._pending_bytes += len(call.packed)
        self._connection.write(call.packed)

    # Replies

    def _on_reply(self, reply: Any) -> None:
        call = self._pending[0]
        call.replies -= 1
        if call.replies == 0:
            self._pending.popleft()
            self._pending_bytes -= len(call.packed)
        if isinstance(reply, hiredis.ReplyError):
            self._take_error(call, str(reply))
        elif call.replies == 0 and not call.future.done():
            call.future.set_result(reply)
        if self._without_script and not self._pending:
            self._resend()

    def _take_error(self, call: Call, error: str) -> None:
        if error.startswith("NOSCRIPT") and not call.is_repeated:
            call.is_repeated = True
            call.replies = 1
            self._without_script.append(call)
            return
        if not call.future.done():
            kind = BackendRefused if is_lasting(error) else BackendError
            call.future.set_exception(kind(refusal(error)))
        if "READONLY" in error and self._connection is not None:
            # It was the master once: sentinels name another one.
            self._connection.drop("this Redis is a replica now")

    def _resend(self) -> None:
        """Redis has lost its scripts (SCRIPT FLUSH): loads them, then repeats all that failed, in order."""
        self._load_scripts()
        waiting = (*self._without_script, *self._after_those)
        self._without_script.clear()
        self._after_those.clear()
        for call in waiting:
            self._send(call)

    def _unanswered(self) -> tuple[Call, ...]:
        return (*self._pending, *self._without_script, *self._after_those)

    def _load_scripts(self) -> "list[asyncio.Future[Any]]":
        loads = [Call(pack("SCRIPT", "LOAD", each.source), self._loop) for each in self._scripts]
        for load in loads:
            # A failure shows when the script is run.
            load.future.add_done_callback(_retrieve)
            self._send(load)
        return [load.future for load in loads]

    # Staying connected

    async def _stay_connected(self) -> None:
        backoff = Backoff(LONGEST_PAUSE_S)
        while True:
            try:
                await self._open()
                if backoff.works():
                    _log.info("Connected to %s", self._name)
                reason = await self._until_lost()
            except BackendError as error:
                reason = str(error)
            finally:
                await self._disconnect()
            self.trouble = f"{self._name} is away: {reason}"
            pause = backoff.failed()
            if pause.is_logged:
                _log.warning("%s is away: %s", self._name, reason)
            await asyncio.sleep(pause.seconds)

    async def _open(self) -> None:
        """Connects, loads the scripts and reads the server's settings. Raises :class:`BackendError`."""
        self._connection = await open_connection(self._client, self._on_reply)
        self._connection.lost.add_done_callback(self._fail)
        loads = self._load_scripts()
        info = self._ask("INFO", "server")
        limit = self._ask("CONFIG", "GET", "proto-max-bulk-len")
        memory = self._ask("CONFIG", "GET", "maxmemory*")
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                await asyncio.gather(*loads)
                await self._learn()
                self.run_id = await self._reign(self._read_info(await _permitted(info)))
                self._max_argument_bytes = await _max_argument_bytes(limit)
                self._note_policy(await _settings(memory))
        except TimeoutError as error:
            raise BackendError(f"no reply within {REPLY_TIMEOUT_S:g} s") from error
        self.up_since_s = self._loop.time()
        self.trouble = None

    async def _reign(self, run: bytes) -> bytes:
        """Adds since when the server is the primary, unless it can't write that down at the moment: histories can be read meanwhile.
        Raises :class:`BackendError`, also if it is a replica."""
        if not (run and self._reign_key):
            return run
        assert self._connection is not None
        try:
            since: bytes = await self._ask("EVALSHA", BEGIN_REIGN.sha, 1, self._reign_key, run)
        except BackendError as error:
            if "READONLY" in str(error) or self._connection.lost.done():
                raise
            return run
        return b"%b.%b" % (run, since)

    async def _learn(self) -> None:
        """Asks the server what else is needed. Raises :class:`BackendError`."""

    def _read_info(self, info: bytes) -> bytes:
        """Returns the run id. Raises :class:`BackendError` if this is a node of a cluster."""
        if b"_mode:cluster\r\n" in info:
            raise BackendError(
                "it is a node of a Redis Cluster: write redis+cluster://HOST:PORT as redis_url"
            )
        return run_id_of(info)

    def _note_policy(self, settings: Mapping[bytes, bytes]) -> None:
        """Warns of a policy that may remove what is stored, once: all keys have a time to live."""
        policy = settings.get(b"maxmemory-policy", b"noeviction").decode()
        is_limited = settings.get(b"maxmemory", b"0") != b"0"
        if self._keeps and is_limited and policy not in ("noeviction", self._policy):
            _log.warning(
                "%s removes histories, sessions and members when its memory is full (maxmemory-policy %s): "
                "clients will miss messages and sessions; set it to noeviction",
                self._name,
                policy,
            )
            self._policy = policy

    def _ask(self, *args: Argument) -> "asyncio.Future[Any]":
        """Sends a command before the connection is available to others."""
        call = Call(pack(*args), self._loop)
        call.future.add_done_callback(_retrieve)
        self._send(call)
        return call.future

    async def _until_lost(self) -> str:
        """Returns the reason."""
        assert self._connection is not None
        lost = self._connection.lost
        while not lost.done():
            await asyncio.wait([lost], timeout=REPLY_TIMEOUT_S / 10)
            # After a long turn of the event loop, timers are called before it reads what has arrived meanwhile.
            await asyncio.sleep(0)
            if self._pending and self._loop.time() - self._pending[0].sent_at > REPLY_TIMEOUT_S:
                self._connection.drop(f"no reply within {REPLY_TIMEOUT_S:g} s")
                await lost
        return lost.result()

    def _fail(self, lost: "asyncio.Future[str]") -> None:
        """The connection is lost: all calls without a reply fail."""
        self.trouble = f"{self._name} is away: {lost.result()}"
        calls = self._unanswered()
        self._pending.clear()
        self._pending_bytes = 0
        self._without_script.clear()
        self._after_those.clear()
        for call in calls:
            if not call.future.done():
                call.future.set_exception(BackendError(self.trouble))

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self.trouble = "the connection to Redis is being closed"
            await connection.close()


async def _permitted(info: "asyncio.Future[Any]") -> bytes:
    """The answer, or empty if this user may not read it: then a restart that lost data is not detected."""
    try:
        answer: bytes = await info
    except BackendError as error:
        if "NOPERM" in str(error):
            return b""
        raise
    return answer


def run_id_of(info: bytes) -> bytes:
    """The run id in the answer to INFO; empty if it has none."""
    return info.partition(b"run_id:")[2].partition(b"\r\n")[0]


async def _settings(config: "asyncio.Future[Any]") -> dict[bytes, bytes]:
    """Settings of the server; empty if this user may not read them."""
    try:
        answer: list[bytes] = await config
    except BackendRefused:
        return {}
    return dict(zip(answer[::2], answer[1::2], strict=True))


async def _max_argument_bytes(config: "asyncio.Future[Any]") -> int:
    """The longest argument in bytes, at which Redis does not disconnect; its default if this user may not read it."""
    settings = await _settings(config)
    return int(settings.get(b"proto-max-bulk-len", MAX_ARGUMENT_BYTES))


def _retrieve(future: "asyncio.Future[Any]") -> None:
    """Marks the exception of a future as retrieved."""
    if not future.cancelled():
        future.exception()
