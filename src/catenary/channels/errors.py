"""What goes wrong between an application and its clients.

    CatenaryError
    ├── ConfigError
    │   └── DeclarationError   a channel or connection class that can't be served
    ├── ChannelError           a client's command that its channel does not carry out
    │   ├── UnknownChannel     no channel of this name is served
    │   ├── UnknownAction      no action of this name is declared
    │   ├── InvalidArguments   arguments of other types than the action declares
    │   └── RateLimited        more calls than the action or the channel allows
    ├── AbandonedError         what a method waited for was cancelled
    ├── ExitedError            a method has called sys.exit()
    └── NotHosted              a channel class that no cable serves, and that is to publish

Channel errors reach the handlers of ``rescue_from``; without one they are logged, without a traceback.
"""

from catenary.errors import CatenaryError, ConfigError


class DeclarationError(ConfigError):
    """A class that can't be served; the message names it, and what was expected."""


class ChannelError(CatenaryError):
    """A client's command that its channel does not carry out."""


class UnknownChannel(ChannelError):
    """No channel of this name is served."""


class UnknownAction(ChannelError):
    """No action of this name is declared."""


class InvalidArguments(ChannelError):
    """Arguments that are not what the action declares."""


class RateLimited(ChannelError):
    """More calls than the action or the channel allows."""


class AbandonedError(CatenaryError):
    """What a method waited for was cancelled, although its call was not."""


class ExitedError(CatenaryError):
    """A method has called ``sys.exit``: its call has failed, and the server goes on."""


class NotHosted(CatenaryError):
    """A publication by a channel class that no cable serves."""


class SubscriptionRejected(Exception):
    """How ``Channel.reject`` ends the method that calls it."""


class ConnectionUnauthorized(Exception):
    """How ``Connection.reject_unauthorized_connection`` ends the method that calls it."""
