"""The application of the contract suite. It publishes its calls on the stream "log"."""

from catenary import Cable, Channel, Connection, action, callback, rescue_from
from catenary.channels.publishing import Publisher

RESTORED = "$back"
"""The action that the suite's servers perform on each subscription of a resumed session."""


class User(Connection):
    identified_by = ("name",)
    name: str
    calls: int = Connection.state(0)

    async def connect(self) -> None:
        name = self.request.params.get("name") or self.request.cookies.get("name")
        if name is None:
            self.reject_unauthorized_connection()
        self.name = name

    async def disconnect(self) -> None:
        self._tell("disconnected")

    def _tell(self, what: str) -> None:
        LogChannel.broadcast_to("all", [self.name, what])


class LogChannel(Channel[User]):
    """Subscribes to the calls of the application."""

    async def subscribed(self) -> None:
        self.stream_for("all")


class RoomChannel(Channel[User]):
    id: int
    quiet: bool = False
    count: int = Channel.state(0)
    words: list[str] = Channel.state(default_factory=list[str])

    async def subscribed(self) -> None:
        if self.id < 0:
            self.reject()
        self.stream_for(self.id, whisper=True)
        if not self.quiet:
            self.join_presence(id=self.connection.name, info={"room": self.id})
        self.transmit({"hello": self.connection.name})

    def unsubscribed(self) -> None:
        LogChannel.broadcast_to("all", [self.connection.name, f"left {self.id}", self.count])

    async def restored(self) -> None:
        self.transmit({"restored": self.connection.name, "count": self.count})

    @callback.after_subscribe
    async def note(self) -> None:
        self.count = 1

    @action
    async def say(self, text: str) -> None:
        await self.broadcast_to(self.id, {"text": text})

    @action
    async def say_to_others(self, text: str) -> None:
        self.broadcast_to(self.id, {"text": text}, to_others=True)

    @action
    def add(self, word: str) -> None:
        self.words.append(word)
        self.count += 1
        self.connection.calls += 1
        self.transmit({"words": self.words, "count": self.count, "calls": self.connection.calls})

    @action
    async def follow(self, stream: str) -> None:
        self.stream_from(stream)
        self.transmit("following")

    @action
    async def unfollow(self, stream: str) -> None:
        self.stop_stream_from(stream)
        self.transmit("stopped")

    @action
    async def unfollow_all(self) -> None:
        self.stop_all_streams()
        self.transmit("stopped")

    @action
    async def hide(self) -> None:
        self.leave_presence()

    @action
    async def divide(self, by: int) -> None:
        self.count = 99
        self.transmit(1 // by)

    @action
    async def look_up(self, key: str) -> None:
        raise KeyError(key)

    @rescue_from(KeyError)
    async def unknown(self, error: KeyError) -> None:
        self.transmit({"unknown": error.args[0]})

    @action
    async def bye(self) -> None:
        self.transmit("bye")
        self.connection.close()


def chat(publisher: Publisher | None = None) -> Cable:
    """A new cable of the application."""
    return Cable(
        connection=User,
        channels=[LogChannel, RoomChannel],
        publisher=publisher,
        restored_action=RESTORED,
    )
