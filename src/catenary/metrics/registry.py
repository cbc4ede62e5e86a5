"""The figures of one process by name, for everything that shows them: Prometheus, StatsD, the log, the console.

A figure is a function that is called when the figures are read: registering costs nothing while the server runs.
Knows: names, numbers. Does not know: what is measured, or how it is exported.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from catenary.metrics.counters import Counters, described


class Figure(NamedTuple):
    """One figure at one moment. Names that end in ``_total`` only grow; the others go up and down."""

    name: str
    help: str
    value: int

    @property
    def is_counter(self) -> bool:
        """Whether it only grows."""
        return self.name.endswith("_total")


class Registry:
    """All counters, and the figures that parts of the server have registered."""

    __slots__ = ("_figures",)

    def __init__(self, counters: Counters) -> None:
        self._figures: dict[str, tuple[str, Callable[[], int]]] = {
            name: (text, functools.partial(getattr, counters, name)) for name, text in described()
        }

    def register(self, name: str, text: str, read: Callable[[], int]) -> None:
        """Adds a figure; ``read`` returns its present value. Raises ValueError if the name is taken."""
        if name in self._figures:
            raise ValueError(f"the figure {name} is registered already")
        self._figures[name] = (text, read)

    def figures(self) -> tuple[Figure, ...]:
        """The present values, in the order of registration."""
        return tuple(Figure(name, text, read()) for name, (text, read) in self._figures.items())
