"""The client's request as the application sees it, its verdict, and the end of a session."""

import urllib.parse

import pytest

from catenary.protocols import rpc_pb2 as pb
from tests.conformance.conftest import Connect, StartServer
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.conformance_app import ChannelAnswer, ConformanceApp, ConnectAnswer
from tests.parts.raw_socket import RawSocket, upgrade
from tests.parts.redis import RedisPublisher
from tests.parts.server import CableServer

UNAUTHORIZED = {"type": "disconnect", "reason": "unauthorized", "reconnect": False}


# The requests to the application


def test_url_is_set_during_connection(
    connect: Connect, app: ConformanceApp, server: CableServer, sid: str
) -> None:
    connect("a=1&b=%20x", headers={"X-Request-ID": sid}).receive_welcome()

    (call,) = app.calls.of(sid, "connect")
    url = urllib.parse.urlsplit(call.url)
    assert url.scheme == "http"
    assert url.netloc == f"127.0.0.1:{server.port}"
    assert url.path == "/cable"
    assert url.query == "a=1&b=%20x"


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ("GET /cable?a=1 HTTP/1.1", "http://test/cable?a=1"),
        ("GET /cable?a=1 HTTP/1.0", "http://test/cable?a=1"),
        ("GET http://other/cable?a=1 HTTP/1.1", "http://other/cable?a=1"),
        ("GET https://other:8443/cable?a=1 HTTP/1.0", "https://other:8443/cable?a=1"),
    ],
)
def test_a_target_may_be_a_whole_url_and_http_1_0_may_upgrade(
    app: ConformanceApp, server: CableServer, sid: str, line: str, url: str
) -> None:
    asked = upgrade("/cable", f"X-Request-ID: {sid}").partition(b"\r\n")[2]
    with RawSocket(server.port) as client:
        client.send(line.encode() + b"\r\n" + asked)
        client.opened()

    (call,) = app.calls.of(sid, "connect")
    assert call.url == url


def test_channel_has_access_to_the_request(connect: Connect, app: ConformanceApp) -> None:
    def subscribed(answer: ChannelAnswer) -> None:
        if answer.call.query.get("token") != "secret":
            answer.reject()

    channel = identifier(app.define(subscribed=subscribed))
    with_token, without = connect("token=secret"), connect()
    with_token.receive_welcome()
    without.receive_welcome()

    assert with_token.subscribe(channel) == confirmed(channel)
    assert without.subscribe(channel)["type"] == "reject_subscription"


def needs_cookie(answer: ConnectAnswer) -> None:
    if answer.call.cookies.get("username") != "john green":
        answer.reject()


def needs_header(answer: ConnectAnswer) -> None:
    if answer.call.headers.get("x-api-token") != "abc":
        answer.reject()


@pytest.mark.parametrize(
    ("function", "headers"),
    [(needs_cookie, {"Cookie": "username=john green"}), (needs_header, {"X-API-TOKEN": "abc"})],
    ids=["cookies", "headers"],
)
def test_application_accepts_by_what_the_request_carries(
    connect: Connect, app: ConformanceApp, function: object, headers: dict[str, str]
) -> None:
    assert callable(function)
    test = app.define_connect(function)

    connect(f"test={test}", headers=headers).receive_welcome()


@pytest.mark.parametrize("function", [needs_cookie, needs_header], ids=["cookies", "headers"])
def test_application_rejects_by_what_the_request_lacks(
    connect: Connect, app: ConformanceApp, function: object
) -> None:
    assert callable(function)
    test = app.define_connect(function)

    assert connect(f"test={test}").wait_for_close() == (1000, "Auth Failed")


def test_application_gets_the_chosen_headers_and_the_address(
    connect: Connect, app: ConformanceApp, sid: str
) -> None:
    headers = {"X-Request-ID": sid, "X-API-Token": "abc", "X-Other": "no", "Cookie": "a=1; b=2"}
    connect(headers=headers).receive_welcome()

    (call,) = app.calls.of(sid, "connect")
    assert call.headers == {"x-api-token": "abc", "cookie": "a=1; b=2", "REMOTE_ADDR": "127.0.0.1"}
    assert call.protov == "v1"


@pytest.mark.reference_fault("it compares names with the space before them: only the first is sent")
def test_application_gets_the_chosen_cookies_only(
    start_server: StartServer, app: ConformanceApp, sid: str
) -> None:
    headers = {"X-Request-ID": sid, "Cookie": "a=1; b=2; c=3"}
    with (
        start_server(f"--rpc_host={app.host}", "--proxy-cookies=a,c") as server,
        CableClient(server.cable_url, headers=headers) as client,
    ):
        client.receive_welcome()

    assert app.calls.of(sid, "connect")[0].cookies == {"a": "1", "c": "3"}


def test_commands_carry_identifiers_and_environment(
    connect: Connect, app: ConformanceApp, sid: str
) -> None:
    test = app.define_connect(lambda answer: answer.identify(uid="42"))
    channel = identifier(app.define(echo=lambda answer: answer.transmit(answer.call.payload)))
    client = connect(f"test={test}", headers={"X-Request-ID": sid, "Cookie": "a=1"})
    client.receive_welcome()
    client.subscribe(channel)
    client.perform(channel, "echo")
    client.receive()

    calls = [*app.calls.of(sid, "subscribe"), *app.calls.of(sid, "message")]
    assert len(calls) == 2
    for call in calls:
        assert call.identifiers == '{"uid": "42"}'
        assert call.identifier == channel
        assert call.headers["cookie"] == "a=1"
        assert call.query == {"test": test}
        assert call.protov == "v1"


# Its decisions about a connection


def test_client_hears_why_it_is_rejected(connect: Connect, app: ConformanceApp) -> None:
    client = connect(f"test={app.define_connect(ConnectAnswer.reject)}")

    assert client.receive() == UNAUTHORIZED
    assert client.wait_for_close() == (1000, "Auth Failed")


def test_rejection_without_a_message_is_a_close_frame(
    connect: Connect, app: ConformanceApp
) -> None:
    def reject_silently(answer: ConnectAnswer) -> None:
        answer.response.Clear()
        answer.response.status = pb.FAILURE

    client = connect(f"test={app.define_connect(reject_silently)}")

    assert client.wait_for_close() == (1000, "Auth Failed")


def test_connect_that_breaks_closes_with_an_error(connect: Connect, app: ConformanceApp) -> None:
    def crash(_answer: ConnectAnswer) -> None:
        raise RuntimeError("out of order")

    client = connect(f"test={app.define_connect(crash)}")

    assert client.wait_for_close() == (1011, "Auth Error")


def test_rejected_clients_are_not_reported_as_gone(
    connect: Connect, app: ConformanceApp, sid: str
) -> None:
    """Judged against a client that came later, left later, and has been reported."""
    rejected = connect(
        f"test={app.define_connect(ConnectAnswer.reject)}", headers={"X-Request-ID": sid}
    )
    rejected.wait_for_close()
    other = connect()
    other_sid = other.receive_welcome()["sid"]
    other.close()
    app.calls.wait_for(other_sid, "disconnect")

    assert app.calls.of(sid, "disconnect") == []


def test_all_transmissions_of_connect_are_sent_in_order(
    connect: Connect, app: ConformanceApp
) -> None:
    def greet(answer: ConnectAnswer) -> None:
        answer.response.transmissions.extend(['{"type":"one"}', '{"type":"two"}'])

    client = connect(f"test={app.define_connect(greet)}")

    assert [client.receive()["type"] for _ in range(3)] == ["welcome", "one", "two"]


# The end of a session


def broadcasting_unsubscribed(app: ConformanceApp, publisher: RedisPublisher, stream: str) -> str:
    """A channel that publishes to its stream which client left."""

    def subscribed(answer: ChannelAnswer) -> None:
        answer.stream_from(stream)

    def unsubscribed(answer: ChannelAnswer) -> None:
        publisher.broadcast(stream, {"data": f"user left{answer.call.params.get('id', '')}"})

    return app.define(subscribed=subscribed, unsubscribed=unsubscribed)


def test_leaving_ends_subscriptions_to_different_channels(
    connect: Connect, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    first = identifier(broadcasting_unsubscribed(app, publisher, f"{stream}/a"))
    second = identifier(broadcasting_unsubscribed(app, publisher, f"{stream}/b"))
    staying, leaving = connect(), connect()
    for client in (staying, leaving):
        client.receive_welcome()
        assert client.subscribe(first) == confirmed(first)
        assert client.subscribe(second) == confirmed(second)

    leaving.close()

    heard = [staying.receive(), staying.receive()]
    assert delivered(first, {"data": "user left"}) in heard
    assert delivered(second, {"data": "user left"}) in heard


def test_leaving_ends_all_subscriptions_to_one_channel(
    connect: Connect, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    channel = broadcasting_unsubscribed(app, publisher, stream)
    all_of_it = identifier(channel)
    staying, leaving = connect(), connect()
    staying.receive_welcome()
    leaving.receive_welcome()
    assert staying.subscribe(all_of_it) == confirmed(all_of_it)
    for number in (1, 2):
        part = identifier(channel, id=number)
        assert leaving.subscribe(part) == confirmed(part)

    leaving.close()

    heard = [staying.receive(), staying.receive()]
    assert delivered(all_of_it, {"data": "user left1"}) in heard
    assert delivered(all_of_it, {"data": "user left2"}) in heard


def test_disconnect_tells_identifiers_subscriptions_and_states(
    connect: Connect, app: ConformanceApp, sid: str
) -> None:
    def accept(answer: ConnectAnswer) -> None:
        answer.identify(uid="7")
        answer.response.env.cstate["user"] = "seven"

    def subscribed(answer: ChannelAnswer) -> None:
        answer.set_istate(room=answer.call.params["room"])

    channel, plain = app.define(subscribed=subscribed), identifier(app.define())
    rooms = [identifier(channel, room=name) for name in ("a", "b")]
    given_back = identifier(channel, room="c")
    client = connect(f"test={app.define_connect(accept)}", headers={"X-Request-ID": sid})
    client.receive_welcome()
    for each in (*rooms, given_back, plain):
        assert client.subscribe(each) == confirmed(each)
    client.send("unsubscribe", identifier=given_back)
    client.expect_nothing()

    client.close()

    (call,) = app.calls.wait_for(sid, "disconnect")
    assert call.identifiers == '{"uid": "7"}'
    assert sorted(call.subscriptions) == sorted([*rooms, plain])
    assert call.istate == {rooms[0]: '{"room":"a"}', rooms[1]: '{"room":"b"}'}
    assert call.cstate == {"user": "seven"}
    assert call.headers["REMOTE_ADDR"] == "127.0.0.1"
    assert call.protov == "v1"


def test_each_session_is_reported_once(connect: Connect, app: ConformanceApp) -> None:
    """However it left: with a close frame, or by a broken connection."""
    channel = identifier(app.define())
    clients = [connect() for _ in range(6)]
    sids = [client.receive_welcome()["sid"] for client in clients]
    for client in clients:
        client.subscribe(channel)
    for client in clients[:3]:
        client.close()
    for client in clients[3:]:
        client.drop()
    for sid in sids:
        app.calls.wait_for(sid, "disconnect")
    last = connect()
    last_sid = last.receive_welcome()["sid"]
    last.close()
    app.calls.wait_for(last_sid, "disconnect")

    assert [len(app.calls.of(sid, "disconnect")) for sid in sids] == [1] * 6
