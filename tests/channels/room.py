"""A channel and a connection that use most of what there is."""

import threading
from functools import cached_property
from typing import Annotated, Any

import msgspec

from catenary import Channel, Connection, action


class User(Connection):
    identified_by = ("user_id",)
    user_id: int
    seen: int = Connection.state(0)


class Room(Channel[User]):
    id: int
    topic: Annotated[str, msgspec.Meta(max_length=5)] = "news"
    muted: bool = Channel.state(False)
    words: list[str] = Channel.state(default_factory=list[str])

    @cached_property
    def title(self) -> str:
        return f"{self.topic} {self.id}"

    async def subscribed(self) -> None:
        if self.id == 0:
            self.reject()
        if self.id < 0:
            raise ArithmeticError("negative")
        self.stream_for(self.id, whisper=True)
        self.join_presence(id=self.connection.user_id, info={"topic": self.topic})
        self.transmit({"hello": self.title})

    @action
    async def say(self, text: str, reply_to: int | None = None) -> None:
        await self.broadcast_to(self.id, {"text": text, "reply_to": reply_to}, to_others=True)

    @action
    def say_slowly(self, text: str) -> None:
        self.transmit(threading.current_thread().name)
        self.broadcast_to(self.id, {"text": text})

    @action
    async def mute(self, *, on: bool = True) -> None:
        self.muted = on
        self.connection.seen += 1

    @action
    async def add(self, word: str) -> None:
        self.words.append(word)

    @action
    async def tell(self) -> None:
        self.transmit([self.muted, self.words, self.connection.seen, self.connection.user_id])

    @action
    async def anything(self, first: int, **rest: Any) -> None:
        self.transmit({"first": first, "rest": rest})

    @action
    async def receive(self, text: str) -> None:
        self.transmit(f"received {text}")

    @action
    async def follow(self, stream: str) -> None:
        self.stream_from(stream)

    @action
    async def unfollow(self, stream: str) -> None:
        self.stop_stream_from(stream)

    @action
    async def unfollow_all(self) -> None:
        self.stop_all_streams()
        self.stream_from("last")

    @action
    async def hide(self) -> None:
        self.leave_presence()

    @action
    async def bye(self) -> None:
        self.transmit("bye")
        self.connection.close()

    @action
    async def break_down(self) -> None:
        self.muted = True
        self.transmit("never sent")
        raise ZeroDivisionError("on purpose")

    async def secret(self) -> None:
        self.transmit("secret")
