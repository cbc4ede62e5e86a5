"""What is to be done and what came of it: the words that the measuring side and the generator share.

Knows: sizes and counts. Does not know: sockets, processes, how anything is carried out.
"""

from typing import Literal

import msgspec

Work = Literal["none", "publish", "echo", "idle", "storm", "flood", "churn"]
Intake = Literal["http", "redis", "redisx", "nats"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The work. ``rate`` is publications per second; 0 waits for all deliveries of each.

    ``echoes`` is for each client; ``payload_bytes`` is padding beside about 25 bytes of JSON.
    ``seconds`` is how long work lasts that has no number of its own: idle, flood, churn.
    ``rest_s`` is how long nobody does anything where a churn begins to count, and where it ends.
    ``extended`` clients speak actioncable-v1-ext-json; with ``secret`` each brings a token of its own.
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
    intake: Intake = "http"
    extended: bool = False
    secret: str = ""
    ping_interval_s: int = 3
    settle_s: float = 1.0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A plan and where to carry it out, on 127.0.0.1; publications go to ``intake_port``."""

    plan: Plan
    port: int
    intake_port: int


class Connected(msgspec.Struct, frozen=True, tag=True):
    """All clients are there, or have failed (``failure``: the first one's)."""

    ready: int
    seconds: float
    load_cpu_s: float
    failure: str = ""


class Beat(msgspec.Struct, frozen=True, tag=True):
    """The work has come to a point worth a look at the server; ``load_cpu_s`` is used so far."""

    name: str
    load_cpu_s: float


class Worked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What was done and what arrived of it; ``load_cpu_s`` is what the generator itself used.

    ``refused`` publications were not accepted; ``closed`` connections ended by themselves;
    ``unexpected`` counts what arrived and nobody waited for; ``resumed`` counts sessions that came
    back as they were, ``not_resumed`` those that were to and did not (``failure``: the first one's).
    p50 and p99 are of a delivery, or, of a storm, from the cut until a client has everything again.
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


Said = Connected | Beat | Worked
"""A line of the generator. Each is answered with an empty line before it goes on."""
