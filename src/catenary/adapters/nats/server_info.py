"""INFO: a NATS server describes itself when a client connects, and again when its cluster changes.

Source: "Client Protocol" of the NATS documentation (docs.nats.io): INFO.
"""

import msgspec


class ServerInfo(msgspec.Struct, frozen=True):
    """The INFO of a server: its version, limits and neighbours."""

    version: str = "0.0.0"
    max_payload: int = 1024 * 1024
    headers: bool = False
    tls_required: bool = False
    nonce: str = ""
    cluster: str = ""
    connect_urls: tuple[str, ...] = ()
