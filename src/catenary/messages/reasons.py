"""Reasons of the server to end a session.

The protocol and the transport choose how the client is notified (a message, a close code, an event, a status):
:meth:`catenary.ports.Codec.goodbye`.
"""

import enum


class Reason(enum.Enum):
    """A reason; ``reconnect`` says whether the client may reconnect by itself."""

    AUTH_FAILED = ("the application did not let the client in", False)
    AUTH_ERROR = ("the application could not be asked whether to let the client in", True)
    COMMAND_FAILED = ("the application answered a command with a disconnect", True)
    SERVER_RESTART = ("the server stops", True)
    REMOTE = ("a remote disconnect", True)
    SLOW_CLIENT = ("the client reads too slowly", True)
    RESUMED = ("another connection resumed the session", True)
    IDLE_TIMEOUT = ("the client did not send anything for too long", False)
    NO_PONG = ("the client did not answer a ping", True)
    UNAUTHORIZED = ("the client has no valid token", False)
    TOKEN_EXPIRED = ("the token of the client has expired", False)
    TOO_MANY_CONNECTIONS = ("the user of the client has too many connections", True)
    TOO_MANY_COMMANDS = ("the client sends commands too fast", True)
    INVALID_MESSAGE = ("the client sent a message that its protocol forbids", False)

    description: str
    reconnect: bool

    def __init__(self, description: str, reconnect: bool) -> None:
        self.description = description
        self.reconnect = reconnect
