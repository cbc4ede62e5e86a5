"""The nodes of a cluster, as they describe themselves to each other.

Knows: names. Does not know: how nodes find each other.
"""

import msgspec


class NodeEntry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One process that serves clients. Fields are only ever added at the end: nodes of several versions read them.

    ``id`` is unique in the cluster and another one at each start; ``name`` is ``node_id``, or else the id. ``worker`` is the
    number of a worker process, 0 without workers. ``started_at`` is in seconds since 1970.
    """

    id: str
    name: str
    host: str
    pid: int
    worker: int
    version: str
    started_at: int
