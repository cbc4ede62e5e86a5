"""Large batches of publications: read in steps, some in each turn of the event loop.

Knows: publications, turns. Does not know: publishers, where publications are sent.
"""

import asyncio
from collections.abc import Iterator
from typing import Final

from catenary.errors import PublicationError
from catenary.messages.publications import Publishable, parse_in_steps
from catenary.node.turns import Turns

LARGE_BYTES: Final = 32_768
"""Larger batches are read in steps. To read a batch of small messages of this size takes 0.5 ms."""

BYTES_PER_WRITE: Final = 100
"""Bytes of a batch of small messages that take as long to read as one write to a client, which is the unit of cost of
the hub's turns."""

Reading = asyncio.Future[tuple[Publishable, ...]]


def read_in_turns(raw: bytes, turns: Turns) -> Reading:
    """Reads the message of a publisher. Awaiting raises :class:`PublicationError`."""
    reading: Reading = asyncio.get_running_loop().create_future()
    turns.run(_read(raw, reading))
    return reading


def _read(raw: bytes, reading: Reading) -> Iterator[int]:
    steps = parse_in_steps(raw)
    # It is cancelled if its publisher has left.
    while not reading.done():
        try:
            cost = next(steps) // BYTES_PER_WRITE
        except StopIteration as end:
            reading.set_result(end.value)
        except PublicationError as error:
            reading.set_exception(error)
        else:
            yield cost
