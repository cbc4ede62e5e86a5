"""A function that is called at regular intervals, until it is stopped."""

import asyncio

from catenary.supervision.ticker import Ticker
from tests.parts.heart import in_loop


@in_loop
async def test_the_first_call_comes_after_one_interval() -> None:
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    ticker = Ticker(0.05, called.set)
    started = loop.time()
    await ticker.start()
    await called.wait()
    assert loop.time() - started >= 0.045
    await ticker.stop(1)


@in_loop
async def test_it_goes_on_after_a_call_that_fails() -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    called = asyncio.Event()
    calls = 0

    def fail_twice() -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise LookupError(calls)
        called.set()

    ticker = Ticker(0, fail_twice)
    await ticker.start()
    await called.wait()
    await ticker.stop(1)
    assert len(faults) == 2


@in_loop
async def test_nothing_is_called_after_the_stop() -> None:
    calls: list[None] = []
    ticker = Ticker(0, lambda: calls.append(None))
    await ticker.start()
    while not calls:  # noqa: ASYNC110  (every turn of the loop until the first call)
        await asyncio.sleep(0)
    await ticker.stop(1)
    before = len(calls)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(calls) == before


@in_loop
async def test_a_ticker_that_was_not_started_can_be_stopped() -> None:
    await Ticker(0, lambda: None).stop(1)
