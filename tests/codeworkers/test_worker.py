"""The code worker: its publications, and calls that can't be encoded."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from catenary.errors import AppFailed, BackendError, PublicationError, TooLarge
from catenary.messages.replies import Delivery
from tests.codeworkers.direct_pool import ROOM, DirectPool, client, run

pytestmark = pytest.mark.usefixtures("directory")


async def refuse() -> None:
    raise BackendError("Redis is away")


async def refuse_for_good() -> None:
    raise TooLarge("over max_payload")


def refuse_at_once() -> None:
    raise PublicationError("expected a stream")


async def accept_later() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda: None, '"accepted"'),
        (accept_later, '"accepted"'),
        (refuse, '"BackendError: Redis is away"'),
        (refuse_for_good, '"TooLarge: over max_payload"'),
        (refuse_at_once, '"BackendRefused: expected a stream"'),
    ],
)
def test_an_awaited_publication_returns_or_raises_what_the_node_does(
    answer: Callable[[], Awaitable[None] | None], outcome: str
) -> None:
    async def scenario(direct: DirectPool) -> None:
        direct.host.answer = answer
        decision = await direct.perform("publish")
        assert decision.replies == (Delivery(ROOM, outcome.encode()),)
        assert direct.host.publications == [b'{"stream":"s","data":"1"}']

    run(scenario)


def test_publications_of_a_worker_that_stops_arrive() -> None:
    """They are more than a socket holds, and no call awaits them."""

    async def scenario(direct: DirectPool) -> None:
        await direct.perform("flood", ',"number":3000')
        await direct.pool.close(5)
        assert len(direct.host.publications) == 3000

    run(scenario)


def test_text_that_is_not_unicode_fails_its_own_call_only() -> None:
    async def scenario(direct: DirectPool) -> None:
        bad = direct.pool.perform(client(), ROOM, "\ud800")
        good = direct.perform("once")
        with pytest.raises(AppFailed, match="expected Unicode text"):
            await bad
        await good

    run(scenario)
