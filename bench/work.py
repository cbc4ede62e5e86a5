"""The kinds of work: what clients and publishers do, a function for each kind.

Knows: clients, publishers, their order. Does not know: servers, processes, costs.
"""

import asyncio
import random
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, cast

from bench.client import Listener
from bench.crowd import Crowd
from bench.plan import Plan, Work
from bench.publishers import PUBLISHERS, Publisher
from catenary.terminal.counting import PATIENCE_S, CountingClient, EchoClient

IDLE_SAMPLE_S: Final = 4.0
"""Servers report the worst pause of the last 5 s: a sample every 4 s misses none."""

FLOOD_SAMPLE_S: Final = 1.0
TICK_S: Final = 0.004
"""How often a flood sends publications."""

IN_FLIGHT: Final = 256
"""Unanswered publications of one connection."""

CANARY_S: Final = 0.05

WARM_UP: Final = 1 / 2
"""The length of a churn before it counts, as a share of the counted part: allocators grow to what one
cycle needs. At most :data:`WARM_UP_LIMIT_S`."""

WARM_UP_LIMIT_S: Final = 60.0

MESSAGES_PER_CYCLE: Final = 5
"""Messages to a client of a churn before it disconnects, and again while it is disconnected."""


@dataclass(slots=True)
class Site:
    """The context of work. ``reach`` reports a checkpoint, and returns when the server was sampled."""

    plan: Plan
    crowd: Crowd
    intake_port: int
    reach: Callable[[str], Awaitable[None]]
    publishers: list[Publisher] = field(default_factory=list)

    async def open(self, count: int = 1) -> None:
        """Connects publishers. Raises OSError."""
        kind = PUBLISHERS[self.plan.intake]
        for _ in range(count):
            is_event = self.plan.protocol == "pusher"
            publisher = kind(self.crowd.sent, self.plan.payload_bytes, is_event=is_event)
            await asyncio.get_running_loop().create_connection(
                lambda publisher=publisher: publisher,  # type: ignore[misc]
                "127.0.0.1",
                self.intake_port,
            )
            self.publishers.append(publisher)


@dataclass(slots=True)
class Done:
    """The result of work, beside the counts of the clients' tally.

    ``waits_s`` are the times that clients waited, if the work does not measure single deliveries.
    """

    expected: int = 0
    received: int | None = None
    lost: int = 0
    publishing_s: float = 0
    waits_s: "array[float] | None" = None
    resumed: int = 0
    not_resumed: int = 0


async def nothing(site: Site) -> Done:
    """No work: the scenario measures connecting."""
    return Done()


async def publish(site: Site) -> Done:
    """Publishes at a rate, or each message when all clients have the one before; waits for all."""
    plan, crowd = site.plan, site.crowd
    await site.open()
    started = perf_counter()
    for number in range(plan.publications):
        if plan.rate:
            await asyncio.sleep(max(0, started + number / plan.rate - perf_counter()))
        site.publishers[0].publish(number % plan.streams)
        if not plan.rate and not await crowd.tally.wait_for_total(crowd.expected()):
            break  # messages are lost; each further one would wait as long
    publishing_s = perf_counter() - started
    await crowd.tally.wait_for_total(crowd.expected())
    return Done(crowd.expected(), publishing_s=publishing_s)


async def echo(site: Site) -> Done:
    """Each client calls the application and waits for the echo, ``echoes`` times."""
    for client in site.crowd.clients:
        cast("EchoClient", client).send_next()
    expected = site.plan.echoes * len(site.crowd.clients)
    await site.crowd.tally.wait_for_total(expected)
    return Done(expected)


async def idle(site: Site) -> Done:
    """Counts pings: due, received and missed. A third of an interval is allowed for jitter."""
    plan, clients = site.plan, site.crowd.clients
    before = [client.pings for client in clients]
    end = perf_counter() + plan.seconds
    while (left := end - perf_counter()) > 0:
        await asyncio.sleep(min(left, IDLE_SAMPLE_S))
        await site.reach("idle")
    received = [client.pings - past for client, past in zip(clients, before, strict=True)]
    due = int(plan.seconds / plan.ping_interval_s - 1 / 3)
    missed = sum(max(0, due - pings) for pings in received)
    return Done(due * len(received), sum(received), missed)


async def storm(site: Site) -> Done:
    """All clients disconnect at once and resume, while publishing continues."""
    crowd, clients = site.crowd, site.crowd.clients
    await site.open()
    await _publish_round(site)
    await site.reach("cut")
    over = asyncio.Event()
    publishing = asyncio.create_task(_publish_until(over, site))
    waits_s, cut = array("d"), perf_counter()
    await asyncio.gather(*(client.away() for client in clients))
    await crowd.reconnect(clients, lambda: waits_s.append(perf_counter() - cut))
    await site.reach("back")
    over.set()
    publishing_s = await publishing
    if len(waits_s) == len(clients):  # otherwise messages are missing, and waiting does not help
        await crowd.tally.wait_for_total(crowd.expected())
    return Done(
        crowd.expected(),
        publishing_s=publishing_s,
        waits_s=waits_s,
        resumed=crowd.tally.restored,
        not_resumed=len(clients) - crowd.tally.restored,
    )


async def jitter(site: Site) -> Done:
    """Each client is cut off once, at a random moment, and returns after a while; publishing continues."""
    plan, crowd = site.plan, site.crowd
    await site.open()
    await _publish_round(site)
    await site.reach("begun")
    waits_s, moments = array("d"), random.Random(1)  # noqa: S311  (the same moments for every server)
    last_s = max(0, plan.publications / plan.rate - plan.away_s)

    async def go_and_return(index: int, client: CountingClient) -> None:
        await asyncio.sleep(moments.uniform(0, last_s))
        await client.away()
        await asyncio.sleep(plan.away_s)
        returned = perf_counter()
        if await crowd.bring_back(client, index):
            waits_s.append(perf_counter() - returned)

    async with asyncio.TaskGroup() as group:
        for index, client in enumerate(crowd.clients):
            group.create_task(go_and_return(index, client))
        publishing_s = await _publish_at_rate(site)
    await crowd.tally.wait_for_total(crowd.expected())
    await site.reach("over")
    return Done(
        crowd.expected(),
        publishing_s=publishing_s,
        waits_s=waits_s,
        resumed=crowd.tally.restored,
        not_resumed=len(crowd.clients) - crowd.tally.restored,
    )


async def _publish_at_rate(site: Site) -> float:
    """Publishes all messages of the plan at its rate; returns how long, in seconds."""
    plan, started = site.plan, perf_counter()
    for number in range(plan.publications):
        await asyncio.sleep(max(0, started + number / plan.rate - perf_counter()))
        site.publishers[0].publish(number % plan.streams)
    return perf_counter() - started


async def _publish_round(site: Site) -> None:
    """Publishes a message to every stream, so that each client has a position."""
    for stream in range(site.plan.streams):
        site.publishers[0].publish(stream)
    await site.crowd.tally.wait_for_total(site.crowd.expected())


async def _publish_until(over: asyncio.Event, site: Site) -> float:
    """Publishes at the plan's rate to the streams in turn; returns how long, in seconds."""
    started, number = perf_counter(), 0
    while not over.is_set():
        site.publishers[0].publish(number % site.plan.streams)
        number += 1
        await asyncio.sleep(max(0, started + number / site.plan.rate - perf_counter()))
    return perf_counter() - started


async def flood(site: Site) -> Done:
    """Publishes at a rate, or as fast as publications are accepted. Each stream has its own connection,
    which keeps the order."""
    plan, crowd = site.plan, site.crowd
    await site.open(plan.streams)
    await _wait_until_delivered(site)
    await site.reach("begun")
    over = asyncio.Event()
    looks = asyncio.create_task(_checkpoints_until(over, site))
    started, published = perf_counter(), 0
    while (now := perf_counter() - started) < plan.seconds:
        due = min(int(now * plan.rate), plan.publications) - published
        for stream, publisher in enumerate(site.publishers):
            share = min(-(-due // (plan.streams - stream)), IN_FLIGHT - publisher.waiting)
            if share > 0:
                publisher.publish(stream, share)
                published += share
                due -= share
        await asyncio.sleep(TICK_S)
    publishing_s = perf_counter() - started
    await crowd.tally.wait_for_total(crowd.expected())
    over.set()
    await looks
    await site.reach("over")
    return Done(crowd.expected(), publishing_s=publishing_s)


async def _wait_until_delivered(site: Site) -> None:
    """Returns when publications arrive. Raises TimeoutError after PATIENCE_S."""
    if site.plan.intake == "http":
        return  # the server has listened since its start
    received = site.crowd.tally.canary_received
    async with asyncio.timeout(PATIENCE_S):
        while not received.is_set():
            site.publishers[0].publish_canary(0)
            await asyncio.sleep(CANARY_S)


async def _checkpoints_until(over: asyncio.Event, site: Site) -> None:
    while not over.is_set():
        try:
            async with asyncio.timeout(FLOOD_SAMPLE_S):
                await over.wait()
        except TimeoutError:
            await site.reach("flood")


async def churn(site: Site) -> Done:
    """In each cycle, further clients connect, receive, disconnect, resume and leave.

    After a warm-up and after the cycles is a rest, in which all state of these clients expires: only the
    server's memory after a rest can be compared.
    """
    plan, crowd = site.plan, site.crowd
    done = Done()
    earlier = len(crowd.failures)
    warm_up_s = min(plan.seconds * WARM_UP, WARM_UP_LIMIT_S)
    for seconds, name in ((warm_up_s, "warm-up"), (plan.seconds, "cycle")):
        started = perf_counter()
        while perf_counter() - started < seconds and len(crowd.failures) == earlier:
            await _cycle(site, done)
            await site.reach(name)
        done.publishing_s += perf_counter() - started
        await asyncio.sleep(plan.rest_s)
        await site.reach("rest")
    done.resumed = crowd.tally.restored
    return done


async def _cycle(site: Site, done: Done) -> None:
    crowd = site.crowd
    clients = await crowd.connect_more(site.plan.clients)
    stream = len(crowd.sent) - 1
    await _publish_apart(site, stream)
    done.expected += MESSAGES_PER_CYCLE * len(clients)
    # Messages that earlier cycles have lost never arrive.
    await crowd.tally.wait_for_total(done.expected - done.lost)
    await _whisper(site, clients)
    away, restored = clients[::2], crowd.tally.restored
    await asyncio.gather(*(client.away() for client in away))
    await _publish_apart(site, stream)
    done.expected += MESSAGES_PER_CYCLE * len(clients)
    back = await crowd.reconnect(away)
    if len(back) == len(away):
        await crowd.tally.wait_for_total(done.expected - done.lost)
    done.not_resumed += len(away) - (crowd.tally.restored - restored)
    done.lost += sum(client.lost for client in clients)
    for client in clients:
        client.leave()


async def _publish_apart(site: Site, stream: int) -> None:
    """Publishes on a connection of its own: servers close one that is silent for a few seconds."""
    for publisher in site.publishers[-1:]:
        publisher.close()
    await site.open()
    site.publishers[-1].publish(stream, MESSAGES_PER_CYCLE)


async def _whisper(site: Site, clients: list[Listener]) -> None:
    """Some clients whisper to all others. Raises TimeoutError if not all whispers arrive."""
    tally = site.crowd.tally
    whispering = clients[: site.plan.whispers]
    due = tally.whispers + len(whispering) * (len(clients) - 1)
    for client in whispering:
        client.whisper()
    await tally.wait_for_whispers(due)


WORKS: Final[dict[Work, Callable[[Site], Awaitable[Done]]]] = {
    "none": nothing,
    "publish": publish,
    "echo": echo,
    "idle": idle,
    "storm": storm,
    "jitter": jitter,
    "flood": flood,
    "churn": churn,
}
