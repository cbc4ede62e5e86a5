"""One subscription of a client, for as long as one call lasts.

Source: ActionCable::Channel::Base; docs/rails/extensions.md and docs/rails/channels_state.md of
docs.anycable.io. Knows: what may be done to a client. Does not know: how it is called.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, cast, overload

from catenary.channels.call import Broadcaster, Call, current
from catenary.channels.connection import Connection, refuse_strangers
from catenary.channels.errors import NotHosted, SubscriptionRejected
from catenary.channels.publishing import Sent
from catenary.channels.states import State, changes
from catenary.channels.streams import stream_name
from catenary.messages.lenient_json import read_object
from catenary.messages.names import Stream

if TYPE_CHECKING:
    # The library is not needed to run: type checkers bring what it says.
    from typing_extensions import TypeVar

    C = TypeVar("C", bound=Connection, default=Connection)
    T = TypeVar("T")
else:
    from typing import TypeVar

    C = TypeVar("C", bound=Connection)
    T = TypeVar("T")


class Channel(Generic[C]):
    """What clients subscribe to. Subclass it as ``ChatChannel(Channel[AppConnection])``.

    Annotated attributes are the params of the subscription, checked before any code runs. Objects
    live for one call: params are there in each, and what is declared with ``Channel.state``. Other
    attributes can't be set: they would be gone in the next call.

    The class arguments: ``name`` is what clients call the channel (else the class's own name),
    ``rate`` how often one subscription may call its actions, all together.
    """

    channel_name: ClassVar[str] = "Channel"
    """What clients call it."""

    channel_rate: ClassVar[str | None] = None
    """How often one subscription may call."""

    broadcaster: ClassVar[Broadcaster | None] = None
    """The cable that serves this class: of several, the one that was built last."""

    def __init_subclass__(
        cls, *, name: str | None = None, rate: str | None = None, **others: Any
    ) -> None:
        super().__init_subclass__(**others)
        cls.channel_name = name or cls.__name__
        if rate is not None:
            cls.channel_rate = rate

    def __init__(self, call: Call, connection: C) -> None:
        """For the cable alone."""
        self.__dict__["_call"] = call
        self.__dict__["_connection"] = connection

    @property
    def connection(self) -> C:
        """Whose subscription it is."""
        return cast(C, self.__dict__["_connection"])

    # For authors to write

    def subscribed(self) -> Awaitable[None] | None:
        """Starts streams, or rejects. What it raises rejects, too."""
        return None

    def unsubscribed(self) -> Awaitable[None] | None:
        """The subscription is over: told once, of each that was confirmed."""
        return None

    def restored(self) -> Awaitable[None] | None:
        """The client came back, and goes on with this subscription as it was."""
        return None

    def user_presence_id(self) -> object:
        """As whom ``join_presence`` lets the client be seen, where it is not told."""
        return self._call.environment.identifiers or self.connection.sid

    def user_presence_info(self) -> object:
        """What others learn of it, where ``join_presence`` is not told."""
        return None

    # For authors to call: the subscription

    @property
    def identifier(self) -> str:
        """The subscription as its client names it."""
        return self._call.identifier

    @property
    def params(self) -> Mapping[str, Any]:
        """Everything in the identifier, declared or not."""
        return read_object(self._call.identifier)

    def reject(self) -> NoReturn:
        """Refuses the subscription: of what the method did, only transmissions count."""
        self._call.is_rejected = True
        raise SubscriptionRejected

    def transmit(self, message: object) -> None:
        """Sends a message to this client alone. Raises TypeError for what JSON can't carry."""
        self._call.transmit(message)

    # Streams

    def stream_from(self, stream: str, *, whisper: bool = False, presence: bool = False) -> None:
        """Sends to the client what is published to a stream, from now on.

        ``whisper`` lets the client speak to the others there, ``presence`` lets it be seen there;
        one stream of a subscription can be each.
        """
        self._call.start(Stream(_named(stream)), whisper=whisper, presence=presence)

    def stream_for(self, target: object, *, whisper: bool = False, presence: bool = False) -> None:
        """The same for what is published with ``broadcast_to`` this object."""
        self.stream_from(self.broadcasting_for(target), whisper=whisper, presence=presence)

    def stop_stream_from(self, stream: str) -> None:
        """Sends no more of a stream."""
        self._call.stop(Stream(_named(stream)))

    def stop_stream_for(self, target: object) -> None:
        """The same for an object."""
        self.stop_stream_from(self.broadcasting_for(target))

    def stop_all_streams(self) -> None:
        """Sends no more of any stream that was started before."""
        self._call.stop_all()

    # Presence

    def join_presence(
        self, stream: str | None = None, *, id: object = None, info: object = None
    ) -> None:
        """Lets the client be seen on a stream: else on that with ``presence``, or the first
        started here. Raises ValueError where there is none."""
        member = self.user_presence_id() if id is None else id
        known = self.user_presence_info() if info is None else info
        self._call.join(None if stream is None else Stream(stream), str(member), known)

    def leave_presence(self, id: object = None) -> None:
        """Lets the client be seen no longer; so does the end of the subscription."""
        self._call.leave(str(self.user_presence_id() if id is None else id))

    # Publishing

    @classmethod
    def broadcasting_for(cls, target: object) -> str:
        """The stream of an object in this channel, by the rule of ``stream_name``."""
        return f"{cls.channel_name}:{stream_name(target)}"

    @classmethod
    def broadcast_to(
        cls,
        target: object,
        message: object,
        *,
        exclude_socket: str | None = None,
        to_others: bool = False,
        transient: bool = False,
    ) -> Sent:
        """Publishes to all who stream for this object. See ``Cable.broadcast``."""
        call = current.get()
        broadcaster = cls.broadcaster
        if call is not None and call.broadcaster is not None:
            broadcaster = call.broadcaster
        if broadcaster is None:
            raise NotHosted(f"expected a cable that serves {cls.__name__}, got none")
        return broadcaster.broadcast(
            cls.broadcasting_for(target),
            message,
            exclude_socket=exclude_socket,
            to_others=to_others,
            transient=transient,
        )

    @overload
    @staticmethod
    def state(default: T) -> T: ...
    @overload
    @staticmethod
    def state(*, default_factory: Callable[[], T]) -> T: ...
    @staticmethod
    def state(default: Any = None, *, default_factory: Callable[[], Any] | None = None) -> Any:
        """Declares an attribute that survives between calls, as JSON."""
        return State(default, default_factory)

    # For the cable

    @property
    def _call(self) -> Call:
        return cast(Call, self.__dict__["_call"])

    def kept_state(self) -> Mapping[str, str]:
        """What the server keeps of this subscription."""
        return self._call.kept

    def changed_state(self, states: tuple[State, ...]) -> dict[str, str]:
        """What it has to keep anew. Raises TypeError for what JSON can't carry."""
        return changes(states, self, self.kept_state())

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            refuse_strangers(self, name)
            object.__setattr__(self, name, value)


def _named(stream: str) -> str:
    if not stream:
        raise ValueError(f"expected the name of a stream, got {stream!r}")
    return stream
