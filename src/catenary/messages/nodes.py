"""The nodes of a cluster, as they describe themselves to each other.

Knows: names. Does not know: how nodes find each other.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

NodeId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
"""The id of a node. It becomes a part of channels and subjects: whatever ends one of those is not allowed in it."""

NodeText = Annotated[str, Meta(max_length=1_000)]
"""A text about a node."""


class NodeEntry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One process that serves clients. Fields are only ever added at the end: nodes of several versions read them.

    ``id`` is unique in the cluster and another one at each start; ``name`` is ``node_id``, or else the id. ``worker`` is the
    number of a worker process, 0 without workers. ``started_at`` is in seconds since 1970.
    """

    id: NodeId
    name: NodeText
    host: NodeText
    pid: int
    worker: int
    version: NodeText
    started_at: int
