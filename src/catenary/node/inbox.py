"""The commands of one client that wait while an earlier one is executed.

Knows: commands. Does not know: sessions, when the commands are carried out (``node/inboxes.py``).
"""

from collections import deque
from functools import partial
from typing import Protocol

from catenary.messages.commands import Checkpoint, Command
from catenary.messages.names import Identifier


class Cancellable(Protocol):
    """Work that can be cancelled."""

    def cancel(self) -> object:
        """Cancels the work."""
        ...


class Inbox:
    """The ``work`` of one command, and the commands that wait for its end."""

    __slots__ = ("_answered", "commands", "is_full", "work")

    def __init__(self) -> None:
        # None until a command waits, which is rare: most work ends before the client sends more.
        self.commands: deque[Command] | None = None
        self.work: Cancellable | None = None
        self.is_full = False
        self._answered: set[Identifier] | None = None

    def note_confirmation(self, identifier: Identifier) -> None:
        """A subscription was confirmed, which also answers its subscribe commands that wait here.

        Clients repeat the command until it is answered, and ``@anycable/core`` unsubscribes when it receives a
        second answer.
        """
        if self.commands:
            answered = self._answered = self._answered or set()
            answered.add(identifier)
            self.commands.append(Checkpoint(partial(answered.discard, identifier)))

    def is_answered(self, identifier: Identifier) -> bool:
        """Whether the next command was received before such a confirmation was sent."""
        return self._answered is not None and identifier in self._answered
