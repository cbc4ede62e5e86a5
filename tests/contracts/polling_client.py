"""A long-polling client for the contract of Outbound: it polls all the time, each time on a connection of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from catenary.protocols.long_polling import POLL_ID, RESPONSE_NUMBER
from catenary.transports.long_polling import PollSession
from catenary.wire.json_lines import LINES
from tests.parts.heart import Heart, settle
from tests.parts.long_polling import LIMITS, Response, poll_services, posted, serving_polls

_MARK = b"-"
"""Before the text of a message that is not JSON: an empty line is no message."""


class Got(NamedTuple):
    """Everything that a client has received until its end: messages, and the goodbye as :meth:`tests.contracts.transports.Client.seen` describes it,
    None if there was none."""

    messages: list[bytes]
    goodbye: tuple[int, str] | None


class PollingClient:
    """Satisfies :class:`tests.contracts.transports.Client`. It sees no code at the end."""

    def __init__(self, outbound: PollSession, port: int, opened: Response) -> None:
        self.outbound = outbound
        self._port = port
        self._poll_id = opened.headers[POLL_ID.lower()]
        self._responses = [opened]
        self._sent: set[asyncio.Task[Response]] = set()
        self._polling = asyncio.create_task(self._poll())

    def frame(self, message: bytes) -> bytes:
        return LINES.frame(_MARK + message)

    def seen(self, code: int, text: str) -> tuple[int, str]:
        return 0, ""

    async def _poll(self) -> None:
        while self._responses[-1].status != 401:
            self._responses.append(await posted(self._port, self._poll_id))

    async def say(self, payload: bytes) -> None:
        """By a request of its own, whose response may have messages, too."""
        saying = asyncio.create_task(posted(self._port, self._poll_id, payload))
        self._sent.add(saying)
        # Its place is taken by the next poll as soon as it is read.
        await asyncio.wait([saying])
        await settle()

    async def leave(self) -> None:
        self._polling.cancel()
        await asyncio.wait([self._polling])
        await settle()

    async def got(self) -> Got:
        await asyncio.wait_for(self._polling, 5)
        responses = [*self._responses, *(each.result() for each in self._sent)]
        responses.sort(key=lambda each: int(each.headers.get(RESPONSE_NUMBER.lower(), 0)))
        lines = [line for each in responses for line in each.body.split(b"\n") if line]
        return Got([line.removeprefix(_MARK) for line in lines], (0, ""))


@asynccontextmanager
async def polling() -> AsyncIterator[PollingClient]:
    limits = msgspec.structs.replace(LIMITS, keepalive_timeout_s=0.1, max_pending_bytes=8_000_000)
    services = poll_services(Heart(), limits)
    async with serving_polls(services) as port:
        opened = await posted(port)
        session = services.sessions.find(opened.headers[POLL_ID.lower()])
        assert session is not None
        client = PollingClient(session, port, opened)
        try:
            yield client
        finally:
            await client.leave()
