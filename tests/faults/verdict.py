"""Accepted publications compared with those that arrived: lost, doubled, out of order, and the time to recover.

Pure. Knows: numbers. Does not know: engines, faults, sockets.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.faults.client import RecordingClient
from tests.faults.publishers import Publisher
from tests.faults.readiness import ReadinessVerdict


@dataclass(frozen=True)
class Counts:
    """Of one client and stream, or the sum of many.

    ``lost`` were accepted and never arrived; ``reported`` of those belong to a stream for which the client
    received ``reject_history``. ``doubled`` counts each further arrival of a number; ``disordered`` were
    accepted and arrived, the first time, after a greater one. (A publisher that stops waiting for an answer
    and publishes the next number gives up the order of the two.)
    """

    due: int = 0
    delivered: int = 0
    lost: int = 0
    reported: int = 0
    doubled: int = 0
    disordered: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.due + other.due,
            self.delivered + other.delivered,
            self.lost + other.lost,
            self.reported + other.reported,
            self.doubled + other.doubled,
            self.disordered + other.disordered,
        )


@dataclass(frozen=True)
class Verdict:
    """Of one run. ``recovery_s`` is the longest time in which a client received nothing on a stream;
    ``refusing_s`` the longest time in which nothing of a publisher was accepted."""

    engine: str
    fault: str
    accepted: int
    uncertain: int
    counts: Counts
    recovery_s: float
    refusing_s: float
    readiness: ReadinessVerdict
    examples: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing twice, in order, and `/ready` as documented."""
        counts = self.counts
        is_complete = not (counts.lost or counts.doubled or counts.disordered)
        return is_complete and not self.readiness.problems


def compare(
    accepted: Sequence[int], received: Sequence[int], *, was_reported: bool = False
) -> Counts:
    """One client's messages of one stream."""
    in_order = set(accepted)
    seen: set[int] = set()
    disordered = newest = 0
    for number in received:
        if number not in seen and number in in_order:
            disordered += number < newest
            newest = max(newest, number)
        seen.add(number)
    lost = sum(number not in seen for number in accepted)
    return Counts(
        due=len(accepted),
        delivered=len(received),
        lost=lost,
        reported=lost if was_reported else 0,
        doubled=len(received) - len(seen),
        disordered=disordered,
    )


def compare_all(
    clients: Iterable[RecordingClient], publishers: Sequence[Publisher]
) -> tuple[Counts, tuple[str, ...]]:
    """The sum of all clients and streams, and a line for each that is wrong."""
    total, examples = Counts(), []
    for number, client in enumerate(clients):
        for publisher in publishers:
            stream = publisher.stream
            counts = compare(
                publisher.accepted,
                client.received[stream],
                was_reported=stream in client.reported_gaps,
            )
            total += counts
            if counts.lost or counts.doubled or counts.disordered:
                examples.append(f"client {number}, stream {stream}: {counts}")
    return total, tuple(examples)


COLUMNS = (
    *("engine", "fault", "accepted", "uncertain", "due", "delivered", "lost", "doubled"),
    *("out of order", "recovery, s", "refusing, s", "not ready, s", "ready again, s", "/ready"),
)


def table(verdicts: Iterable[Verdict]) -> str:
    """Markdown."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for each in verdicts:
        counts = each.counts
        lost = (
            f"{counts.lost} ({counts.reported} reported)" if counts.reported else str(counts.lost)
        )
        rows.append(
            (
                *(each.engine, each.fault, str(each.accepted), str(each.uncertain)),
                *(str(counts.due), str(counts.delivered), lost),
                *(str(counts.doubled), str(counts.disordered)),
                *(f"{each.recovery_s:.1f}", f"{each.refusing_s:.1f}"),
                *(f"{each.readiness.not_ready_s:.1f}", f"{each.readiness.again_s:.1f}"),
                "wrong" if each.readiness.problems else "as documented",
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
