"""The life of a client in the log: its refusals at INFO, all of it at DEBUG."""

import json
import logging
from typing import Any

import pytest

from catenary.logs.clients import LifeLog, RefusalLog
from catenary.logs.fields import event_of, fields_of
from catenary.logs.rate_limited import LINES_PER_SECOND
from catenary.messages.decisions import Decision, Verdict
from catenary.messages.environment import Environment, Ingress, Requester
from catenary.messages.names import Identifier, Sid
from catenary.messages.reasons import Reason
from catenary.ports import Observer
from tests.parts.heart import Heart, in_loop, room, settle

CLIENT = Environment(
    Sid("s1"),
    "ws://test/cable?jid=hunter2",
    {"REMOTE_ADDR": "10.0.0.1", "cookie": "hunter2"},
    ingress=Ingress(transport="websocket", protocol="p", origin="http://page.test"),
)
WHO = {"sid": "s1", "remote": "10.0.0.1", "path": "/cable", "origin": "http://page.test"}
ROOM = Identifier('{"channel":"Room"}')


def written(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    found = [(event_of(each), fields_of(each)) for each in caplog.records]
    caplog.clear()
    return found


def test_each_refusal_is_one_line_with_who_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "catenary.client")
    log = RefusalLog()
    log.request_refused(Requester("10.0.0.1", "GET", "/cable", "http://evil"), 403, "origin")
    log.rejected(CLIENT, Reason.UNAUTHORIZED, "a token that has expired")
    log.rejected(CLIENT, Reason.AUTH_FAILED, "")
    log.subscription_rejected(CLIENT, ROOM, "")
    log.refused(CLIENT, "no command")
    assert written(caplog) == [
        (
            "request_refused",
            {
                "status": 403,
                "reason": "origin",
                "remote": "10.0.0.1",
                "method": "GET",
                "path": "/cable",
                "origin": "http://evil",
            },
        ),
        ("connection_rejected", {"reason": "a token that has expired", **WHO}),
        ("connection_rejected", {"reason": Reason.AUTH_FAILED.description, **WHO}),
        (
            "subscription_rejected",
            {"identifier": ROOM, "reason": "the application refused it", **WHO},
        ),
        ("message_refused", {"reason": "no command", **WHO}),
    ]


def test_a_flood_of_requests_does_not_suppress_the_line_about_a_wrong_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "catenary.client")
    log = RefusalLog()
    for _ in range(2 * LINES_PER_SECOND):
        log.request_refused(Requester("10.6.6.6", "GET", "/nope"), 404, "no such path")
    log.request_refused(Requester("10.0.0.1", "POST", "/login"), 401, "wrong key")
    assert written(caplog)[-1][1]["remote"] == "10.0.0.1"


def test_a_failure_that_is_logged_with_its_cause_is_not_told_twice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "catenary.client")
    RefusalLog().rejected(CLIENT, Reason.AUTH_ERROR, "away")
    assert written(caplog) == []


@in_loop
async def test_the_whole_life_of_a_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "catenary.client")
    heart = Heart(observer=LifeLog())
    client = heart.connect("s1")
    client.say("subscribe", room("1"))
    client.say("message", room("1"), data=json.dumps({"action": "speak", "text": "x" * 999}))
    heart.node.publications.publish(json.dumps({"stream": "1", "data": "hello"}))
    await settle()
    client.say("unsubscribe", room("1"))
    client.leave("1001")
    lines = written(caplog)
    assert [event for event, _ in lines] == [
        "opened",
        "connected",
        "transmitted",
        "received",
        "subscribed",
        "transmitted",
        "received",
        "performed",
        "published",
        "delivered",
        "received",
        "unsubscribed",
        "closed",
    ]
    assert {
        values["sid"] for event, values in lines if event not in ("published", "delivered")
    } == {"s1"}
    data = lines[6][1]["data"]
    assert len(data) == 200, "shortened"
    assert lines[-1][1]["by"] == "client"
    assert lines[-1][1]["reason"] == "1001"


@in_loop
async def test_a_client_that_the_server_closes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "catenary.client")
    heart = Heart(observer=LifeLog())
    heart.application.prepare("connect", Decision(verdict=Verdict.FAILURE))
    heart.connect("s1").leave()
    event, values = written(caplog)[-1]
    assert (event, values["by"]) == ("closed", "server")
    assert values["reason"] == Reason.AUTH_FAILED.description


def test_queries_headers_and_cookies_are_in_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "catenary.client")
    for log in (RefusalLog(), LifeLog()):
        observer: Observer = log
        observer.opened(CLIENT)
        observer.connected(CLIENT, is_resumed=True)
        observer.rejected(CLIENT, Reason.UNAUTHORIZED, "x")
        observer.subscription_rejected(CLIENT, ROOM, "x")
        observer.refused(CLIENT, "x")
        observer.closed(CLIENT, None, "x")
    assert len(caplog.records) == 6
    assert all("hunter2" not in str(fields_of(each)) for each in caplog.records)
