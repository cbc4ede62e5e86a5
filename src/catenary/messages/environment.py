"""What the application is told of a client with every call.

Source: message Env of etc/rpc.proto and the state rules of common.go (anycable/anycable).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from catenary.messages.names import Identifier, Sid


class Environment(msgspec.Struct, gc=False, omit_defaults=True):
    """One client as its application sees it. The node alone changes it, between two calls.

    ``cstate`` is the connection's state, ``istate`` the state of each subscription; both None
    until the application sets something (most clients never have any).
    """

    sid: Sid
    url: str
    headers: dict[str, str]
    identifiers: str = ""
    cstate: dict[str, str] | None = None
    istate: dict[Identifier, dict[str, str]] | None = None
    written: bytes = b""
    """``url`` and ``headers``, which never change, as the way to the application has written them
    once; empty where it has no use for that."""

    def merge_cstate(self, changes: dict[str, str]) -> None:
        """Takes changes over; an empty value removes its key."""
        self.cstate = _merged(self.cstate or {}, changes)

    def merge_istate(self, identifier: Identifier, changes: dict[str, str]) -> None:
        """The same for one subscription."""
        if self.istate is None:
            self.istate = {}
        self.istate[identifier] = _merged(self.istate.get(identifier, {}), changes)

    def forget_istate(self, identifier: Identifier) -> None:
        """Drops the state of a subscription that ended."""
        if self.istate is not None:
            self.istate.pop(identifier, None)
            if not self.istate:
                self.istate = None

    def istate_of(self, identifier: Identifier) -> dict[str, str]:
        """The state of one subscription, empty where it has none."""
        return (self.istate or {}).get(identifier, {})


class AsgiEnvironment(Environment, dict=True, gc=True):
    """A client whose request another ASGI server has read.

    ``scope`` is what that told of it. No field, because it does not outlive the connection: a
    session that is kept is kept without it.
    """

    @classmethod
    def of(cls, environment: Environment, scope: Mapping[str, Any]) -> "AsgiEnvironment":
        """The same client, with its scope."""
        hosted = cls(environment.sid, environment.url, environment.headers)
        vars(hosted)["scope"] = scope
        return hosted

    @property
    def scope(self) -> Mapping[str, Any]:
        scope: Mapping[str, Any] = vars(self)["scope"]
        return scope


def _merged(state: dict[str, str], changes: dict[str, str]) -> dict[str, str]:
    """A new dict each time: a call under way keeps the state that it was started with."""
    return {key: value for key, value in {**state, **changes}.items() if value}
