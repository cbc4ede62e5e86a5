"""The same chat with ariadne."""
# pyright: basic
# ariadne annotates its functions in part.

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any, cast

from ariadne import MutationType, QueryType, SubscriptionType, make_executable_schema, subscribe
from ariadne import graphql as execute
from graphql import GraphQLError, OperationType, get_operation_ast, parse

from catenary import Cable, Connection
from catenary.channels.graphql import Operation, OperationChannel, Result

TYPES = """
    type Message { name: String! text: String! }
    type Query { me: String! }
    type Mutation { "Returns the number of listeners." say(room: String!, text: String!): Int! }
    type Subscription { messages(room: String!): Message! }
"""

query, mutation, subscription = QueryType(), MutationType(), SubscriptionType()
rooms: defaultdict[str, set[asyncio.Queue[dict[str, str]]]] = defaultdict(set)
"""The queue of each listener."""


@query.field("me")
def me(_: object, info: Any) -> str:
    name: str = info.context["name"]
    return name


@mutation.field("say")
async def say(_: object, info: Any, room: str, text: str) -> int:
    for queue in rooms[room]:
        if queue.full():
            queue.get_nowait()  # a slow listener misses the oldest
        queue.put_nowait({"name": info.context["name"], "text": text})
    return len(rooms[room])


@subscription.source("messages")
async def listen(_: object, info: Any, room: str) -> AsyncGenerator[dict[str, str], None]:
    queue: asyncio.Queue[dict[str, str]] = asyncio.Queue(100)
    rooms[room].add(queue)
    try:
        while True:
            yield await queue.get()
    finally:
        rooms[room].discard(queue)


@subscription.field("messages")
def message(said: dict[str, str], info: Any, room: str) -> dict[str, str]:
    return said


schema = make_executable_schema(TYPES, query, mutation, subscription)


class Visitor(Connection):
    identified_by = ("name",)
    name: str

    async def connect(self) -> None:
        params = json.loads(self.request.headers.get("x-apollo-connection", "{}"))
        self.name = str(params.get("name") or "") or self.reject_unauthorized_connection()


class GraphqlChannel(OperationChannel[Visitor]):
    async def run(self, operation: Operation) -> Result | AsyncIterator[Result]:
        data = {
            "query": operation.query,
            "variables": operation.variables,
            "operationName": operation.operation_name,
        }
        context = {"name": self.connection.name}
        if not is_subscription(operation):
            _, result = await execute(schema, data, context_value=context)
            return cast("Result", result)
        _, results = await subscribe(schema, data, context_value=context)
        if isinstance(results, AsyncIterable):
            return responses(results)
        return {"errors": results}


def is_subscription(operation: Operation) -> bool:
    try:
        node = get_operation_ast(parse(operation.query), operation.operation_name)
    except GraphQLError:
        return False  # the schema reports it
    return node is not None and node.operation is OperationType.SUBSCRIPTION


async def responses(results: AsyncIterable[Any]) -> AsyncIterator[Result]:
    async for result in results:
        yield result.formatted


cable = Cable(connection=Visitor, channels=[GraphqlChannel])
