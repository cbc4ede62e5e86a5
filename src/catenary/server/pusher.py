"""Pusher's protocol: its apps, and the endpoint of their clients.

Knows: options, the Pusher modules of every room. Does not know: sockets.
"""

import secrets

from catenary.messages.names import Sid


def new_socket_id() -> Sid:
    """The id of a Pusher client's session: two numbers of 53 random bits with a dot between them, as Pusher's libraries
    require. No two nodes make the same one, and nobody can guess it."""
    return Sid(f"{secrets.randbits(53)}.{secrets.randbits(53)}")
