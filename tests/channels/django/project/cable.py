"""The cable of the project. Its channels report the state of database connections."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest

from catenary import Cable, Channel, action
from catenary.channels.django.cable import in_django
from catenary.channels.django.connection import DjangoConnection
from tests.channels.django.project.models import Message, Room


@dataclass(frozen=True)
class Use:
    """How the database was used: in which thread, by which connection of Django and to SQLite."""

    thread: int
    wrapper: BaseDatabaseWrapper
    opened: Any


class Member(DjangoConnection):
    identified_by = ("user_id",)
    user_id: int

    async def connect(self) -> None:
        user = await self.request.user()
        if not isinstance(user, User):
            self.reject_unauthorized_connection()
        self.user_id = user.pk


class PlainMember(DjangoConnection):
    identified_by = ("user_id",)
    user_id: int

    def connect(self) -> None:
        user = self.request.get_user()
        if not isinstance(user, User):
            self.reject_unauthorized_connection()
        self.user_id = user.pk


class RoomChannel(Channel[DjangoConnection]):
    id: int
    uses: ClassVar[list[Use]] = []
    gate: ClassVar[asyncio.Event]

    def note(self) -> None:
        wrapper = connections["default"]
        self.uses.append(Use(threading.get_ident(), wrapper, wrapper.connection))

    def subscribed(self) -> None:
        if not Room.objects.filter(pk=self.id).exists():
            self.reject()
        self.stream_for(self.id)

    @action
    def plainly(self) -> None:
        Message.objects.count()
        self.note()

    @action
    async def later(self) -> None:
        await Message.objects.aexists()
        await sync_to_async(self.note)()

    @action
    async def walk(self) -> None:
        found = 0
        async for _ in Room.objects.aiterator(chunk_size=1):
            if not found:
                await sync_to_async(self.note)()
                await self.gate.wait()
            found += 1
        self.transmit(found)

    @action
    async def say(self, text: str) -> None:
        await Message.objects.acreate(room_id=self.id, text=text)

    @action
    async def session(self) -> None:
        session = await self.connection.request.load_session()
        self.transmit(session.get("note"))

    @action
    def plain_session(self) -> None:
        self.transmit(self.connection.request.session.get("note"))


def identifiers(request: HttpRequest) -> dict[str, object] | None:
    return {"user_id": request.user.pk} if request.user.is_authenticated else None


cable = Cable(connection=Member, channels=[RoomChannel], **in_django())
