"""A chat over GraphQL with strawberry. The rooms are in this process."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import strawberry
from graphql import ExecutionResult, GraphQLError, OperationType, get_operation_ast, parse

from catenary import Cable, Connection
from catenary.channels.graphql import Operation, OperationChannel, Result

Info = strawberry.Info[dict[str, str], None]


@strawberry.type
class Message:
    name: str
    text: str


rooms: defaultdict[str, set[asyncio.Queue[Message]]] = defaultdict(set)
"""The queue of each listener."""


@strawberry.type
class Query:
    @strawberry.field
    def me(self, info: Info) -> str:
        return info.context["name"]


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def say(self, info: Info, room: str, text: str) -> int:
        """Returns the number of listeners."""
        for queue in rooms[room]:
            if queue.full():
                queue.get_nowait()  # a slow listener misses the oldest
            queue.put_nowait(Message(name=info.context["name"], text=text))
        return len(rooms[room])


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def messages(self, room: str) -> AsyncGenerator[Message, None]:
        queue: asyncio.Queue[Message] = asyncio.Queue(100)
        rooms[room].add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            rooms[room].discard(queue)


schema = strawberry.Schema(Query, Mutation, Subscription)


class Visitor(Connection):
    identified_by = ("name",)
    name: str

    async def connect(self) -> None:
        params = json.loads(self.request.headers.get("x-apollo-connection", "{}"))
        self.name = str(params.get("name") or "") or self.reject_unauthorized_connection()


class GraphqlChannel(OperationChannel[Visitor]):
    async def run(self, operation: Operation) -> Result | AsyncIterator[Result]:
        execute: Any = schema.subscribe if is_subscription(operation) else schema.execute
        result = await execute(
            operation.query,
            operation.variables,
            context_value={"name": self.connection.name},
            operation_name=operation.operation_name,
        )
        return responses(result) if hasattr(result, "__aiter__") else response(result)


def is_subscription(operation: Operation) -> bool:
    try:
        node = get_operation_ast(parse(operation.query), operation.operation_name)
    except GraphQLError:
        return False  # the schema reports it
    return node is not None and node.operation is OperationType.SUBSCRIPTION


async def responses(results: AsyncIterator[Any]) -> AsyncIterator[Result]:
    async for result in results:
        yield response(result)


def response(result: Any) -> Result:
    return dict(ExecutionResult(result.data, result.errors, result.extensions or None).formatted)


cable = Cable(connection=Visitor, channels=[GraphqlChannel])
