"""The figures that belong to no part with a module of its own here: the hub's, the process's, the log's.

Names that begin with ``process_`` are those of Prometheus' client libraries; ``goroutines_num`` and those of the memory are
anycable-go's, for the counterparts of Python. Knows: where the values are found. Does not know: who reads them.
"""

import asyncio
import platform
import sys
from functools import partial
from typing import Final

from catenary import __version__
from catenary.logs.rate_limited import LineLimit
from catenary.metrics.figures import Kind
from catenary.metrics.registry import Registry
from catenary.node.delivery_queue import WAITING_LIMIT
from catenary.node.disconnector import QUEUE_LIMIT
from catenary.node.hub import Hub
from catenary.process import resources
from catenary.process.loop_lag import INTERVAL_S, LoopLag
from catenary.server.build import ServerBuild

_MEMORY: Final = {
    "heap_sys_bytes": ("VmData", "Memory for data that was obtained from the system, in bytes"),
    "stack_sys_bytes": ("VmStk", "Memory of the stack of the main thread, in bytes"),
}


def register(build: ServerBuild, hub: Hub) -> None:
    """Registers them, and measures the event loop."""
    _register_process(build.figures)
    _register_node(build, hub)
    if build.options.metrics.memory:
        _register_memory(build.figures)
    lag = LoopLag(build.counters, asyncio.get_running_loop().time)
    build.tick(INTERVAL_S, lag.measure)
    build.tick(INTERVAL_S, build.figures.measure_queues)


def _register_node(build: ServerBuild, hub: Hub) -> None:
    figures, counters = build.figures, build.counters
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
    figures.register(
        "suppressed_log_lines_total",
        "Log lines suppressed by the rate limit",
        lambda: LineLimit.suppressed_total,
    )
    figures.limit("max_conn", lambda: counters.open_connections_num, build.options.server.max_conn)
    figures.limit(
        "max_pending_requests_size",
        lambda: counters.pending_requests_bytes,
        build.options.limits.max_pending_requests_size_bytes,
    )
    figures.queue("deliveries", lambda: hub.waiting_num, WAITING_LIMIT)
    figures.queue("disconnects", lambda: counters.disconnect_queue_size, QUEUE_LIMIT)


def _register_process(figures: Registry) -> None:
    loop = asyncio.get_running_loop()
    info = {
        "version": __version__,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
    }
    figures.labelled(
        "build_info",
        "1; the labels are the version of Catenary and of the Python that runs it",
        tuple(info),
        {tuple(info.values()): 1}.items,
        is_summed=False,
    )
    figures.register(
        "mem_sys_bytes", "Resident memory of this process, in bytes", resources.resident_bytes
    )
    figures.register(
        "goroutines_num",
        "Tasks of the event loop, the counterpart of goroutines: clients have none",
        lambda: len(asyncio.all_tasks(loop)),
    )
    started_at = resources.started_at()
    files = resources.OpenFiles()
    figures.register(
        "process_cpu_seconds_total",
        "CPU time in user and kernel mode, in seconds",
        resources.cpu_seconds,
    )
    figures.register(
        "process_resident_memory_bytes", "Resident memory, in bytes", resources.resident_bytes
    )
    figures.register(
        "process_virtual_memory_bytes", "Virtual memory, in bytes", resources.virtual_bytes
    )
    figures.register("process_open_fds", "Open file descriptors", files.read)
    figures.register("process_max_fds", "Limit of open file descriptors", resources.max_open_files)
    figures.register(
        "process_start_time_seconds",
        "When the process was started, in seconds since 1970",
        lambda: started_at,
        is_summed=False,
    )


def _register_memory(figures: Registry) -> None:
    for name, (part, text) in _MEMORY.items():
        figures.register(name, text, partial(resources.memory_bytes, part))
    figures.register(
        "heap_alloc_total",
        "Memory blocks that are allocated by Python at present",
        sys.getallocatedblocks,
        kind=Kind.GAUGE,
    )
