"""Assembles the live trace: the events of this node for readers anywhere, and the readers at this node.

Knows: the hub, the cluster. Does not know: which paths serve it.
"""

from catenary.api.live_events import READERS, LiveEvents
from catenary.api.trace_sources import LEASES, TraceSources
from catenary.messages.names import Sid, Stream
from catenary.node.cluster import Cluster
from catenary.node.hub import Hub
from catenary.server.build import ServerBuild
from catenary.server.shutdown_phases import CLOSE_LISTENERS


def build_live_events(build: ServerBuild, cluster: Cluster, hub: Hub) -> LiveEvents:
    """Called once for each server."""

    def listens(sid: Sid, stream: Stream) -> bool:
        session = hub.sessions.find(sid)
        return session is not None and any(
            stream in each.streams for each in session.subscriptions.values()
        )

    sources = TraceSources(cluster, build.observers, build.counters, listens)
    live = LiveEvents(cluster, build.counters)
    build.figures.limit("live_event_readers", lambda: live.readers_num, READERS)
    build.figures.limit("live_event_leases", lambda: sources.leases_num, LEASES)
    # Until the clients are drained, which a reader may want to see.
    build.shutdown.add(CLOSE_LISTENERS, live.close)
    return live
