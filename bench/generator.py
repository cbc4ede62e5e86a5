"""A running load generator (``bench/load.py``), as the process that measures sees it.

Knows: reports, one process. Does not know: what is sampled, scenarios.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

import msgspec

from bench.plan import Checkpoint, Connected, Job, Report, Worked
from bench.servers import BenchError, Process, running

Phase = TypeVar("Phase", Checkpoint, Connected, Worked)


class Generator:
    """A load generator with all clients of a job, or a part of them. It waits after each report."""

    __slots__ = ("_process",)

    def __init__(self, job: Job, cores: tuple[int, ...] | None, stack: ExitStack) -> None:
        """The process ends with ``stack``."""
        command = (sys.executable, "-m", "bench.load", msgspec.json.encode(job).decode())
        self._process: Process = stack.enter_context(running(command, cores, talks=True))

    def receive(
        self, kind: type[Phase], on_checkpoint: Callable[[Checkpoint], None] | None = None
    ) -> Phase:
        """Waits for a report of this kind, and resumes after those before it. Raises BenchError if it ends.

        ``on_checkpoint`` is called with each checkpoint before it.
        """
        assert self._process.child.stdout is not None
        while line := self._process.child.stdout.readline():
            report = msgspec.json.decode(line, type=Report)
            if isinstance(report, kind):
                return report
            if on_checkpoint is not None and isinstance(report, Checkpoint):
                on_checkpoint(report)
            self.resume()
        raise self._ended()

    def resume(self) -> None:
        """Lets it continue after a report. Raises BenchError if it has ended."""
        stdin = self._process.child.stdin
        assert stdin is not None
        try:
            stdin.write(b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _ended(self) -> BenchError:
        return BenchError(f"a load generator ended: {self._process.error_output()}")
