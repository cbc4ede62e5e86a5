"""The parts of a node on NATS: engine, interest, recovery and pub/sub; and the messages that it received."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from catenary.adapters.interest import StreamInterest
from catenary.adapters.nats.access import NatsAccess
from catenary.adapters.nats.engine import NatsEngine
from catenary.adapters.nats.history import NatsHistory
from catenary.adapters.nats.presence import NatsPresence
from catenary.adapters.nats.pubsub import NatsPubSub
from catenary.adapters.nats.servers import NatsServers
from catenary.adapters.nats.sessions import NatsSessions
from catenary.adapters.stream_recovery import StreamRecovery
from catenary.broker.limits import Limits
from catenary.broker.stream_rules import StreamRules
from catenary.messages.names import Stream
from catenary.messages.publications import Publication, Publishable
from catenary.metrics.counters import Counters
from catenary.supervision.service import Supervisor
from tests.parts.nats import NatsServer
from tests.parts.ports import HasUrl

LIMITS = Limits(history_limit=100, history_ttl_s=60, sessions_ttl_s=60, presence_ttl_s=60)


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Returns when the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  (nothing here can set an event)
            await asyncio.sleep(0.002)


class JetStreamServer(NatsServer):
    """A server that keeps its data over a restart."""

    def __init__(self, folder: Path) -> None:
        super().__init__(store_dir=folder)
        self._folder = folder

    def forget(self) -> None:
        """Deletes its data, while it is stopped."""
        shutil.rmtree(self._folder)


@contextmanager
def jetstream_server() -> Iterator[JetStreamServer]:
    """A server for the length of a with block, accepting connections when it begins."""
    with tempfile.TemporaryDirectory(prefix="catenary-nats-", ignore_cleanup_errors=True) as folder:
        server = JetStreamServer(Path(folder) / "store")
        server.start()
        try:
            yield server
        finally:
            server.stop()


class NatsNode:
    """One of several nodes on a server; must be built in a running event loop."""

    def __init__(
        self,
        server: HasUrl,
        limits: Limits | None = LIMITS,
        *,
        deliver: Callable[[Publishable], None] | None = None,
        canary_interval_s: float = 3,
        clock: Callable[[], float] | None = None,
        url: str | None = None,
        inbox_prefix: str = "_INBOX",
        rules: StreamRules | None = None,
        prefix: str = "test.between",
    ) -> None:
        self.received: list[Publishable] = []
        self.restored = 0
        self.counters = Counters()
        self.supervisor = Supervisor(self.counters)
        self.interest = StreamInterest()
        self.engine = NatsEngine(
            NatsServers(urls=(url or server.url,), access=NatsAccess(inbox_prefix=inbox_prefix)),
            prefix,
            limits,
            self.counters,
            clock=clock,
            supervisor=self.supervisor,
            rules=rules,
        )
        self.recovery = StreamRecovery(
            self.interest, deliver or self.received.append, self.engine.history, self.counters
        )
        self.pubsub = NatsPubSub(
            self.engine,
            self.interest,
            self.recovery,
            on_restored=self._note_restored,
            canary_interval_s=canary_interval_s,
            supervisor=self.supervisor,
        )

    def _note_restored(self) -> None:
        self.restored += 1

    async def start(self) -> None:
        await self.engine.start()
        await self.pubsub.start()

    async def close(self) -> None:
        await self.pubsub.close(1)
        await self.engine.close(1)

    async def is_up(self) -> None:
        await until(lambda: self.pubsub.trouble is None)

    async def listen(self, streams: Iterable[Stream]) -> None:
        """Returns when everything on these streams arrives."""
        wanted = tuple(streams)
        for stream in wanted:
            self.interest.listen(stream)
        live = self.interest.when_live(wanted)
        if live is not None:
            await live

    async def publish(self, stream: Stream, *data: object) -> None:
        sent = self.pubsub.send(tuple(Publication(stream, str(each)) for each in data))
        if sent is not None:
            await sent

    def heard(self, stream: Stream) -> list[Publication]:
        return [
            each
            for each in self.received
            if isinstance(each, Publication) and each.stream == stream
        ]

    def data(self, stream: Stream) -> list[str]:
        return [each.data for each in self.heard(stream)]

    async def records(self) -> list[str]:
        """The subjects of all records, but for the nodes' own."""
        found = await self.engine.records().first("test.between.r.>", 10_000)
        return [each.subject for each in found if ".r.n." not in each.subject]

    async def nodes_are(self, number: int) -> None:
        """Returns when so many nodes have a record. Raises TimeoutError."""
        async with asyncio.timeout(20):
            while True:
                found = await self.engine.records().first("test.between.r.n.*", 10_000)
                if len(found) == number:
                    return
                await asyncio.sleep(0.02)

    @property
    def history(self) -> NatsHistory:
        assert self.engine.history is not None
        return self.engine.history

    @property
    def sessions(self) -> NatsSessions:
        assert self.engine.sessions is not None
        return self.engine.sessions

    @property
    def presence(self) -> NatsPresence:
        assert self.engine.presence is not None
        return self.engine.presence


@asynccontextmanager
async def nats_node(
    server: HasUrl,
    limits: Limits | None = LIMITS,
    *,
    deliver: Callable[[Publishable], None] | None = None,
    canary_interval_s: float = 3,
    clock: Callable[[], float] | None = None,
    url: str | None = None,
    inbox_prefix: str = "_INBOX",
    rules: StreamRules | None = None,
) -> AsyncIterator[NatsNode]:
    """A node that is up, for the length of a with block."""
    node = NatsNode(
        server,
        limits,
        deliver=deliver,
        canary_interval_s=canary_interval_s,
        clock=clock,
        url=url,
        inbox_prefix=inbox_prefix,
        rules=rules,
    )
    await node.start()
    try:
        await node.is_up()
        yield node
    finally:
        await node.close()
