"""Errors between an application and its clients.

    CatenaryError
    ├── ConfigError
    │   └── DeclarationError   a channel or connection class that can't be served
    ├── ChannelError           a client's command that its channel refuses
    │   ├── UnknownChannel     no channel with this name is served
    │   ├── UnknownAction      the channel has no action with this name
    │   ├── InvalidArguments   arguments of other types than the action declares
    │   └── RateLimited        more calls than the action or the channel allows
    ├── AbandonedError         a future that a method awaited was cancelled
    ├── ExitedError            a method called sys.exit()
    └── NotHosted              a publication by a channel class that no cable serves

Channel errors reach the methods of ``rescue_from``; without one they are logged, without a traceback.
"""

from catenary.errors import CatenaryError, ConfigError


class DeclarationError(ConfigError):
    """A class that can't be served; the message names the class and what was expected."""


class ChannelError(CatenaryError):
    """A client's command that its channel does not carry out."""


class UnknownChannel(ChannelError):
    """No channel with this name is served."""


class UnknownAction(ChannelError):
    """The channel has no action with this name."""


class InvalidArguments(ChannelError):
    """Arguments of other types than the action declares."""


class RateLimited(ChannelError):
    """More calls than the action or the channel allows."""


class AbandonedError(CatenaryError):
    """A future that a method awaited was cancelled, although its call was not."""


class ExitedError(CatenaryError):
    """A method called ``sys.exit``: its call fails, and the server continues."""


class NotHosted(CatenaryError):
    """A publication by a channel class that no cable serves."""


class SubscriptionRejected(Exception):
    """Raised by ``Channel.reject``, to end the method that calls it."""


class ConnectionUnauthorized(Exception):
    """Raised by ``Connection.reject_unauthorized_connection``, to end the method that calls it."""
