"""The client as it is described to the application in every call.

Source: message Env of etc/rpc.proto and the state rules of common.go (anycable/anycable).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from catenary.messages.names import Identifier, Sid


class Environment(msgspec.Struct, gc=False, omit_defaults=True):
    """One client as its application sees it. Only the node changes it, between two calls.

    ``cstate`` is the state of the connection, ``istate`` that of each subscription. Both are None until the
    application sets something, which saves memory: most clients have no state. ``realm`` names the application of the
    endpoint by which the client came in, if that has one of its own; no request can choose it.
    """

    sid: Sid
    url: str
    headers: dict[str, str]
    identifiers: str = ""
    cstate: dict[str, str] | None = None
    istate: dict[Identifier, dict[str, str]] | None = None
    written: bytes = b""
    """``url`` and ``headers``, which never change, as encoded once for all calls to the application; empty if the
    application needs no such encoding."""
    realm: str = ""

    def merge_cstate(self, changes: dict[str, str]) -> None:
        """Applies changes to the connection's state; an empty value removes its key."""
        self.cstate = _merged(self.cstate or {}, changes)

    def merge_istate(self, identifier: Identifier, changes: dict[str, str]) -> None:
        """Applies changes to the state of one subscription."""
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
        """The state of one subscription, empty if it has none."""
        return (self.istate or {}).get(identifier, {})


class AsgiEnvironment(Environment, dict=True, gc=True):
    """A client of a cable inside another ASGI server.

    ``scope`` describes its connection as ASGI does. It is not a field of the struct, so it is not stored with a
    session that can be resumed.
    """

    @classmethod
    def of(cls, environment: Environment, scope: Mapping[str, Any]) -> "AsgiEnvironment":
        """A copy of an environment with a scope."""
        hosted = cls(environment.sid, environment.url, environment.headers, realm=environment.realm)
        vars(hosted)["scope"] = scope
        return hosted

    @property
    def scope(self) -> Mapping[str, Any]:
        scope: Mapping[str, Any] = vars(self)["scope"]
        return scope


def _merged(state: dict[str, str], changes: dict[str, str]) -> dict[str, str]:
    """Returns a new dict, so that a call in progress keeps the state with which it was started."""
    return {key: value for key, value in {**state, **changes}.items() if value}
