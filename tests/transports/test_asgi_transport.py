"""The sending side of a connection in an ASGI host: order, backpressure, and its ends."""

import asyncio
from typing import Any

from starlette.types import Message

from catenary.transports.asgi_transport import AsgiTransport
from tests.parts.heart import in_loop, settle

LAST: Message = {"type": "last"}


class Host:
    """A host whose ``send`` waits while ``may_send`` is cleared, and the owner of a transport."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.flow: list[str] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.is_gone = False
        self.transport = AsgiTransport(self.send, self, lambda batch: [{"data": batch}], last=LAST)

    async def send(self, event: Message) -> None:
        await self.may_send.wait()
        if self.is_gone:
            raise OSError("the client has left")
        self.sent.append(event.get("data", event))

    def pause_writing(self) -> None:
        self.flow.append("pause")

    def resume_writing(self) -> None:
        self.flow.append("resume")


async def never_ending() -> None:
    """The client sends nothing and does not leave."""
    await asyncio.Event().wait()


@in_loop
async def test_batches_and_events_are_sent_in_order_and_the_last_event_after_them() -> None:
    host = Host()
    host.transport.write(b"1")
    host.transport.send({"type": "event"})
    host.transport.write(bytearray(b"2"))
    host.transport.close()
    host.transport.write(b"3")
    host.transport.send({"type": "late"})
    host.transport.close()
    await settle()
    assert host.sent == [b"1", {"type": "event"}, b"2", LAST]
    assert host.transport.is_closing()


@in_loop
async def test_a_task_exists_only_while_something_waits() -> None:
    host = Host()
    before = asyncio.all_tasks()
    host.transport.write(b"1")
    assert len(asyncio.all_tasks() - before) == 1
    await settle()
    assert asyncio.all_tasks() == before


@in_loop
async def test_the_owner_is_notified_of_a_full_buffer_once_and_of_room_again() -> None:
    host = Host()
    host.transport.set_write_buffer_limits(high=10, low=4)
    host.may_send.clear()
    for _ in range(4):
        host.transport.write(b"xxxx")
        await settle()
    assert host.flow == ["pause"]
    assert host.transport.get_write_buffer_size() == 16
    host.may_send.set()
    await settle()
    assert host.flow == ["pause", "resume"]
    assert host.transport.get_write_buffer_size() == 0


@in_loop
async def test_reading_ends_after_everything_was_sent() -> None:
    host = Host()
    host.may_send.clear()
    reading = asyncio.create_task(host.transport.until_ended(never_ending))
    await settle()
    host.transport.write(b"1")
    host.transport.close()
    await settle()
    assert not reading.done()
    host.may_send.set()
    await asyncio.wait_for(reading, 5)
    assert host.sent == [b"1", LAST]


@in_loop
async def test_a_host_that_cannot_send_ends_the_connection() -> None:
    host = Host()
    host.is_gone = True
    reading = asyncio.create_task(host.transport.until_ended(never_ending))
    await settle()
    host.transport.write(b"1")
    host.transport.write(b"2")
    await asyncio.wait_for(reading, 5)
    assert (host.sent, host.transport.is_closing()) == ([], True)


@in_loop
async def test_stop_drops_what_was_not_sent() -> None:
    host = Host()
    before = asyncio.all_tasks()
    host.transport.set_write_buffer_limits(high=1)
    host.may_send.clear()
    host.transport.write(b"12")
    await settle()
    await host.transport.flush(0.01)
    await host.transport.stop()
    host.may_send.set()
    await settle()
    assert (host.sent, host.flow) == ([], ["pause"])
    assert asyncio.all_tasks() == before
