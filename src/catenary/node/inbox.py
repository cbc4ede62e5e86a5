"""The commands of one client that wait while an earlier one takes time.

Knows: commands. Does not know: sessions, when the commands are carried out (``node/inboxes.py``).
"""

from collections import deque
from functools import partial
from typing import Protocol

from catenary.messages.commands import Checkpoint, Command
from catenary.messages.names import Identifier


class Cancellable(Protocol):
    """Something that is waited for and can be given up."""

    def cancel(self) -> object:
        """Gives it up."""
        ...


class Inbox:
    """What takes time, as ``work``, and the commands that wait for it."""

    __slots__ = ("_answered", "commands", "is_full", "work")

    def __init__(self) -> None:
        # None until something waits, which is rare: most have ended before the client says more.
        self.commands: deque[Command] | None = None
        self.work: Cancellable | None = None
        self.is_full = False
        self._answered: set[Identifier] | None = None

    def note_confirmation(self, identifier: Identifier) -> None:
        """A subscription was confirmed: that answers all its subscribe commands that wait here, too.

        Clients repeat the command until it is answered, and ``@anycable/core`` unsubscribes when a
        second answer comes.
        """
        if self.commands:
            answered = self._answered = self._answered or set()
            answered.add(identifier)
            self.commands.append(Checkpoint(partial(answered.discard, identifier)))

    def is_answered(self, identifier: Identifier) -> bool:
        """Was the command that comes next received before such a confirmation?"""
        return self._answered is not None and identifier in self._answered
