"""Assembles the directory of the cluster's nodes, and questions to them.

Knows: options, the engine's messages between nodes. Does not know: what is asked.
"""

import asyncio
import os
import secrets
import socket
import time

from catenary import __version__
from catenary.messages.nodes import NodeEntry
from catenary.node.cluster import ANSWERS, QUESTIONS, Cluster
from catenary.ports import Peers
from catenary.process import logs
from catenary.protocols.cluster_messages import ANNOUNCE_S
from catenary.server.build import ServerBuild
from catenary.server.shutdown_phases import STOP_TIMERS


def build_cluster(build: ServerBuild, peers: Peers | None) -> Cluster:
    """The cluster of this node; ``peers`` is None where there are no other nodes. Called after the engine is registered with
    ``build``: the node announces itself when the engine is connected."""
    name = secrets.token_hex(8) if peers is None else peers.node
    own = NodeEntry(
        id=name,
        name=build.options.node.node_id or name,
        host=socket.gethostname(),
        pid=os.getpid(),
        worker=0 if build.worker is None else build.worker.number,
        version=__version__,
        started_at=int(time.time()),
    )
    logs.name_node(own.name)
    cluster = Cluster(own, peers, build.counters, asyncio.get_running_loop().time)
    build.figures.register(
        "cluster_nodes_num",
        "Nodes of the cluster that this node knows, itself included",
        lambda: len(cluster.nodes()),
    )
    if peers is not None:
        build.figures.queue("cluster_questions", lambda: cluster.unanswered_num, QUESTIONS)
        build.figures.queue("cluster_answers", lambda: cluster.answering_num, ANSWERS)
        build.add(cluster.start, STOP_TIMERS, cluster.leave)
        build.tick(ANNOUNCE_S, cluster.directory.announce)
        build.restored.append(cluster.directory.announce_again)
    return cluster
