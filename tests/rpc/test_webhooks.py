"""Webhooks: batches, retries, a queue with limits, the end of the server."""

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

import pytest

from catenary.auth.pusher import PusherSignatures
from catenary.errors import ConfigError
from catenary.metrics.counters import Counters
from catenary.protocols import pusher_webhooks
from catenary.rpc import webhooks
from catenary.rpc.webhooks import WebhookReceiver, WebhookTiming
from tests.parts import webhook_receiver as parts
from tests.parts.heart import in_loop
from tests.parts.ports import free_port

QUICK = WebhookTiming(batch_s=0.01, timeout_s=0.2, give_up_s=5)
SECRET_PATH = "/hooks/s3cret/?token=t0ken"


@pytest.fixture
def receiver() -> Iterator[parts.WebhookReceiver]:
    with parts.webhook_receiver() as receiver:
        yield receiver


def seal(time_ms: int, events: Iterable[bytes]) -> tuple[bytes, dict[str, str]]:
    content = pusher_webhooks.body(time_ms, events)
    return content, pusher_webhooks.headers(PusherSignatures("key", "secret"), content)


@asynccontextmanager
async def sending(
    url: str, counters: Counters, timing: WebhookTiming = QUICK, close_s: float = 5
) -> AsyncIterator[WebhookReceiver]:
    sender = WebhookReceiver(url, "app 1", seal, timing=timing, counters=counters)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.close(close_s)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def event(number: int) -> bytes:
    return json.dumps({"name": "n", "number": number}).encode()


def numbers(receiver: parts.WebhookReceiver) -> list[int]:
    return [each["number"] for each in receiver.events()]


@in_loop
async def test_events_arrive_together_in_order(receiver: parts.WebhookReceiver) -> None:
    counters = Counters()
    async with sending(receiver.url + SECRET_PATH, counters) as sender:
        for number in range(250):
            sender.put(event(number))
        assert counters.webhook_queue_size == 250
        await until(lambda: counters.webhook_events_total == 250)
    assert numbers(receiver) == list(range(250))
    assert [len(each.events) for each in receiver.received] == [100, 100, 50]
    assert {each.path for each in receiver.received} == {SECRET_PATH}
    assert {each.headers["content-type"] for each in receiver.received} == {"application/json"}
    assert counters.webhook_queue_size == counters.webhook_lost_total == 0


@pytest.mark.parametrize("failure", ["500", "302", "404", "hanging", "not there"])
@in_loop
async def test_a_request_that_fails_is_repeated(
    receiver: parts.WebhookReceiver, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    url = receiver.url
    if failure == "hanging":
        receiver.is_hanging = True
    elif failure == "not there":
        url = f"http://127.0.0.1:{free_port()}"
    else:
        receiver.status = int(failure)
    caplog.set_level(logging.INFO)
    async with sending(url + SECRET_PATH, counters, close_s=0.1) as sender:
        sender.put(event(1))
        await until(lambda: counters.webhook_retries_total >= 2)
        assert sender.trouble is not None
        assert sender.trouble.startswith("app 1: ")
        sender.put(event(2))
        if failure == "not there":
            return
        receiver.status, receiver.is_hanging = 200, False
        await until(lambda: counters.webhook_events_total == 2)
        assert sender.trouble is None
    assert numbers(receiver) == [1, 2]
    assert receiver.received[0].body == receiver.refused[0].body
    assert "Webhook to app 1 failed, will retry" in caplog.text
    assert "s3cret" not in caplog.text
    assert "t0ken" not in caplog.text


@in_loop
async def test_events_are_given_up_and_counted(
    receiver: parts.WebhookReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 503
    counters = Counters()
    timing = WebhookTiming(batch_s=0, timeout_s=1, give_up_s=0.2)
    async with sending(receiver.url, counters, timing) as sender:
        for number in (1, 2, 3):
            sender.put(event(number))
        await until(lambda: counters.webhook_lost_total == 3)
        receiver.status = 200
        sender.put(event(4))
        await until(lambda: counters.webhook_events_total == 1)
    assert numbers(receiver) == [4]
    assert "3 events are lost" in caplog.text
    assert """the first begins with b'{"name": "n", "number": 1}'""" in caplog.text
    assert "the last one with: HTTP 503" in caplog.text


@pytest.mark.parametrize("limit", ["MAX_EVENTS", "MAX_BYTES"])
@in_loop
async def test_a_full_queue_loses_the_oldest(
    receiver: parts.WebhookReceiver,
    limit: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(webhooks, limit, 4 if limit == "MAX_EVENTS" else 4 * len(event(1)))
    receiver.status = 503
    counters = Counters()
    async with sending(receiver.url, counters, WebhookTiming(0, 1)) as sender:
        sender.put(event(0))
        await until(lambda: counters.webhook_retries_total > 0)
        for number in range(1, 8):
            sender.put(event(number))
        assert (counters.webhook_lost_total, counters.webhook_queue_size) == (3, 4)
        receiver.status = 200
        await until(lambda: counters.webhook_events_total == 5)
    assert numbers(receiver) == [0, 4, 5, 6, 7]
    assert "the queue is full" in caplog.text


@in_loop
async def test_a_server_that_shuts_down_sends_what_waits(receiver: parts.WebhookReceiver) -> None:
    counters = Counters()
    async with sending(receiver.url, counters, WebhookTiming(batch_s=60, timeout_s=5)) as sender:
        for number in range(3):
            sender.put(event(number))
        await asyncio.sleep(0)
    assert numbers(receiver) == [0, 1, 2]
    assert counters.webhook_lost_total == 0


@pytest.mark.parametrize("failure", ["failing", "hanging"])
@in_loop
async def test_a_receiver_that_fails_does_not_delay_the_shutdown(
    receiver: parts.WebhookReceiver, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status, receiver.is_hanging = 503, failure == "hanging"
    counters = Counters()
    clock = asyncio.get_running_loop().time
    async with sending(receiver.url, counters, WebhookTiming(0, 60), close_s=0.3) as sender:
        for number in range(150):
            sender.put(event(number))
        await until(lambda: len(receiver.refused) > 0)
        began = clock()
    assert clock() - began < 2
    assert counters.webhook_lost_total == 150
    assert counters.webhook_queue_size == 0
    assert "events are lost" in caplog.text


@in_loop
async def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []

    def delay_s(attempt: int) -> float:
        pauses.append(attempt)
        return 0.0

    monkeypatch.setattr(webhooks, "delay_s", delay_s)
    counters = Counters()
    async with sending(f"http://127.0.0.1:{free_port()}", counters, close_s=0.1) as sender:
        sender.put(event(1))
        await until(lambda: len(pauses) >= 3)
    assert all(before < after for before, after in itertools.pairwise(pauses))


@in_loop
async def test_a_url_must_be_one_of_http() -> None:
    with pytest.raises(ConfigError, match="webhooks: expected http"):
        WebhookReceiver("ftp://host", "app 1", seal, timing=QUICK, counters=Counters())
