"""A channel: one subscription of a client, for the length of one call.

Source: ActionCable::Channel::Base; docs/rails/extensions.md and docs/rails/channels_state.md of
docs.anycable.io. Knows: effects on a client. Does not know: servers.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, cast, overload

from catenary.channels.call import Broadcaster, Call, current
from catenary.channels.connection import Connection, refuse_undeclared
from catenary.channels.errors import NotHosted, SubscriptionRejected
from catenary.channels.publishing import Sent
from catenary.channels.states import State, changes
from catenary.channels.streams import stream_name
from catenary.messages.lenient_json import read_object
from catenary.messages.names import Stream

if TYPE_CHECKING:
    # Not needed at run time: type checkers bring their own copy.
    from typing_extensions import TypeVar

    C = TypeVar("C", bound=Connection, default=Connection)
    T = TypeVar("T")
else:
    from typing import TypeVar

    C = TypeVar("C", bound=Connection)
    T = TypeVar("T")


class Channel(Generic[C]):
    """A channel to which clients subscribe. Subclass it with the connection class as its parameter.

    ::

        class ChatChannel(Channel[User], rate="10/s"):
            room: int

            async def subscribed(self) -> None:
                self.stream_for(self.room)

            @action
            async def speak(self, text: str) -> None:
                self.broadcast_to(self.room, {"text": text})

    Annotated attributes are the params of the subscription; they are checked before any code runs, and
    a subscription with other types is rejected. Objects live for one call: params, and attributes
    declared with ``Channel.state``, can be read in each. Setting any other attribute raises
    AttributeError, because it would be lost after the call.

    Class arguments: ``name`` is the channel's name for clients (by default that of the class), ``rate``
    limits the calls of all actions of one subscription together: ``"10/s"``, ``"100/m"``, ``"20/10s"``.
    """

    channel_name: ClassVar[str] = "Channel"
    """The name of the channel for clients."""

    channel_rate: ClassVar[str | None] = None
    """The rate limit of one subscription; None for no limit."""

    broadcaster: ClassVar[Broadcaster | None] = None
    """The cable that serves this class; of several, the one that was built last."""

    def __init_subclass__(
        cls, *, name: str | None = None, rate: str | None = None, **others: Any
    ) -> None:
        super().__init_subclass__(**others)
        cls.channel_name = name or cls.__name__
        if rate is not None:
            cls.channel_rate = rate

    def __init__(self, call: Call, connection: C) -> None:
        """Called by the cable only."""
        self.__dict__["_call"] = call
        self.__dict__["_connection"] = connection

    @property
    def connection(self) -> C:
        """The connection of the client."""
        return cast(C, self.__dict__["_connection"])

    # To be overridden

    def subscribed(self) -> Awaitable[None] | None:
        """Runs for each subscription: starts streams, or rejects. An exception rejects it, too."""
        return None

    def unsubscribed(self) -> Awaitable[None] | None:
        """Runs once at the end of each confirmed subscription, also if the client has left."""
        return None

    def restored(self) -> Awaitable[None] | None:
        """Runs when the client has reconnected and resumed this subscription."""
        return None

    def user_presence_id(self) -> object:
        """The default id of ``join_presence``: the identifiers, or the sid."""
        return self._call.environment.identifiers or self.connection.sid

    def user_presence_info(self) -> object:
        """The default info of ``join_presence``, which other members see."""
        return None

    # To be called: the subscription

    @property
    def identifier(self) -> str:
        """The identifier of the subscription: JSON, as the client wrote it."""
        return self._call.identifier

    @property
    def params(self) -> Mapping[str, Any]:
        """All params of the identifier, declared or not."""
        return read_object(self._call.identifier)

    def reject(self) -> NoReturn:
        """Rejects the subscription. Ends the method by an exception; of its effects, only transmissions count."""
        self._call.is_rejected = True
        raise SubscriptionRejected

    def transmit(self, message: object) -> None:
        """Sends a message to this client only. Raises TypeError for a message that JSON can't carry."""
        self._call.transmit(message)

    # Streams

    def stream_from(self, stream: str, *, whisper: bool = False, presence: bool = False) -> None:
        """Subscribes the client to a stream: from now on it gets every message published there.

        With ``whisper``, messages that the client whispers go to the other subscribers of this stream;
        with ``presence``, ``join_presence`` uses this stream. A subscription has at most one of each.
        Raises ValueError for an empty name.
        """
        self._call.start(Stream(_named(stream)), whisper=whisper, presence=presence)

    def stream_for(self, target: object, *, whisper: bool = False, presence: bool = False) -> None:
        """Subscribes to the stream of an object, on which ``broadcast_to`` publishes; raises as
        ``stream_name``."""
        self.stream_from(self.broadcasting_for(target), whisper=whisper, presence=presence)

    def stop_stream_from(self, stream: str) -> None:
        """Unsubscribes the client from a stream."""
        self._call.stop(Stream(_named(stream)))

    def stop_stream_for(self, target: object) -> None:
        """Unsubscribes the client from the stream of an object."""
        self.stop_stream_from(self.broadcasting_for(target))

    def stop_all_streams(self) -> None:
        """Unsubscribes the client from all streams of this subscription."""
        self._call.stop_all()

    # Presence

    def join_presence(
        self, stream: str | None = None, *, id: object = None, info: object = None
    ) -> None:
        """Adds the client to the members of a stream: of ``stream``, or of the one started with
        ``presence``, or of the first one that this call started.

        ``id`` identifies the member (several connections may share it), ``info`` is anything that JSON
        can carry. Raises ValueError without a stream or with an empty id.
        """
        member = self.user_presence_id() if id is None else id
        known = self.user_presence_info() if info is None else info
        self._call.join(None if stream is None else Stream(stream), str(member), known)

    def leave_presence(self, id: object = None) -> None:
        """Removes the client from the members; the end of the subscription does the same."""
        self._call.leave(str(self.user_presence_id() if id is None else id))

    # Publishing

    @classmethod
    def broadcasting_for(cls, target: object) -> str:
        """The name of the stream of an object in this channel: ``ChatChannel:42``. See ``streams.py``."""
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
        """Publishes to the stream of an object; arguments and errors are those of :meth:`Cable.broadcast`.

        Raises :class:`NotHosted` if no cable serves this class.
        """
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
        """Declares an attribute that survives between calls: ``muted: bool = Channel.state(False)``.

        The server stores it as JSON. A list or dict needs a ``default_factory``.
        """
        return State(default, default_factory)

    # For the cable

    @property
    def _call(self) -> Call:
        return cast(Call, self.__dict__["_call"])

    def stored_state(self) -> Mapping[str, str]:
        """The stored state of this subscription: names → JSON."""
        return self._call.stored_istate

    def changed_state(self, states: tuple[State, ...]) -> dict[str, str]:
        """The state to store after this call. Raises TypeError for a value that JSON can't carry."""
        return changes(states, self, self.stored_state())

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            refuse_undeclared(self, name)
            object.__setattr__(self, name, value)


def _named(stream: str) -> str:
    if not stream:
        raise ValueError(f"expected the name of a stream, got {stream!r}")
    return stream
