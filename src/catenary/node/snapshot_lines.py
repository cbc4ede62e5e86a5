"""Snapshots of large sessions in lines, of which only changed ones are written again.

Writing the whole session for each of its subscriptions would cost the square of their number, and could exceed the
message size of NATS. A small session is a single line. A larger one is divided: its first line has no subscriptions, each
other line has some of them.
Knows: sizes, subscriptions. Does not know: where lines are stored.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.node.session import Session
from catenary.node.snapshot import NEWLINE, Part, Snapshot, Subscribed, subscribed, write

LINE_BYTES: Final = 16_384
"""A session that is larger is divided. Lines take subscriptions up to half of this; the last may make one longer."""

Find = Callable[[Identifier], Subscribed | None]


class SnapshotLines:
    """The lines of a session, and its subscriptions that have changed since it was written last."""

    __slots__ = ("_changed", "_head", "_line_of", "_members", "_roomy", "_sizes")

    def __init__(self, snapshot: Snapshot) -> None:
        self._head = _head(snapshot)
        self._members: list[dict[Identifier, None]] = [{}]
        """The subscriptions of each line, by its number; the first line has none."""
        self._sizes: list[int] = [0]
        """The size of each line as last written, in bytes; for subscriptions placed since, an estimate."""
        self._line_of: dict[Identifier, int] = {}
        self._roomy: dict[int, None] = {}
        """Lines with room for more subscriptions."""
        self._changed: dict[Identifier, None] = dict.fromkeys(snapshot.subscriptions)

    def note(self, identifier: Identifier) -> None:
        """A subscription was added, changed or removed."""
        self._changed[identifier] = None

    def changed(self, session: Session, revision: int) -> dict[int, bytes]:
        """Writes the lines that have changed since the last call; returns them by their numbers."""

        def find(identifier: Identifier) -> Subscribed | None:
            subscription = session.subscriptions.get(identifier)
            return None if subscription is None else subscribed(subscription)

        lines = self._rewritten(find, session.environment)
        snapshot = Snapshot(
            session.environment, {}, session.disconnect_wanted, revision, session.expires_at
        )
        head = _head(snapshot)
        if head != self._head:
            self._head = head
            lines[0] = _first(snapshot)
        return lines

    def all(self, snapshot: Snapshot) -> bytes:
        """Writes all lines of the session that this object was built for."""
        rest = self._rewritten(snapshot.subscriptions.get, snapshot.environment)
        return NEWLINE.join([_first(snapshot), *(rest[number] for number in sorted(rest))])

    def _rewritten(self, find: Find, environment: Environment) -> dict[int, bytes]:
        touched: dict[int, None] = {}
        for identifier in self._changed:
            number = self._line_of.get(identifier)
            if find(identifier) is not None:
                touched[self._place(identifier) if number is None else number] = None
            elif number is not None:
                del self._line_of[identifier], self._members[number][identifier]
                touched[number] = None
        self._changed.clear()
        istate = environment.istate or {}
        return {number: self._written(number, find, istate) for number in touched}

    def _place(self, identifier: Identifier) -> int:
        """Chooses a line for a new subscription."""
        if not self._roomy:
            self._roomy[len(self._members)] = None
            self._members.append({})
            self._sizes.append(0)
        number = next(iter(self._roomy))
        self._members[number][identifier] = None
        self._line_of[identifier] = number
        self._resize(number, self._sizes[number] + len(identifier))
        return number

    def _written(self, number: int, find: Find, istate: dict[Identifier, dict[str, str]]) -> bytes:
        members = self._members[number]
        found: Iterable[tuple[Identifier, Subscribed | None]] = (
            (each, find(each)) for each in members
        )
        subscriptions = {identifier: each for identifier, each in found if each is not None}
        line = write(
            Part(subscriptions, {each: istate[each] for each in members if each in istate})
        )
        self._resize(number, len(line))
        return line

    def _resize(self, number: int, size: int) -> None:
        self._sizes[number] = size
        if size < LINE_BYTES // 2:
            self._roomy[number] = None
        else:
            self._roomy.pop(number, None)


def written(snapshot: Snapshot) -> tuple[bytes, SnapshotLines | None]:
    """Writes a whole session; returns its division, too, or None if it is one line."""
    line = write(snapshot)
    if len(line) <= LINE_BYTES:
        return line, None
    lines = SnapshotLines(snapshot)
    return lines.all(snapshot), lines


def _head(snapshot: Snapshot) -> tuple[object, ...]:
    """The changeable values of the first line."""
    environment = snapshot.environment
    return (
        environment.identifiers,
        environment.cstate,
        snapshot.disconnect_wanted,
        snapshot.expires_at,
    )


def _first(snapshot: Snapshot) -> bytes:
    environment = msgspec.structs.replace(snapshot.environment, istate=None, written=b"")
    return write(msgspec.structs.replace(snapshot, environment=environment, subscriptions={}))
