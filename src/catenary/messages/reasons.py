"""The catalogue of goodbyes: what the client is told, the close code, and whether it may come back.

Sources: disconnect reasons of the Action Cable protocol (docs.anycable.io,
docs/misc/action_cable_protocol.md); close codes of RFC 6455, section 7.4.1.
"""

import enum


class Reason(enum.Enum):
    """Why a session ends. ``wire`` is None where the client gets a close frame and no message."""

    AUTH_FAILED = (None, 1000, False, "Auth Failed")
    AUTH_ERROR = (None, 1011, True, "Auth Error")
    COMMAND_FAILED = (None, 1000, True, "Command Failed")
    SERVER_RESTART = ("server_restart", 1001, True, "Server restart")
    REMOTE = ("remote", 1000, True, "Closed remotely")
    SLOW_CLIENT = ("too_slow", 1000, True, "Slow client")
    RESUMED = (None, 1000, True, "Resumed by another connection")
    IDLE_TIMEOUT = ("idle_timeout", 1000, False, "Idle Timeout")
    NO_PONG = ("no_pong", 1000, True, "No Pong")
    UNAUTHORIZED = ("unauthorized", 1000, False, "Unauthorized")
    TOKEN_EXPIRED = ("token_expired", 1000, False, "Token expired")

    wire: str | None
    close_code: int
    reconnect: bool
    close_text: str

    def __init__(self, wire: str | None, close_code: int, reconnect: bool, close_text: str) -> None:
        self.wire = wire
        self.close_code = close_code
        self.reconnect = reconnect
        self.close_text = close_text
