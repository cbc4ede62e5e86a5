"""Connections that need no application to be let in.

Source: ``--noauth`` and ``--public`` of docs/configuration.md (anycable); identity/public.go.
"""

from typing import Final

import msgspec

from catenary.messages.decisions import Decision
from catenary.messages.environment import Environment
from catenary.messages.replies import Welcome

_write: Final = msgspec.json.Encoder().encode


def everybody(environment: Environment) -> Decision:
    """Lets everybody in, identified by the session id alone."""
    return Decision(
        identifiers=_write({"sid": environment.sid}).decode(),
        replies=(Welcome(environment.sid),),
        disconnect_wanted=False,
    )
