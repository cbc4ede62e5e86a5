"""The metrics for Prometheus: one scrape has those of all workers, whichever of them it reaches.

Knows: options, the registry, the other workers. Does not know: what is measured, sockets.
"""

import asyncio

from starlette.routing import Route

from catenary.api.metrics import Metrics
from catenary.metrics import workers
from catenary.metrics.prometheus import exposition
from catenary.process.siblings import Siblings
from catenary.server.build import ServerBuild
from catenary.server.http_routes import announce, metrics_address
from catenary.server.ports import Ports
from catenary.server.shutdown_phases import CLOSE_LISTENERS


def add_metrics(build: ServerBuild, ports: Ports) -> None:
    """Adds the path of the metrics to its port."""
    options = build.options
    path = options.metrics.http_path
    if not path:
        return
    address = metrics_address(options)
    announce(build, address.port, "metrics", "http", path, host=address.host)
    registry, tags = build.figures, options.metrics.tags
    siblings = _siblings(build)

    async def show() -> str:
        if siblings is None:
            return exposition(registry.figures(), tags)
        parts = []
        for figure in workers.of_workers(await siblings.ask()):
            parts.append(exposition((figure,), tags))
            await asyncio.sleep(0)  # those of 32 workers take 60 ms, all together
        return "".join(parts)

    ports.at(address).routes.append(Route(path, Metrics(show)))


def _siblings(build: ServerBuild) -> Siblings | None:
    """The other workers; None in a single process."""
    worker, registry = build.worker, build.figures
    if worker is None:
        return None
    siblings = Siblings(
        worker.directory,
        worker.number,
        build.options.server.workers,
        lambda: workers.pack(registry.figures()),
    )
    build.add(siblings.start, CLOSE_LISTENERS, siblings.close)
    return siblings
