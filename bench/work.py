"""What a crowd and its publishers are put to: a function for each kind of work.

Knows: the order of things. Does not know: servers, processes, what anything costs.
"""

import asyncio
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, cast

from bench.crowd import Crowd
from bench.plan import Plan, Work
from bench.publishers import PUBLISHERS, Publisher
from catenary.terminal.counting import PATIENCE_S, EchoClient

IDLE_BEAT_S: Final = 4.0
"""A server's worst pause is told for 5 s: a look every 4 s misses none."""

FLOOD_BEAT_S: Final = 1.0
TICK_S: Final = 0.004
"""How often a flood is topped up."""

IN_FLIGHT: Final = 256
"""How many publications of one connection may be unanswered."""

CANARY_S: Final = 0.05

WARM_UP: Final = 1 / 2
"""How long a churn goes on before it counts, in parts of its length: until then, allocators take
what they need for one cycle."""

MESSAGES_PER_CYCLE: Final = 5
"""What a churning client hears before it is cut off, and as many again while it is away."""


@dataclass(slots=True)
class Site:
    """Where work is done. ``beat`` says that a point is reached, and waits for who looks there."""

    plan: Plan
    crowd: Crowd
    intake_port: int
    beat: Callable[[str], Awaitable[None]]
    publishers: list[Publisher] = field(default_factory=list)

    async def open(self, count: int = 1) -> None:
        """Connects publishers. Raises OSError."""
        kind = PUBLISHERS[self.plan.intake]
        for _ in range(count):
            publisher = kind(self.crowd.sent, self.plan.payload_bytes)
            await asyncio.get_running_loop().create_connection(
                lambda publisher=publisher: publisher,  # type: ignore[misc]
                "127.0.0.1",
                self.intake_port,
            )
            self.publishers.append(publisher)


@dataclass(slots=True)
class Done:
    """What work knows about itself; the crowd's tally knows the rest.

    ``waits_s`` are the times that clients waited, where those are not of single deliveries.
    """

    expected: int = 0
    received: int | None = None
    lost: int = 0
    publishing_s: float = 0
    waits_s: "array[float] | None" = None
    resumed: int = 0
    not_resumed: int = 0


async def nothing(site: Site) -> Done:
    """Clients have connected: that was it."""
    return Done()


async def publish(site: Site) -> Done:
    """Publishes all at a rate, or each when all have the one before, and waits for them."""
    plan, crowd = site.plan, site.crowd
    await site.open()
    started = perf_counter()
    for number in range(plan.publications):
        if plan.rate:
            await asyncio.sleep(max(0, started + number / plan.rate - perf_counter()))
        site.publishers[0].publish(number % plan.streams)
        if not plan.rate and not await crowd.tally.wait_for_total(crowd.expected()):
            break  # what is lost is known; the rest would only wait again
    publishing_s = perf_counter() - started
    await crowd.tally.wait_for_total(crowd.expected())
    return Done(crowd.expected(), publishing_s=publishing_s)


async def echo(site: Site) -> Done:
    """Each client says something and waits until it comes back, so many times."""
    for client in site.crowd.clients:
        cast("EchoClient", client).send_next()
    expected = site.plan.echoes * len(site.crowd.clients)
    await site.crowd.tally.wait_for_total(expected)
    return Done(expected)


async def idle(site: Site) -> Done:
    """Pings due, heard, and missed. A third of an interval is allowed for jitter."""
    plan, clients = site.plan, site.crowd.clients
    before = [client.pings for client in clients]
    end = perf_counter() + plan.seconds
    while (left := end - perf_counter()) > 0:
        await asyncio.sleep(min(left, IDLE_BEAT_S))
        await site.beat("idle")
    heard = [client.pings - past for client, past in zip(clients, before, strict=True)]
    due = int(plan.seconds / plan.ping_interval_s - 1 / 3)
    missed = sum(max(0, due - pings) for pings in heard)
    return Done(due * len(heard), sum(heard), missed)


async def storm(site: Site) -> Done:
    """All are cut off at once and come back for what they missed, while publishing goes on."""
    crowd, clients = site.crowd, site.crowd.clients
    await site.open()
    await _publish_round(site)
    await site.beat("cut")
    over = asyncio.Event()
    publishing = asyncio.create_task(_publish_until(over, site))
    waits_s, cut = array("d"), perf_counter()
    await asyncio.gather(*(client.away() for client in clients))
    await crowd.bring_back(clients, lambda: waits_s.append(perf_counter() - cut))
    await site.beat("back")
    over.set()
    publishing_s = await publishing
    if len(waits_s) == len(clients):  # else, what is missing is known, and waiting brings nothing
        await crowd.tally.wait_for_total(crowd.expected())
    return Done(
        crowd.expected(),
        publishing_s=publishing_s,
        waits_s=waits_s,
        resumed=crowd.tally.restored,
        not_resumed=len(clients) - crowd.tally.restored,
    )


async def _publish_round(site: Site) -> None:
    """A message to every stream, so that each client knows its place."""
    for stream in range(site.plan.streams):
        site.publishers[0].publish(stream)
    await site.crowd.tally.wait_for_total(site.crowd.expected())


async def _publish_until(over: asyncio.Event, site: Site) -> float:
    """Publishes at the plan's rate to one stream after the other; how long."""
    started, number = perf_counter(), 0
    while not over.is_set():
        site.publishers[0].publish(number % site.plan.streams)
        number += 1
        await asyncio.sleep(max(0, started + number / site.plan.rate - perf_counter()))
    return perf_counter() - started


async def flood(site: Site) -> Done:
    """Publishes at a rate for a while, or as fast as publications are accepted; a connection for
    each stream, so that order is kept.
    """
    plan, crowd = site.plan, site.crowd
    await site.open(plan.streams)
    await _open_way(site)
    await site.beat("begun")
    over = asyncio.Event()
    looks = asyncio.create_task(_beats_until(over, site))
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
    await site.beat("over")
    return Done(crowd.expected(), publishing_s=publishing_s)


async def _open_way(site: Site) -> None:
    """Returns once publications arrive. Raises TimeoutError after PATIENCE_S."""
    if site.plan.intake == "http":
        return  # it listens before anything is measured
    heard = site.crowd.tally.heard_canary
    async with asyncio.timeout(PATIENCE_S):
        while not heard.is_set():
            site.publishers[0].publish_canary(0)
            await asyncio.sleep(CANARY_S)


async def _beats_until(over: asyncio.Event, site: Site) -> None:
    while not over.is_set():
        try:
            async with asyncio.timeout(FLOOD_BEAT_S):
                await over.wait()
        except TimeoutError:
            await site.beat("flood")


async def churn(site: Site) -> Done:
    """Cycles: as many clients as stay all along come, listen, are cut off, return, and go.

    Behind a warm-up and behind the cycles is a rest, so long that nothing is kept of anybody: only
    what the server holds then can be compared.
    """
    plan, crowd = site.plan, site.crowd
    done = Done()
    earlier = len(crowd.failures)
    for seconds, name in ((plan.seconds * WARM_UP, "warm-up"), (plan.seconds, "cycle")):
        await site.open()  # who publishes nothing for a rest is hung up on
        started = perf_counter()
        while perf_counter() - started < seconds and len(crowd.failures) == earlier:
            await _cycle(site, done)
            await site.beat(name)
        done.publishing_s += perf_counter() - started
        await asyncio.sleep(plan.rest_s)
        await site.beat("rest")
    done.resumed = crowd.tally.restored
    return done


async def _cycle(site: Site, done: Done) -> None:
    crowd, publisher = site.crowd, site.publishers[-1]
    clients = await crowd.invite(site.plan.clients)
    stream = len(crowd.sent) - 1
    publisher.publish(stream, MESSAGES_PER_CYCLE)
    done.expected += MESSAGES_PER_CYCLE * len(clients)
    await crowd.tally.wait_for_total(done.expected)
    away, restored = clients[::2], crowd.tally.restored
    await asyncio.gather(*(client.away() for client in away))
    publisher.publish(stream, MESSAGES_PER_CYCLE)
    done.expected += MESSAGES_PER_CYCLE * len(clients)
    back = await crowd.bring_back(away)
    if len(back) == len(away):
        await crowd.tally.wait_for_total(done.expected)
    done.not_resumed += len(away) - (crowd.tally.restored - restored)
    done.lost += sum(client.lost for client in clients)
    for client in clients:
        client.leave()


WORKS: Final[dict[Work, Callable[[Site], Awaitable[Done]]]] = {
    "none": nothing,
    "publish": publish,
    "echo": echo,
    "idle": idle,
    "storm": storm,
    "flood": flood,
    "churn": churn,
}
