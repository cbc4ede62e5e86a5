"""A GraphQL application behind HTTP RPC, which answers as GraphQL Ruby with graphql-anycable does: subscriptions are streams, whose
messages are results.
"""

import json
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from graphql import OperationType, build_schema, get_operation_ast, graphql_sync, parse, validate

from tests.parts.application import FAILURE, SUCCESS, Fields
from tests.parts.http_app import HttpServer

_SCHEMA = build_schema("""
    type Message { name: String! text: String! }
    type Query { me: String! }
    type Mutation { say(room: String!, text: String!): Int! }
    type Subscription { messages(room: String!): Message! }
""")


class GraphqlRubyApp:
    """Satisfies what ``HttpServer`` asks of an application. ``broadcast_url`` is the server's, once it runs."""

    def __init__(self) -> None:
        self.broadcast_url = ""
        self._rooms: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._lock = threading.Condition()

    def answer(self, procedure: str, request: Fields, metadata: dict[str, str]) -> Fields:
        if procedure == "connect":
            return self._connect(request)
        sid = metadata["sid"]
        if procedure == "disconnect":
            for identifier in request.get("subscriptions", []):
                self._forget(sid, identifier)
            return {"status": SUCCESS}
        identifier = request["identifier"]
        if request["command"] == "subscribe":
            return {
                "status": SUCCESS,
                "transmissions": [_say(identifier, type="confirm_subscription")],
            }
        if request["command"] == "unsubscribe":
            self._forget(sid, identifier)
            return {"status": SUCCESS, "stop_streams": True}
        return self._execute(sid, request, json.loads(request["data"]))

    def _connect(self, request: Fields) -> Fields:
        params = json.loads(request["env"]["headers"]["x-apollo-connection"])
        if not params["name"]:
            return {
                "status": FAILURE,
                "transmissions": [
                    '{"type":"disconnect","reason":"unauthorized","reconnect":false}'
                ],
            }
        return {
            "status": SUCCESS,
            "identifiers": json.dumps({"name": params["name"]}),
            "transmissions": ['{"type":"welcome"}'],
        }

    def _execute(self, sid: str, request: Fields, data: dict[str, Any]) -> Fields:
        assert data["action"] == "execute"
        name = json.loads(request["connection_identifiers"])["name"]
        identifier = request["identifier"]
        document = parse(data["query"])
        errors = validate(_SCHEMA, document)
        node = get_operation_ast(document, data.get("operationName"))
        if errors:
            result: Fields = {"errors": [each.formatted for each in errors]}
        elif node is not None and node.operation is OperationType.SUBSCRIPTION:
            room = data["variables"]["room"]
            with self._lock:
                self._rooms[room].add((sid, identifier))
                self._lock.notify_all()
            message = {"result": {"data": None}, "more": True}
            return {
                "status": SUCCESS,
                "streams": [f"graphql-subscriptions:{room}"],
                "transmissions": [_say(identifier, message=message)],
            }
        else:
            root = {"me": name, "say": lambda _, room, text: self.say(name, room, text)}
            variables = data.get("variables")
            result = dict(
                graphql_sync(_SCHEMA, data["query"], root, variable_values=variables).formatted
            )
        message = {"result": result, "more": False}
        return {"status": SUCCESS, "transmissions": [_say(identifier, message=message)]}

    def say(self, name: str, room: str, text: str) -> int:
        """Publishes to a room; the number of its listeners."""
        result = {"data": {"messages": {"name": name, "text": text}}}
        message = json.dumps({"result": result, "more": True})
        publication = {"stream": f"graphql-subscriptions:{room}", "data": message}
        request = urllib.request.Request(
            self.broadcast_url,
            json.dumps(publication).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10):
            pass
        with self._lock:
            return len(self._rooms[room])

    def until_heard(self, room: str, timeout_s: float = 30) -> None:
        """Returns once somebody listens to a room."""
        with self._lock:
            assert self._lock.wait_for(lambda: self._rooms[room], timeout_s)

    def _forget(self, sid: str, identifier: str) -> None:
        with self._lock:
            for listeners in self._rooms.values():
                listeners.discard((sid, identifier))


def _say(identifier: str, **fields: object) -> str:
    return json.dumps({"identifier": identifier, **fields})


@contextmanager
def graphql_ruby_app() -> Iterator[tuple[GraphqlRubyApp, str]]:
    """The application and its RPC address, for the length of a with block."""
    application = GraphqlRubyApp()
    server = HttpServer(application)  # type: ignore[arg-type]
    server.start()
    try:
        yield application, server.url
    finally:
        server.stop()
