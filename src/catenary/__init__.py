"""Catenary: an AnyCable-compatible realtime server.

The names that an application is written with are loaded when they are first asked for: a server
without one never needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catenary.channels.channel import Channel as Channel
    from catenary.channels.connection import Connection as Connection
    from catenary.channels.declaration import action as action
    from catenary.channels.declaration import callback as callback
    from catenary.channels.declaration import every as every
    from catenary.channels.declaration import rescue_from as rescue_from
    from catenary.channels.observer import Observer as Observer
    from catenary.server.cable import Cable as Cable

__version__ = "0.1.0"

_HOMES = {
    "Cable": "catenary.server.cable",
    "Channel": "catenary.channels.channel",
    "Connection": "catenary.channels.connection",
    "Observer": "catenary.channels.observer",
    "action": "catenary.channels.declaration",
    "callback": "catenary.channels.declaration",
    "every": "catenary.channels.declaration",
    "rescue_from": "catenary.channels.declaration",
}

__all__ = [
    "Cable",
    "Channel",
    "Connection",
    "Observer",
    "__version__",
    "action",
    "callback",
    "every",
    "rescue_from",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'catenary' has no attribute {name!r}")
        return getattr(importlib.import_module(home), name)
