"""Measures the memory of a long-polling client whose poll waits.

    python -m bench.long_polling [--clients N] [--rounds N]

Each client has a session, one subscription, and an open connection with a poll. Exit status 0 if the median of the rounds is
within its limit, 1 if not, 2 if nothing could be measured.
"""

import argparse
import asyncio
import re
import resource
import sys
from collections.abc import Sequence
from statistics import median
from typing import Final, cast

import uvloop

from bench.client_kinds import SETTLE_S, connect_all, serving
from bench.servers import BenchError

MEMORY_LIMIT_KB: Final = 8.0

FLAGS: Final = ("--poll", "--poll_interval=3600", "--poll_keepalive_timeout=3600")

_SUBSCRIBE: Final = (
    rb'{"command":"subscribe","identifier":"{\"channel\":\"$pubsub\",\"stream_name\":\"s\"}"}'
)
_OPENING: Final = b"POST /lp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_SUBSCRIBE),
    _SUBSCRIBE,
)
_POLL_ID: Final = re.compile(rb"X-Anycable-Poll-ID: (\S+)")


class Client(asyncio.Protocol):
    """Opens a session, subscribes, and polls on the same connection. ``ready`` is done when the poll is sent."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_OPENING)

    def data_received(self, data: bytes) -> None:
        self._received += data
        poll_id = _POLL_ID.search(self._received)
        if self.ready.done() or poll_id is None or b"confirm_subscription" not in self._received:
            return
        assert self._transport is not None
        poll = b"POST /lp HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Anycable-Poll-ID: %b\r\n\r\n"
        self._transport.write(poll % poll_id[1])
        self._received = b""
        self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(BenchError(f"a client was refused: {self._received[:80]!r}"))

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def memory_kb(count: int) -> float:
    """The memory of one client whose poll waits, in KB."""
    with serving(*FLAGS) as server:
        empty = server.process.usage().pss_kb
        clients = [Client() for _ in range(count)]
        await connect_all(server.port, clients)
        await asyncio.sleep(SETTLE_S)
        full = server.process.usage().pss_kb
        for client in clients:
            client.leave()
    return (full - empty) / count


async def measured(clients: int, rounds: int) -> float:
    return median([await memory_kb(clients) for _ in range(rounds)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints a table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.long_polling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clients", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measured(options.clients, options.rounds))
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    sys.stdout.write(
        "| | long polling | limit |\n|---|---|---|\n"
        f"| memory of a client that waits, KB | {found:.2f} | {MEMORY_LIMIT_KB:g} |\n"
    )
    return 0 if found <= MEMORY_LIMIT_KB else 1


if __name__ == "__main__":
    sys.exit(main())
