"""A small, complete application for tests, independent of the protocol over which it is called.

Requests and responses are dicts with the names of rpc.proto (statuses as numbers), so that none of
our own reading and writing takes part in it.

Connecting: ``?reject=1`` is refused, ``?error=1`` fails; the user is ``?user=…`` or the cookie
``user``, else "guest"; the cookie ``user=banned`` is refused. Channels:

    EchoChannel    echo(…) transmits its arguments
    StreamChannel  subscribes to "stream_" + room; publish(text), follow(stream), unfollow(stream),
                   unfollow_all()
    StateChannel   set(key, value), set_connection(key, value); get() transmits both states
    SlowChannel    sleep(seconds), then transmits as EchoChannel does
    ByeChannel     bye() disconnects
    RejectChannel  refuses the subscription
    ErrorChannel   fails, with transmissions that no client may receive
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

ERROR, SUCCESS, FAILURE = 0, 1, 2

Fields = dict[str, Any]


class Refusal(Exception):
    """Raised by a prepared answer: the call fails with a gRPC status name or an HTTP status."""

    def __init__(self, status: str | int, text: str = "refused on purpose") -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Recorded:
    """One call as it arrived: "connect", "command" or "disconnect"."""

    procedure: str
    request: Fields
    metadata: dict[str, str]


@dataclass
class TestApplication:
    """Answers and records. Any number of threads may call it at once.

    ``prepared`` answers are given first, one for each call; one that is an exception is raised.
    ``publish`` is given (stream, data) by StreamChannel; ``reveal`` is added to each welcome;
    ``note`` is given each call.
    """

    __test__ = False  # not a test class, in spite of its name

    publish: Callable[[str, str], None] | None = None
    reveal: Fields = field(default_factory=dict)
    note: Callable[[Recorded], None] | None = None
    prepared: deque[Fields | Refusal] = field(default_factory=deque)
    calls: list[Recorded] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def answer(self, procedure: str, request: Fields, metadata: dict[str, str]) -> Fields:
        """Takes one call. Raises Refusal where one is prepared."""
        with self._changed:
            self.calls.append(Recorded(procedure, request, metadata))
            if self.note is not None:
                self.note(self.calls[-1])
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            prepared = self.prepared.popleft() if self.prepared else None
            self._changed.notify_all()
        try:
            if isinstance(prepared, Refusal):
                raise prepared
            return prepared if prepared is not None else self._decide(procedure, request, metadata)
        finally:
            with self._changed:
                self.under_way -= 1
                self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 30) -> None:
        """Returns once a condition over what was recorded holds. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                raise TimeoutError(f"not within {timeout_s} s; {len(self.calls)} calls so far")

    def calls_of(self, procedure: str) -> list[Recorded]:
        """The calls of one procedure, in their order."""
        return [call for call in self.calls if call.procedure == procedure]

    def _decide(self, procedure: str, request: Fields, metadata: dict[str, str]) -> Fields:
        match procedure:
            case "connect":
                return self._connect(request, metadata)
            case "command":
                return self._command(request)
            case _:
                return {"status": SUCCESS}

    def _connect(self, request: Fields, metadata: dict[str, str]) -> Fields:
        env = request.get("env", {})
        query = parse_qs(urlsplit(env.get("url", "")).query)
        cookie = SimpleCookie(env.get("headers", {}).get("cookie", ""))
        user = query.get("user", [cookie["user"].value if "user" in cookie else "guest"])[0]
        if "error" in query:
            return {"status": ERROR, "error_msg": "broken on purpose"}
        if "reject" in query or user == "banned":
            goodbye = {"type": "disconnect", "reason": "unauthorized", "reconnect": False}
            return {"status": FAILURE, "transmissions": [json.dumps(goodbye)]}
        welcome = {"type": "welcome", "sid": metadata.get("sid", ""), **self.reveal}
        return {
            "status": SUCCESS,
            "identifiers": json.dumps({"user": user}),
            "transmissions": [json.dumps(welcome)],
            "env": {"cstate": {"user": user}},
        }

    def _command(self, request: Fields) -> Fields:
        identifier = request.get("identifier", "")
        params = json.loads(identifier)
        if params["channel"] == "ErrorChannel":
            return {"status": ERROR, "error_msg": "broken on purpose", "transmissions": ['"no"']}
        match request.get("command"):
            case "subscribe":
                return _subscribe(identifier, params)
            case "unsubscribe":
                return {"status": SUCCESS, "stop_streams": True}
            case _:
                return self._perform(identifier, params, request)

    def _perform(self, identifier: str, params: Fields, request: Fields) -> Fields:
        call = json.loads(request.get("data", "{}"))
        env = request.get("env", {})
        match call.get("action"):
            case "echo":
                return _transmit(identifier, call)
            case "sleep":
                time.sleep(call["seconds"])
                return _transmit(identifier, call)
            case "publish":
                if self.publish is None:
                    return {"status": ERROR, "error_msg": "nowhere to publish to"}
                self.publish(f"stream_{params['room']}", json.dumps({"text": call["text"]}))
                return {"status": SUCCESS}
            case "follow":
                return {"status": SUCCESS, "streams": [call["stream"]]}
            case "unfollow":
                return {"status": SUCCESS, "stopped_streams": [call["stream"]]}
            case "unfollow_all":
                return {"status": SUCCESS, "stop_streams": True}
            case "set":
                return {"status": SUCCESS, "env": {"istate": {call["key"]: call["value"]}}}
            case "set_connection":
                return {"status": SUCCESS, "env": {"cstate": {call["key"]: call["value"]}}}
            case "get":
                states = {kind: env.get(kind, {}) for kind in ("cstate", "istate")}
                return _transmit(identifier, states)
            case "bye":
                return {**_transmit(identifier, "bye"), "disconnect": True}
            case _:
                return {"status": ERROR, "error_msg": "unknown action"}


def _subscribe(identifier: str, params: Fields) -> Fields:
    known = ("EchoChannel", "StreamChannel", "StateChannel", "SlowChannel", "ByeChannel")
    if params["channel"] not in known:
        rejection = {"type": "reject_subscription", "identifier": identifier}
        return {"status": FAILURE, "transmissions": [json.dumps(rejection)]}
    confirmation = {"type": "confirm_subscription", "identifier": identifier}
    answer: Fields = {"status": SUCCESS, "transmissions": [json.dumps(confirmation)]}
    if params["channel"] == "StreamChannel":
        answer["streams"] = [f"stream_{params['room']}"]
    return answer


def _transmit(identifier: str, message: object) -> Fields:
    text = json.dumps({"identifier": identifier, "message": message})
    return {"status": SUCCESS, "transmissions": [text]}
