"""Where this process gets its listening sockets from, and who may take them over later: systemd, and other versions of this server.

Knows: options, the parts of ``process/`` that pass sockets. Does not know: what is served there.
"""

import logging
import os
import signal
from collections.abc import Sequence
from typing import Final

from catenary.config.options import Options
from catenary.process.activation import activated_sockets
from catenary.process.handover import HandoverSocket, Predecessor
from catenary.process.lifecycle import REPLACED
from catenary.process.port_sockets import Inherited, PortSockets
from catenary.process.worker_context import WorkerContext

_log: Final = logging.getLogger("catenary.server")


class Handover:
    """Takes the sockets of a running server over, and passes those of this one to a later server. Workers leave both to
    their parent."""

    def __init__(self, options: Options, worker: WorkerContext | None = None) -> None:
        """Raises :class:`catenary.errors.ConfigError`."""
        self._predecessor: Predecessor | None = None
        self._socket: HandoverSocket | None = None
        if worker is not None:
            self.sockets = PortSockets(worker=worker)
            return
        inherited = activated_sockets(os.environ)
        for each in inherited:
            _log.info("Listening at %s, which systemd has opened (%s)", each, each.name)
        path = options.server.handover_socket
        self._predecessor = Predecessor.find(path) if path else None
        if self._predecessor is not None:
            _log.info("Taking over from the server at %s", path)
            inherited += _without_twins(self._predecessor.sockets, is_activated=bool(inherited))
        self.sockets = PortSockets(inherited)
        if path and (not options.pubsub.adapter or options.enats.enabled):
            _log.warning(
                "handover_socket: the next server shares no Redis or NATS with this one (broker): clients can't resume their"
                " sessions there, nor receive here what is published there"
            )
        if path:
            self._socket = HandoverSocket(path, lambda: self.sockets.transferable, _stop)
            self._socket.prepare()

    def serving(self) -> None:
        """Called when this server accepts clients: the one before it may stop."""
        if self._socket is not None:
            self._socket.listen()
        if self._predecessor is not None:
            self._predecessor.replace()

    async def close(self, timeout_s: float) -> None:
        """Passes the sockets to nobody from now on."""
        if self._socket is not None:
            await self._socket.close(timeout_s)


def _without_twins(sockets: Sequence[Inherited], *, is_activated: bool) -> list[Inherited]:
    """Closes the sockets that systemd has passed to both servers."""
    twins = [each for each in sockets if each.name and is_activated]
    for each in twins:
        each.socket.close()
    return [each for each in sockets if each not in twins]


def _stop() -> None:
    """A signal, as for a worker that is replaced: this server accepts nothing more, and does not wait for load balancers."""
    signal.raise_signal(REPLACED)
