"""The program of a code worker: python -m catenary.server.code_worker MODULE:CABLE LEVEL FORMAT [traced].

Loads the cable and answers calls through the socket that it inherits. It exits when its parent asks for it or dies;
it ignores signals, which are for the parent.
"""

import logging
import os
import signal
import socket
import sys
from typing import Final

import uvloop

from catenary.channels.cable import Cable
from catenary.channels.loading import load
from catenary.codeworkers.process import SOCKET, TRACED
from catenary.codeworkers.worker import CodeWorker
from catenary.errors import ConfigError, ImportFailed
from catenary.process import logs, worker_context
from catenary.process.resources import freeze_gc
from catenary.tracer import TracePropagator

_log: Final = logging.getLogger("catenary.code")


def main(where: str, level: str, form: str, tracing: str = "") -> int:
    """Returns the exit status: 0 after an orderly end, 1 if the code can't be loaded."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A signal to the whole process group is handled by the parent, which stops its code workers in order.
        signal.signal(number, signal.SIG_IGN)
    connected = socket.socket(fileno=int(os.environ.pop(SOCKET)))
    connected.set_inheritable(False)
    # The context of the serving process contains a password; the application must not see it.
    os.environ.pop(worker_context.VARIABLE, None)
    logs.set_up(level, "json" if form == "json" else "text")
    try:
        cable = load(where)
    except ImportFailed as error:
        # The code workers of before go on; the traceback is for the author of the change.
        _log.error("%s can't be loaded", where, exc_info=error.__cause__)
        return 1
    except ConfigError as error:
        _log.error("%s", error)
        return 1
    if cable.observer is not None:
        _log.warning("The observer of %s is not called: the cable runs in code workers", where)
    propagator = _propagator() if tracing == TRACED else None
    freeze_gc()
    if not uvloop.run(_answer(cable, propagator, connected)):
        # Does not wait for threads of the application.
        logging.shutdown()
        os._exit(1)
    return 0


def _propagator() -> TracePropagator:
    # The library is optional.
    from catenary.tracing.propagation import OtelPropagator

    return OtelPropagator()


async def _answer(
    cable: Cable, propagator: TracePropagator | None, connected: socket.socket
) -> bool:
    connected.setblocking(False)
    return await CodeWorker(cable, propagator).run(connected)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
