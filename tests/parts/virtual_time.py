"""An event loop whose clock jumps to the next timer instead of waiting: minutes pass in no time, and load makes nothing late.

For code whose time comes from ``loop.time``; not for sockets, threads or processes, which need time of their own.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s. Each turn takes no time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s

    def hold(self, seconds: float) -> None:
        """Lets time pass within this turn."""
        self._jumping.now_s += seconds


class _JumpingSelector(selectors.DefaultSelector):
    """The time until the next timer passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the test waits for something that no timer and no task will bring")
        self.now_s += max(timeout, 0)
        return super().select(0)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs an async test in such a loop. Raises RuntimeError where it would wait forever."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def hold_the_loop(seconds: float) -> None:
    """Holds the running loop, as long work would: timers that are due meanwhile are late."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.hold(seconds)
