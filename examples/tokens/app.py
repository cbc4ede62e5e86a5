"""A language model's answers, token by token, to clients that may disconnect and return.

An answer is not tied to a connection: it is published to its own stream, whose history the server
stores. A client that reconnects gets the tokens after the last one it received; a page that is reloaded
gets all of them.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated
from uuid import UUID

from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from catenary import Cable, Channel, action

HERE = Path(__file__).parent
ANSWER = HERE / "answer.txt"
PACE_S = 0.04


async def tokens(question: str) -> AsyncIterator[str]:
    """Simulates a model: yields the words of a text. Put your own model here."""
    for word in ANSWER.read_text().split():
        await asyncio.sleep(PACE_S)
        yield f"{word} "


class AnswerChannel(Channel):
    id: UUID
    asked: bool = Channel.state(False)

    async def subscribed(self) -> None:
        self.stream_for(self.id)

    @action(rate="1/s")
    async def ask(self, question: Annotated[str, Meta(min_length=1, max_length=1000)]) -> None:
        if self.asked:
            return
        self.asked = True
        task = asyncio.create_task(answer(self.id, question))
        answering.add(task)
        task.add_done_callback(answering.discard)


answering: set[asyncio.Task[None]] = set()


async def answer(id: UUID, question: str) -> None:
    async for token in tokens(question):
        await AnswerChannel.broadcast_to(id, {"token": token})
    await AnswerChannel.broadcast_to(id, {"end": True})


cable = Cable(channels=[AnswerChannel])


async def page(request: Request) -> FileResponse:
    return FileResponse(HERE / "index.html")


web = Starlette(
    routes=[
        Route("/", page),
        Mount("/node_modules", StaticFiles(directory=HERE / "node_modules")),
    ]
)
