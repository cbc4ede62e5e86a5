"""Pusher's protocol 7, the messages of one client → commands.

A reader knows the socket id and the app of its client: it checks the signatures of subscriptions and users, so a command for
a private channel exists only if its client has shown one. Source:
https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol and auth-signatures.
Knows: JSON, channels, signatures. Does not know: frames, sessions, streams.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from catenary.auth.pusher import PusherSignatures
from catenary.config.pusher_apps import PusherApp
from catenary.messages.commands import (
    ClientPing,
    ClientPong,
    CloseConnection,
    Command,
    DirectReply,
    HistoryRequest,
    Identify,
    Join,
    Subscribe,
    Unsubscribe,
    Whisper,
)
from catenary.messages.environment import Environment
from catenary.messages.lenient_json import reader
from catenary.messages.names import Identifier, Sid
from catenary.metrics.counters import Counters
from catenary.protocols import pusher_events as names
from catenary.protocols.pusher import error, event, subscription_error

UNAUTHORIZED: Final = 4009
CLIENT_EVENT_REFUSED: Final = 4301

LAST_EVENT: Final = HistoryRequest(since_s=0, newest=1)
"""Requests the newest event, which a new subscriber of a cache channel receives."""

_SHOWN: Final = 40
"""Characters of a client's text that an error repeats."""

_SHOWN_CHANNEL: Final = 200
"""Characters of a channel's name that an error repeats: enough for every valid name."""

_write: Final = msgspec.json.Encoder().encode


class _Message(msgspec.Struct, gc=False):
    event: str
    channel: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Subscription(msgspec.Struct, gc=False):
    channel: str
    auth: str | None = None
    channel_data: str | None = None


class _Unsubscription(msgspec.Struct, gc=False):
    channel: str


class _Signin(msgspec.Struct, gc=False):
    auth: str
    user_data: str


class _Member(msgspec.Struct, gc=False):
    user_id: str | int
    user_info: msgspec.Raw = msgspec.Raw(b"null")


class _User(msgspec.Struct, gc=False):
    id: str | int


_read_message: Final = reader(_Message)
_read_subscription: Final = reader(_Subscription)
_read_unsubscription: Final = reader(_Unsubscription)
_read_signin: Final = reader(_Signin)
_read_member: Final = reader(_Member)
_read_user: Final = reader(_User)


class PusherRules:
    """Shared by the readers of an app's clients. ``now`` returns monotonic seconds."""

    __slots__ = ("app", "counters", "now", "signatures")

    def __init__(self, app: PusherApp, counters: Counters, now: Callable[[], float]) -> None:
        self.app = app
        self.counters = counters
        self.now = now
        self.signatures: Final = PusherSignatures(app.key, app.secret)

    def reader(self, environment: Environment) -> "PusherReader":
        """The reader of a new session."""
        return PusherReader(self, environment.sid)


class PusherReader:
    """Reads the messages of one session: satisfies :data:`catenary.ports.Decode`.

    Its state is the user of the session, the member that it is on each presence channel, and its client events in the
    present second.
    """

    __slots__ = ("_members", "_rules", "_second", "_sent", "_socket_id", "_user_id")

    def __init__(self, rules: PusherRules, socket_id: Sid) -> None:
        self._rules = rules
        self._socket_id = socket_id
        self._user_id: str | None = None
        self._members: dict[str, str] | None = None
        self._second = 0.0
        self._sent = 0

    def __call__(self, payload: bytes) -> Command | tuple[Command, ...]:
        """Answers a message that it can't read with ``pusher:error``; never raises."""
        try:
            # The reader leaves the bytes of ``data`` unread.
            message = _read_message(payload.decode())
        except (UnicodeDecodeError, msgspec.DecodeError):
            return _refusal("Invalid message: expected a JSON object with an event")
        read = _READERS.get(message.event)
        if read is not None:
            return read(self, message)
        if message.event.startswith(names.CLIENT_EVENT):
            return self._client_event(message)
        shown = message.event[:_SHOWN]
        return _refusal(f"Unknown event: {shown}")

    # Subscriptions

    def _subscribe(self, message: _Message) -> Command:
        try:
            asked = _read_subscription(bytes(message.data))
        except msgspec.DecodeError:
            return _refusal("Invalid subscription: expected data with a channel")
        channel = asked.channel
        identifier = Identifier(channel)
        if self._user_id is not None and channel == names.user_channel(self._user_id):
            return Subscribe(identifier)
        if not names.is_channel(channel):
            return self._refuse(channel, "InvalidChannel", "Invalid channel name", 400)
        history = LAST_EVENT if names.is_cache(channel) else None
        if not names.is_private(channel):
            return Subscribe(identifier, history)
        has_members = names.is_presence(channel)
        if not asked.auth:
            return self._refuse(channel, "AuthError", "The channel needs a signature", 401)
        channel_data = asked.channel_data if has_members else None
        allows = self._rules.signatures.allows_subscription
        if not allows(asked.auth, self._socket_id, channel, channel_data):
            return self._refuse(channel, "AuthError", "The signature is invalid", 401)
        if not has_members:
            return Subscribe(identifier, history)
        return self._subscribe_member(identifier, history, channel_data or "")

    def _subscribe_member(
        self, identifier: Identifier, history: HistoryRequest | None, channel_data: str
    ) -> Command:
        try:
            member = _read_member(channel_data)
        except msgspec.DecodeError:
            text = "Expected channel_data with a user_id"
            return self._refuse(identifier, "AuthError", text, 401)
        user_id = str(member.user_id)
        if not 0 < len(user_id) <= names.MAX_USER_ID:
            text = f"Expected a user_id of up to {names.MAX_USER_ID} characters"
            return self._refuse(identifier, "LimitReached", text, 413)
        limit = self._rules.app.max_user_info_size
        if 0 < limit < len(member.user_info):
            text = f"Expected user_info of up to {limit} bytes"
            return self._refuse(identifier, "LimitReached", text, 413)
        if self._members is None:
            self._members = {}
        self._members[identifier] = user_id
        info = bytes(member.user_info).decode()
        join = Join(identifier, user_id, info, is_bound=True)
        return Subscribe(identifier, history, join, reads_members=True)

    def _refuse(self, channel: str, kind: str, text: str, status: int) -> DirectReply:
        self._rules.counters.pusher_refused_subscriptions_total += 1
        shown = channel[:_SHOWN_CHANNEL]
        return DirectReply(
            subscription_error(shown, kind, text, status), f"subscription to {shown}: {text}"
        )

    def _unsubscribe(self, message: _Message) -> Command:
        try:
            channel = _read_unsubscription(bytes(message.data)).channel
        except msgspec.DecodeError:
            return _refusal("Invalid message: expected data with a channel")
        if self._members is not None:
            self._members.pop(channel, None)
        return Unsubscribe(Identifier(channel))

    # Client events

    def _client_event(self, message: _Message) -> Command:
        why = self._why_refused(message)
        if why:
            self._rules.counters.pusher_refused_client_events_total += 1
            return _refusal(why, CLIENT_EVENT_REFUSED)
        channel = message.channel or ""
        sender = None if self._members is None else self._members.get(channel)
        data = b'{"event":%b,"data":%b' % (_write(message.event), bytes(message.data))
        end = b"}" if sender is None else b',"user_id":%b}' % _write(sender)
        return Whisper(Identifier(channel), (data + end).decode())

    def _why_refused(self, message: _Message) -> str:
        app, channel = self._rules.app, message.channel or ""
        if not app.client_events:
            return "Client events are not enabled for this app"
        if not names.takes_client_events(channel):
            return "Client events are for private and presence channels"
        if len(message.event) > names.MAX_EVENT_NAME:
            return f"Expected an event name of up to {names.MAX_EVENT_NAME} characters"
        if 0 < app.max_event_size < len(message.data):
            return f"Expected data of up to {app.max_event_size} bytes"
        if self._is_too_fast(app.max_client_events):
            return f"Expected up to {app.max_client_events} client events a second"
        return ""

    def _is_too_fast(self, limit: int) -> bool:
        now = self._rules.now()
        if now - self._second >= 1:
            self._second, self._sent = now, 0
        self._sent += 1
        return 0 < limit < self._sent

    # Users

    def _sign_in(self, message: _Message) -> Command | tuple[Command, ...]:
        try:
            asked = _read_signin(bytes(message.data))
            user = _read_user(asked.user_data)
        except msgspec.DecodeError:
            return _refuse_user("Expected auth and user_data with an id")
        if not self._rules.signatures.allows_user(asked.auth, self._socket_id, asked.user_data):
            return _refuse_user("The signature of the user is invalid")
        user_id = str(user.id)
        if not 0 < len(user_id) <= names.MAX_USER_ID:
            return _refuse_user(f"Expected a user id of up to {names.MAX_USER_ID} characters")
        if self._user_id not in (None, user_id):
            return _refuse_user("The connection belongs to another user")
        self._user_id = user_id
        data = _write({"user_data": asked.user_data}).decode()
        return (
            Identify(names.user_identifiers(self._rules.app.id, user_id)),
            DirectReply(event("pusher:signin_success", data)),
        )


def _refusal(why: str, code: int | None = None) -> DirectReply:
    return DirectReply(error(code, why), why)


def _refuse_user(text: str) -> tuple[Command, ...]:
    """The protocol closes the connection of a client that claims to be somebody else."""
    return DirectReply(error(UNAUTHORIZED, text)), CloseConnection(UNAUTHORIZED, text)


_READERS: Final[dict[str, Callable[[PusherReader, _Message], Command | tuple[Command, ...]]]] = {
    "pusher:subscribe": PusherReader._subscribe,  # noqa: SLF001  (its own table)
    "pusher:unsubscribe": PusherReader._unsubscribe,  # noqa: SLF001
    "pusher:signin": PusherReader._sign_in,  # noqa: SLF001
    "pusher:ping": lambda _, __: ClientPing(),
    "pusher:pong": lambda _, __: ClientPong(),
}
