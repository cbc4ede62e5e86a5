"""The channels of a Pusher app: which are occupied, by how many, who the members are, and the last event.

Knows: apps, reads of the broker, occupancy. Does not know: requests, signatures.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from catenary.config.pusher_apps import PusherApp
from catenary.messages.lenient_json import read_object
from catenary.messages.publications import Publication
from catenary.node.occupancy import Occupancy
from catenary.node.reads import Reads
from catenary.protocols.pusher_events import is_cache, is_channel, is_presence
from catenary.protocols.pusher_rest import CACHE, SUBSCRIPTION_COUNT, USER_COUNT, Attributes

READ_AT_ONCE: Final = 100
"""Channels whose attributes are read at the same time, and listed in one turn of the event loop."""


class PusherChannels:
    """The channels of one app. Methods raise :class:`catenary.errors.BackendError` while the broker is away, and
    :class:`catenary.errors.NotKept` for what only a broker keeps."""

    __slots__ = ("_app", "_occupancy", "_reads")

    def __init__(self, app: PusherApp, reads: Reads, occupancy: Occupancy) -> None:
        self._app = app
        self._reads = reads
        self._occupancy = occupancy

    async def occupied(self, prefix: str) -> list[str]:
        """The names of occupied channels that begin with a prefix."""
        channels = []
        for number, stream in enumerate(await self._occupancy.streams(), 1):
            channel = self._app.channel_of(stream)
            if channel is not None and channel.startswith(prefix) and is_channel(channel):
                channels.append(channel)
            if number % READ_AT_ONCE == 0:
                await asyncio.sleep(0)
        return channels

    async def attributes_of(
        self, channels: list[str], info: frozenset[str]
    ) -> Mapping[str, Attributes]:
        """Attributes of many channels, which are read some at a time."""
        found: dict[str, Attributes] = {}
        for start in range(0, len(channels), READ_AT_ONCE):
            some = channels[start : start + READ_AT_ONCE]
            if info:
                read = await asyncio.gather(*(self.attributes(each, info) for each in some))
                found.update(zip(some, read, strict=True))
            else:
                found.update(dict.fromkeys(some, Attributes()))
            await asyncio.sleep(0)
        return found

    async def attributes(self, channel: str, info: frozenset[str]) -> Attributes:
        """Attributes of a channel; without those that it can't have."""
        has_members = USER_COUNT in info and is_presence(channel)
        has_cache = CACHE in info and is_cache(channel)
        return Attributes(
            user_count=len(await self.users(channel)) if has_members else msgspec.UNSET,
            subscription_count=(
                await self.subscriptions(channel) if SUBSCRIPTION_COUNT in info else msgspec.UNSET
            ),
            cache=await self._cached(channel) if has_cache else msgspec.UNSET,
        )

    async def subscriptions(self, channel: str) -> int:
        """The number of subscriptions to a channel."""
        return await self._occupancy.subscribers(self._app.stream_of(channel))

    async def users(self, channel: str) -> list[str]:
        """The ids of the members of a presence channel, in the order in which they joined."""
        return [each.id for each in await self._reads.members(self._app.stream_of(channel))]

    async def _cached(self, channel: str) -> Mapping[str, object] | None:
        """The last event of a cache channel; None if there is none."""
        page = await self._reads.page(self._app.stream_of(channel), 0, 1, newest=True)
        return _event(page.messages[-1]) if page.messages else None


def _event(publication: Publication) -> Mapping[str, object]:
    try:
        event = read_object(publication.data)
    except msgspec.DecodeError:
        return {"data": publication.data}
    return {"event": event.get("event"), "data": event.get("data")}
