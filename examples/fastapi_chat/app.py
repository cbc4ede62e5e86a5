"""Chat rooms with presence: FastAPI and a cable in one process.

FastAPI signs users in and stores their names in its session, a signed cookie. The cable reads the same
cookie to identify a client, and endpoints publish to the rooms of the cable.
"""

import os
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from msgspec import Meta
from pydantic import BaseModel, Field
from starlette.middleware.sessions import SessionMiddleware

from catenary import Cable, Channel, Connection, action
from catenary.channels.fastapi import CableDep
from catenary.channels.sessions import starlette_session

HERE = Path(__file__).parent
SECRET = os.environ.get("SESSION_SECRET", "only for development")

Text = Annotated[str, Meta(min_length=1, max_length=500)]


class Visitor(Connection):
    identified_by = ("name",)
    name: str

    async def connect(self) -> None:
        session = starlette_session(self.request, SECRET)
        if "name" not in session:
            self.reject_unauthorized_connection()
        self.name = session["name"]


class RoomChannel(Channel[Visitor]):
    room: Annotated[str, Meta(min_length=1, max_length=40)]

    async def subscribed(self) -> None:
        self.stream_for(self.room, presence=True)
        self.join_presence(id=self.connection.name)

    @action(rate="5/s")
    async def say(self, text: Text) -> None:
        await self.broadcast_to(self.room, {"name": self.connection.name, "text": text})


cable = Cable(connection=Visitor, channels=[RoomChannel])

api = FastAPI()
api.add_middleware(SessionMiddleware, secret_key=SECRET)
api.mount("/node_modules", StaticFiles(directory=HERE / "node_modules"))


class Session(BaseModel):
    name: str = Field(min_length=1, max_length=40)


class Announcement(BaseModel):
    text: str = Field(min_length=1, max_length=500)


@api.get("/")
async def page() -> FileResponse:
    return FileResponse(HERE / "index.html")


@api.get("/session")
async def who_am_i(request: Request) -> dict[str, str | None]:
    return {"name": request.session.get("name")}


@api.put("/session")
async def sign_in(session: Session, request: Request) -> None:
    # Accepts any name: put your own sign-in here.
    request.session["name"] = session.name


@api.get("/rooms/{room}/members")
async def members(room: str, cable: CableDep) -> list[str]:
    return [member.id for member in await cable.presence(RoomChannel.broadcasting_for(room))]


@api.post("/rooms/{room}/announcements")
async def announce(room: str, announcement: Announcement) -> None:
    await RoomChannel.broadcast_to(room, {"name": "The house", "text": announcement.text})
