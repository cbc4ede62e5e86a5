"""How much a broker keeps and for how long, in memory, Redis or NATS."""

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """``history_limit`` messages of each stream, each for ``history_ttl_s``; if either is 0, no message is kept.
    Sessions and presence last for their TTL after they were last touched."""

    history_limit: int
    history_ttl_s: int
    sessions_ttl_s: int
    presence_ttl_s: int
