"""OperationChannel: one result for a query; for a subscription an iterator, which ends with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from catenary import Cable
from catenary.channels import subscription_tasks
from catenary.channels.graphql import Operation, OperationChannel, Result
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment
from catenary.messages.names import Identifier
from catenary.messages.replies import Confirmed, Delivery
from tests.channels.direct_calls import decided, environment
from tests.parts.heart import in_loop, settle

IDENTIFIER = Identifier('{"channel":"Numbers","channelId":"1"}')


class Numbers(OperationChannel):
    """The query says what to do. ``closed`` lists the iterators that were closed, ``seen`` the operations."""

    async def run(self, operation: Operation) -> Result | AsyncIterator[Result]:
        Seen.operations.append(operation)
        if operation.query == "query":
            return {"data": {"a": 1}}
        if operation.query == "fail":
            raise ValueError("a secret")
        return numbers(operation.query)


class Seen:
    operations: list[Operation] = []  # noqa: RUF012
    closed: list[str] = []  # noqa: RUF012


async def numbers(kind: str) -> AsyncIterator[Result]:
    try:
        yield {"data": 1}
        if kind == "fail later":
            raise ValueError("a secret")
        if kind == "wait":
            await asyncio.Event().wait()
    finally:
        Seen.closed.append(kind)


class Publications:
    """Satisfies :class:`catenary.channels.publishing.Publisher`."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Any, bool]] = []

    def publish(self, raw: bytes) -> None:
        message = json.loads(raw)
        is_transient = message.get("meta", {}).get("transient", False)
        self.published.append((message["stream"], json.loads(message["data"]), is_transient))


class Server:
    def __init__(self) -> None:
        Seen.operations.clear()
        Seen.closed.clear()
        self.cable = Cable(channels=[Numbers])
        self.publications = Publications()
        self.client: Environment = environment("s1")

    async def start(self) -> Decision:
        await self.cable.application.start(self.publications)
        return await decided(self.cable.application.subscribe(self.client, IDENTIFIER))

    async def execute(self, query: str, **fields: object) -> Decision:
        data = json.dumps({"action": "execute", "query": query, **fields})
        return await decided(self.cable.application.perform(self.client, IDENTIFIER, data))

    async def unsubscribe(self) -> None:
        await decided(self.cable.application.unsubscribe(self.client, IDENTIFIER))

    @property
    def messages(self) -> list[Any]:
        assert all(is_transient for _, _, is_transient in self.publications.published)
        return [message for _, message, _ in self.publications.published]


def transmitted(decision: Decision) -> list[Any]:
    return [json.loads(each.message) for each in decision.replies if isinstance(each, Delivery)]


@in_loop
async def test_a_query_has_one_result() -> None:
    server = Server()
    started = await server.start()
    assert started.replies == (Confirmed(IDENTIFIER),)
    (stream,) = started.streams
    assert stream.startswith("graphql:s1:"), "of this client"
    decision = await server.execute(
        "query", variables={"x": 1}, operationName="A", extensions={"y": 2}, operationId="z"
    )
    assert transmitted(decision) == [{"result": {"data": {"a": 1}}, "more": False}]
    assert Seen.operations == [Operation("query", {"x": 1}, "A", {"y": 2})]
    await settle()
    assert server.messages == []
    await server.unsubscribe()


@in_loop
async def test_the_results_of_a_subscription_are_published_to_its_client() -> None:
    server = Server()
    (stream,) = (await server.start()).streams
    assert transmitted(await server.execute("end")) == [{"more": True}]
    await settle()
    assert server.messages == [{"result": {"data": 1}, "more": True}, {"more": False}]
    assert {each[0] for each in server.publications.published} == {stream}
    assert Seen.closed == ["end"]
    assert subscription_tasks.running() == 0


@in_loop
async def test_an_iterator_is_closed_when_its_client_unsubscribes() -> None:
    server = Server()
    await server.start()
    await server.execute("wait")
    await settle()
    assert Seen.closed == []
    await server.unsubscribe()
    assert Seen.closed == ["wait"]
    assert server.messages == [{"result": {"data": 1}, "more": True}], "it has no listener any more"
    assert subscription_tasks.running() == 0


@in_loop
async def test_an_iterator_is_closed_when_its_client_leaves() -> None:
    server = Server()
    await server.start()
    await server.execute("wait")
    await settle()
    await server.cable.application.disconnect(server.client, (IDENTIFIER,))
    assert Seen.closed == ["wait"]


@in_loop
async def test_a_second_operation_replaces_the_first() -> None:
    server = Server()
    await server.start()
    await server.execute("wait")
    await settle()
    await server.execute("wait")
    await settle()
    assert Seen.closed == ["wait"]
    await server.unsubscribe()
    assert Seen.closed == ["wait", "wait"]
    assert subscription_tasks.running() == 0


@in_loop
async def test_the_text_of_a_failure_is_not_sent() -> None:
    server = Server()
    await server.start()
    failed = await server.execute("fail")
    assert failed.verdict is Verdict.ERROR
    await server.execute("fail later")
    await settle()
    (_, error) = server.messages
    assert error == {"result": {"errors": [{"message": "The operation failed"}]}, "more": False}


def test_a_failure_in_an_iterator_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @in_loop
    async def scenario() -> None:
        server = Server()
        await server.start()
        await server.execute("fail later")
        await settle()

    scenario()
    (record,) = [each for each in caplog.records if "GraphQL" in each.getMessage()]
    assert record.exc_info is not None


@in_loop
async def test_a_channel_without_run_fails() -> None:
    cable = Cable(channels=[OperationChannel])
    identifier = Identifier('{"channel":"OperationChannel"}')
    await cable.application.start(Publications())
    client = environment("s2")
    await decided(cable.application.subscribe(client, identifier))
    decision = await decided(cable.application.perform(client, identifier, '{"action":"execute"}'))
    assert decision.verdict is Verdict.ERROR


@in_loop
async def test_a_process_that_is_replaced_ends_its_subscriptions() -> None:
    """As a code worker does when its code is reloaded: the client must not wait for ever."""
    server, other = Server(), Cable(channels=[Numbers])
    await server.start()
    await server.execute("wait")
    await settle()
    await other.application.stop(1)
    assert Seen.closed == []
    await server.cable.application.stop(1)
    assert Seen.closed == ["wait"]
    (_, end) = server.messages
    error = {"message": "The server restarts; subscribe again"}
    assert end == {"result": {"errors": [error]}, "more": False}
    assert subscription_tasks.running() == 0
