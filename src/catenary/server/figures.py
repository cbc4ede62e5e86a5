"""The figures that belong to no part with a module of its own here: the hub's, the process's, the log's."""

from catenary.logs.rate_limited import LineLimit
from catenary.metrics.registry import Registry
from catenary.node.hub import Hub
from catenary.process.resources import resident_bytes


def register(figures: Registry, hub: Hub) -> None:
    """Registers them."""
    figures.register(
        "clients_uniq_num",
        "Distinct connection identifiers among the clients",
        lambda: hub.sessions.identifiers_num,
    )
    figures.register(
        "broadcast_streams_num",
        "Streams with at least one subscriber on this node",
        lambda: hub.streams_num,
    )
    figures.register("mem_sys_bytes", "Resident memory of this process, in bytes", resident_bytes)
    figures.register(
        "suppressed_log_lines_total",
        "Log lines suppressed by the rate limit",
        lambda: LineLimit.suppressed_total,
    )
