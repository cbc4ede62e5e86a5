"""The client as it is described to the application in every call.

Source: message Env of etc/rpc.proto and the state rules of common.go (anycable/anycable).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from catenary.messages.names import Identifier, Sid


class Ingress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a client came in: one object for all clients that came in the same way, so it takes no memory for each.

    ``realm`` names the application of the endpoint, if that has one of its own; no request can choose it. ``transport`` is
    ``websocket``, ``sse``, ``long_polling`` or ``durable_streams``, ``protocol`` the name of the client's protocol, ``origin``
    the header Origin of its request, empty if it sent none.
    """

    realm: str = ""
    transport: str = ""
    protocol: str = ""
    origin: str = ""


class Requester(msgspec.Struct, frozen=True):
    """The sender of an HTTP request that was refused; a part that is unknown is empty.

    ``address`` is an IP address. ``path`` has no query, which may contain a token. ``request_id`` is its ``X-Request-ID``,
    or the id of the session that it would have begun.
    """

    address: str = ""
    method: str = ""
    path: str = ""
    origin: str = ""
    request_id: str = ""


_DIRECT: Final = Ingress()


class Environment(msgspec.Struct, gc=False, omit_defaults=True):
    """One client as its application sees it. Only the node changes it, between two calls.

    ``cstate`` is the state of the connection, ``istate`` that of each subscription. Both are None until the
    application sets something, which saves memory: most clients have no state.
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
    ingress: Ingress = _DIRECT

    @property
    def realm(self) -> str:
        """See :class:`Ingress`."""
        return self.ingress.realm

    @property
    def address(self) -> str:
        """The IP address of the client, empty if it is unknown."""
        return self.headers.get("REMOTE_ADDR", "")

    @property
    def path(self) -> str:
        """The path of its request, without the query, which may contain a token."""
        url = self.url
        start = url.find("/", url.find("://") + 3)
        return "" if start == -1 else url[start:].partition("?")[0]

    @property
    def requester(self) -> Requester:
        """Its sender, for a request that is refused after it was admitted."""
        return Requester(self.address, "", self.path, self.ingress.origin, self.sid)

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
        hosted = cls(
            environment.sid, environment.url, environment.headers, ingress=environment.ingress
        )
        vars(hosted)["scope"] = scope
        return hosted

    @property
    def scope(self) -> Mapping[str, Any]:
        scope: Mapping[str, Any] = vars(self)["scope"]
        return scope


def _merged(state: dict[str, str], changes: dict[str, str]) -> dict[str, str]:
    """Returns a new dict, so that a call in progress keeps the state with which it was started."""
    return {key: value for key, value in {**state, **changes}.items() if value}
