"""Plans and reports: the messages between the measuring process and the load generator.

Knows: sizes and counts. Does not know: sockets, processes.
"""

from typing import Literal

import msgspec

Work = Literal["none", "publish", "echo", "idle", "storm", "jitter", "flood", "churn"]
Protocol = Literal["cable", "pusher"]
Intake = Literal["http", "redis", "redisx", "nats"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The work. ``rate`` is publications per second; 0 waits for all deliveries of each.

    ``echoes`` is per client; ``payload_bytes`` is padding beside about 25 bytes of JSON. ``seconds`` is
    the length of work without a count: idle, flood, churn. ``rest_s`` is the pause before the counted
    part of a churn and after it; ``whispers`` are sent in each of its cycles. In a jitter each client is away once,
    for ``away_s``. ``extended`` clients use actioncable-v1-ext-json; with ``secret`` each
    has its own token. With the ``protocol`` of Pusher, the stream is a public channel.
    """

    clients: int
    work: Work = "publish"
    streams: int = 1
    publications: int = 0
    rate: float = 0
    payload_bytes: int = 100
    echoes: int = 0
    seconds: float = 0
    rest_s: float = 0
    whispers: int = 0
    away_s: float = 0
    intake: Intake = "http"
    protocol: Protocol = "cable"
    extended: bool = False
    secret: str = ""
    ping_interval_s: int = 3
    settle_s: float = 1.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A plan and the ports of the server on 127.0.0.1; publications go to ``intake_port``."""

    plan: Plan
    port: int
    intake_port: int


class Connected(msgspec.Struct, frozen=True, tag=True):
    """All clients are subscribed or have failed; ``failure`` is that of the first one."""

    ready: int
    seconds: float
    load_cpu_s: float
    failure: str = ""


class Checkpoint(msgspec.Struct, frozen=True, tag=True):
    """The work has reached a point at which the server is sampled; ``load_cpu_s`` is the CPU used so far."""

    name: str
    load_cpu_s: float


class Worked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The work is done: its counts; ``load_cpu_s`` is the CPU of the generator.

    ``refused`` publications were not accepted; ``closed`` connections were closed by the server;
    ``unexpected`` messages belong to no stream; ``resumed`` sessions were restored, ``not_resumed`` ones
    should have been (``failure`` is that of the first one). p50 and p99 are of a delivery, or of the time until a client has
    received what it missed: since the disconnect in a storm, since its return in a jitter.
    """

    seconds: float
    load_cpu_s: float
    expected: int
    received: int
    lost: int
    duplicates: int
    out_of_order: int
    refused: int
    closed: int
    unexpected: int
    published: int
    publishing_s: float
    p50_ms: float
    p99_ms: float
    resumed: int = 0
    not_resumed: int = 0
    failure: str = ""


Report = Connected | Checkpoint | Worked
"""A line of the generator, which waits for an empty line after each."""
