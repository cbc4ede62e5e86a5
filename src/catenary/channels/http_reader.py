"""Reads presence and histories from a server's API over HTTP.

Source: docs/api.md (anycable) for presence; the history is Catenary's own.
"""

import asyncio
import http.client
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from catenary.auth.keys import bearer
from catenary.channels.http_address import http_address, reason_of
from catenary.errors import BackendError, BackendRefused, CatenaryError, LostPosition, NotKept
from catenary.messages.lenient_json import reader
from catenary.messages.names import Stream
from catenary.messages.presence import Member
from catenary.messages.publications import Page, Position, Publication


class _Record(msgspec.Struct):
    id: str
    info: msgspec.Raw = msgspec.Raw(b"null")


class _Members(msgspec.Struct):
    records: list[_Record] = []


class _Message(msgspec.Struct):
    offset: int
    data: str
    type: str = ""


class _Messages(msgspec.Struct):
    epoch: str | None
    messages: list[_Message]
    more: bool


_read_members: Final = reader(_Members)
_read_messages: Final = reader(_Messages)


class HttpReader:
    """Satisfies :class:`catenary.channels.reading.Reader`. Each request has its own connection."""

    def __init__(self, url: str, *, key: str = "", timeout_s: float = 5.0) -> None:
        """``url`` is that of the API, such as ``http://localhost:8080/api``; ``key`` is its bearer key.
        Raises :class:`catenary.errors.ConfigError`."""
        self._address = http_address(url, "the API")
        self._headers = self._address.headers(bearer(key) if key else "")
        self._timeout_s = timeout_s

    async def members(self, stream: Stream) -> tuple[Member, ...]:
        """The members of a stream. Raises :class:`NotKept` and :class:`BackendError`."""
        body = await self._get(f"/presence/{quote(stream, safe='')}/users")
        try:
            records = _read_members(body).records
        except msgspec.DecodeError as error:
            raise BackendError(f"expected members from the API: {error}") from error
        return tuple(Member(each.id, bytes(each.info).decode()) for each in records)

    async def page(
        self, stream: Stream, start: int | Position, limit: int, *, newest: bool = False
    ) -> Page:
        """A page of a history. Raises :class:`LostPosition`, too."""
        if isinstance(start, Position):
            return await self._history(stream, {"after": start.text, "limit": str(limit)})
        if newest:
            return await self._history(stream, {"since": str(start), "limit": str(limit)})
        found = await self._history(stream, {"since": str(start)})
        return Page(found.messages[:limit], found.more or len(found.messages) > limit)

    async def _history(self, stream: Stream, query: dict[str, str]) -> Page:
        body = await self._get(f"/history/{quote(stream, safe='')}?{urlencode(query)}")
        try:
            found = _read_messages(body)
        except msgspec.DecodeError as error:
            raise BackendError(f"expected a history from the API: {error}") from error
        epoch = found.epoch or ""
        messages = tuple(
            Publication(stream, each.data, kind=each.type, position=Position(epoch, each.offset))
            for each in found.messages
        )
        return Page(messages, found.more)

    async def _get(self, path: str) -> bytes:
        target = self._address.target.rstrip("/") + path
        return await asyncio.to_thread(self._exchange, target)

    def _exchange(self, path: str) -> bytes:
        connection = self._address.connection(self._timeout_s)
        try:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            if response.status == 200:
                return response.read()
            reason = reason_of(response)
        except (OSError, http.client.HTTPException) as error:
            raise BackendError(f"no answer from {self._address}: {error!r}") from error
        finally:
            connection.close()
        raise _refused(response.status, reason)


def _refused(status: int, reason: str) -> CatenaryError:
    if status == 410:
        return LostPosition(reason or "a part of the history is gone")
    if status == 501:
        return NotKept(reason or "expected a server with a broker (--presets=broker)")
    if status == 404:
        return BackendRefused("expected the API of Catenary at this URL (api_path), got HTTP 404")
    kind = BackendRefused if 400 <= status < 500 else BackendError
    return kind(f"the API refused the request: HTTP {status}{reason and ': '}{reason}")
