"""The phases in which a server shuts down, in order.

Clients first, then publishers, then the calls and the data that the last of them have caused, then the connections
to the application, Redis and NATS. Each phase gets a share of the remaining time, and leaves some to those after it.
"""

from typing import Final

from catenary.process.shutdown import Phase

DRAIN_CLIENTS: Final = Phase("drain clients", 0.9)
"""Closes the clients, spread over a part of the shutdown timeout (:mod:`catenary.process.drain`)."""

CLOSE_LISTENERS: Final = Phase("close listeners", 2 / 3)
"""Accepts no new connections, and waits for the open connections and requests."""

STOP_PUBLISHERS: Final = Phase("stop publishers", 1 / 2)
"""Reads no more from broadcast adapters, and publishes what was read."""

STOP_TIMERS: Final = Phase("stop timers", 1 / 2)

SAVE_SESSIONS: Final = Phase("save sessions", 1 / 2)
"""Writes the sessions that may be resumed at another node, and waits for calls of clients that have left."""

FLUSH_DISCONNECTS: Final = Phase("flush disconnects", 4 / 5)
"""Makes the Disconnect calls that are queued."""

FLUSH_WEBHOOKS: Final = Phase("flush webhooks", 1 / 2)
"""Sends the queued webhooks. Runs after the clients have left, because that causes the last events."""

CLOSE_APPLICATION: Final = Phase("close application", 1 / 2)

STOP_HOSTED_APPLICATION: Final = Phase("stop hosted application", 2 / 3)
"""Ends the lifespan of ``--asgi``. After the cable, whose methods may need what that application keeps open."""

CLOSE_PUBSUB: Final = Phase("close pub/sub", 2 / 3)
"""Sends the publications that are on their way to other nodes."""

CLOSE_STORES: Final = Phase("close stores", 2 / 3)

EXPORT_TRACES: Final = Phase("export traces", 1 / 2)
"""Sends the last spans to the collector. After everything that is traced."""

STOP_EMBEDDED_NATS: Final = Phase("stop embedded NATS", 2 / 3)

REPORT_METRICS: Final = Phase("report metrics", 1)
"""Logs the metrics of the last interval and sends them to StatsD. Last, because every phase before it may change some."""

PHASES: Final = (
    DRAIN_CLIENTS,
    CLOSE_LISTENERS,
    STOP_PUBLISHERS,
    STOP_TIMERS,
    SAVE_SESSIONS,
    FLUSH_DISCONNECTS,
    FLUSH_WEBHOOKS,
    CLOSE_APPLICATION,
    STOP_HOSTED_APPLICATION,
    CLOSE_PUBSUB,
    CLOSE_STORES,
    EXPORT_TRACES,
    STOP_EMBEDDED_NATS,
    REPORT_METRICS,
)
