"""Publications that subscribers receive, and those that they do not."""

import json
from contextlib import closing

import pytest

from tests.conformance.conftest import Connect, StartServer
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier, rejected
from tests.parts.conformance_app import ChannelAnswer, ConformanceApp
from tests.parts.redis import RedisPublisher, redis_server


@pytest.fixture
def channel(app: ConformanceApp, stream: str) -> str:
    """The identifier of a channel that streams from ``stream`` and, when asked, from more."""

    def follow(answer: ChannelAnswer) -> None:
        answer.stream_from(answer.call.payload["name"])

    def unfollow(answer: ChannelAnswer) -> None:
        answer.stop_stream_from(answer.call.payload["name"])

    name = app.define(
        subscribed=lambda answer: answer.stream_from(stream), follow=follow, unfollow=unfollow
    )
    return identifier(name)


@pytest.fixture
def subscriber(client: CableClient, channel: str) -> CableClient:
    """A client that listens to ``stream``."""
    assert client.subscribe(channel) == confirmed(channel)
    return client


@pytest.fixture
def witness(connect: Connect, channel: str) -> CableClient:
    """A second publication: when it has arrived, an earlier one would have arrived, too."""
    client = connect()
    client.receive_welcome()
    assert client.subscribe(channel) == confirmed(channel)
    return client


# One stream


@pytest.mark.parametrize(
    "message",
    [
        {"data": {"user_id": 1, "status": "left", "meta": {"connection_time": "10s"}}},
        "<script>alert('Message!');</script>",
        '{"script":{"alert":"Message!"}}',
        [],
        [1, 2.5, None, True],
        "",
        "é \u2028 \U0001f600",
        False,
        0,
    ],
    ids=repr,
)
def test_publication_reaches_its_subscriber(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str, message: object
) -> None:
    publisher.broadcast(stream, message)

    assert subscriber.receive() == delivered(channel, message)


@pytest.mark.parametrize("data", ["plain text", "{broken", '{"a":1} x', "null", ""])
def test_data_that_is_no_json_becomes_a_string(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str, data: str
) -> None:
    """And null, which no client tells from nothing, becomes the string too."""
    publisher.publish(json.dumps({"stream": stream, "data": data}))

    assert subscriber.receive() == delivered(channel, data)


def test_publications_of_a_stream_keep_their_order(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    for number in range(100):
        publisher.broadcast(stream, number)

    for number in range(100):
        assert subscriber.receive() == delivered(channel, number)


def test_unsubscribed_client_hears_nothing_more(
    subscriber: CableClient,
    witness: CableClient,
    channel: str,
    publisher: RedisPublisher,
    stream: str,
) -> None:
    publisher.broadcast(stream, {"data": "X"})
    assert subscriber.receive() == delivered(channel, {"data": "X"})
    assert witness.receive() == delivered(channel, {"data": "X"})
    subscriber.send("unsubscribe", identifier=channel)
    subscriber.expect_nothing()

    publisher.broadcast(stream, {"data": "Y"})

    assert witness.receive() == delivered(channel, {"data": "Y"})
    subscriber.expect_nothing()


def test_client_can_subscribe_again(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    subscriber.send("unsubscribe", identifier=channel)
    assert subscriber.subscribe(channel) == confirmed(channel)

    publisher.broadcast(stream, "again")

    assert subscriber.receive() == delivered(channel, "again")
    subscriber.expect_nothing()


def test_each_subscription_to_a_stream_gets_its_message(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    other = identifier(json.loads(channel)["channel"], some_param="test")
    assert subscriber.subscribe(other) == confirmed(other)

    publisher.broadcast(stream, {"data": "XX"})

    heard = [subscriber.receive(), subscriber.receive()]
    assert delivered(channel, {"data": "XX"}) in heard
    assert delivered(other, {"data": "XX"}) in heard


def test_stream_that_is_followed_twice_delivers_once(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    subscriber.perform(channel, "follow", name=stream)
    subscriber.expect_nothing()

    publisher.broadcast(stream, "once")

    assert subscriber.receive() == delivered(channel, "once")
    subscriber.expect_nothing()


# Many clients


def test_all_clients_hear_a_publication(
    subscriber: CableClient,
    witness: CableClient,
    channel: str,
    publisher: RedisPublisher,
    stream: str,
) -> None:
    publisher.broadcast(stream, {"data": "X"})

    assert subscriber.receive() == delivered(channel, {"data": "X"})
    assert witness.receive() == delivered(channel, {"data": "X"})


def test_client_that_leaves_costs_the_others_nothing(
    subscriber: CableClient,
    witness: CableClient,
    channel: str,
    publisher: RedisPublisher,
    stream: str,
) -> None:
    subscriber.drop()

    for number in range(3):
        publisher.broadcast(stream, number)
        assert witness.receive() == delivered(channel, number)


def test_excluded_session_hears_nothing(
    connect: Connect,
    witness: CableClient,
    channel: str,
    publisher: RedisPublisher,
    stream: str,
) -> None:
    excluded = connect()
    sid = excluded.receive_welcome()["sid"]
    excluded.subscribe(channel)

    publisher.broadcast(stream, "for others", exclude_socket=sid)
    publisher.broadcast(stream, "for all")

    assert witness.receive() == delivered(channel, "for others")
    assert witness.receive() == delivered(channel, "for all")
    assert excluded.receive() == delivered(channel, "for all")


def test_excluded_session_may_be_the_only_listener(
    connect: Connect, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    client = connect()
    sid = client.receive_welcome()["sid"]
    client.subscribe(channel)

    publisher.broadcast(stream, "for others", exclude_socket=sid)
    publisher.broadcast(stream, "for all", exclude_socket="somebody else")

    assert client.receive() == delivered(channel, "for all")


# Several streams


def test_client_hears_all_streams_of_a_subscription(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    subscriber.perform(channel, "follow", name=f"{stream}/b")
    subscriber.expect_nothing()

    publisher.broadcast(stream, {"data": "X"})
    assert subscriber.receive() == delivered(channel, {"data": "X"})
    publisher.broadcast(f"{stream}/b", {"data": "Y"})
    assert subscriber.receive() == delivered(channel, {"data": "Y"})


def test_unsubscribed_client_hears_none_of_its_streams(
    client: CableClient,
    connect: Connect,
    app: ConformanceApp,
    publisher: RedisPublisher,
    stream: str,
) -> None:
    streams = [f"{stream}/a", f"{stream}/b"]
    channel = identifier(app.define(subscribed=lambda answer: answer.stream_from(*streams)))
    witness = connect()
    witness.receive_welcome()
    client.subscribe(channel)
    witness.subscribe(channel)
    client.send("unsubscribe", identifier=channel)
    client.expect_nothing()

    for name in streams:
        publisher.broadcast(name, name)
        assert witness.receive() == delivered(channel, name)
    client.expect_nothing()


def test_stopped_stream_is_silent_and_the_other_is_not(
    subscriber: CableClient,
    witness: CableClient,
    channel: str,
    publisher: RedisPublisher,
    stream: str,
) -> None:
    subscriber.perform(channel, "follow", name=f"{stream}/b")
    subscriber.perform(channel, "unfollow", name=stream)
    subscriber.expect_nothing()

    publisher.broadcast(stream, {"data": "Y"})
    assert witness.receive() == delivered(channel, {"data": "Y"})
    publisher.broadcast(f"{stream}/b", {"data": "Z"})

    assert subscriber.receive() == delivered(channel, {"data": "Z"})


def test_streams_are_stopped_before_others_are_started(
    client: CableClient, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    """Naming one stream as stopped and as started keeps it."""

    def restart(answer: ChannelAnswer) -> None:
        answer.stop_stream_from(stream)
        answer.stream_from(stream)

    channel = identifier(
        app.define(subscribed=lambda answer: answer.stream_from(stream), restart=restart)
    )
    client.subscribe(channel)
    client.perform(channel, "restart")
    client.expect_nothing()

    publisher.broadcast(stream, "still here")

    assert client.receive() == delivered(channel, "still here")


def test_all_streams_are_stopped_before_others_are_started(
    client: CableClient, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    def replace(answer: ChannelAnswer) -> None:
        answer.stop_all_streams()
        answer.stream_from(f"{stream}/new")

    channel = identifier(
        app.define(
            subscribed=lambda answer: answer.stream_from(stream, f"{stream}/old"), replace=replace
        )
    )
    client.subscribe(channel)
    client.perform(channel, "replace")
    client.expect_nothing()

    publisher.broadcast(stream, "old")
    publisher.broadcast(f"{stream}/old", "old")
    publisher.broadcast(f"{stream}/new", "new")

    assert client.receive() == delivered(channel, "new")


def test_streams_of_one_subscription_do_not_end_with_another(
    client: CableClient, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    name = app.define(subscribed=lambda answer: answer.stream_from(stream))
    first, second = identifier(name, id=1), identifier(name, id=2)
    client.subscribe(first)
    client.subscribe(second)
    client.send("unsubscribe", identifier=first)
    client.expect_nothing()

    publisher.broadcast(stream, "X")

    assert client.receive() == delivered(second, "X")
    client.expect_nothing()


# Forms of publications


def test_batch_is_delivered_in_order(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    batch = [{"stream": stream, "data": json.dumps(number)} for number in range(5)]
    publisher.publish(json.dumps(batch))

    assert [subscriber.receive() for _ in batch] == [delivered(channel, n) for n in range(5)]


def test_publication_may_name_the_type_of_message(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    publisher.broadcast(stream, {"a": 1}, broadcast_type="presence")

    assert subscriber.receive() == {"type": "presence", **delivered(channel, {"a": 1})}


def test_unknown_fields_of_a_publication_are_ignored(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    publication = {"stream": stream, "data": "1", "more": 2, "meta": {"later": True}}
    publisher.publish(json.dumps(publication))

    assert subscriber.receive() == delivered(channel, 1)


@pytest.mark.parametrize(
    "malformed",
    [
        "{broken",
        "",
        "[]",
        "5",
        "null",
        '"text"',
        '{"data":"1"}',
        '{"stream":"STREAM","data":{"x":1}}',
        '{"stream":"STREAM","data":"1","meta":5}',
        '{"stream":"STREAM","data":"1","meta":{"exclude_socket":5}}',
        '[{"stream":"STREAM","data":"1"},5]',
        '{"command":"unheard-of"}',
        '{"command":"disconnect"}',
        '{"command":"disconnect","payload":"x"}',
    ],
)
def test_malformed_publication_is_dropped_and_the_rest_goes_on(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str, malformed: str
) -> None:
    publisher.publish(malformed.replace("STREAM", stream))
    publisher.broadcast(stream, "next")

    assert subscriber.receive() == delivered(channel, "next")


@pytest.mark.reference_fault("its process ends with a nil pointer", skip=True)
def test_null_in_a_batch_costs_nothing_else(
    subscriber: CableClient, channel: str, publisher: RedisPublisher, stream: str
) -> None:
    publisher.publish(json.dumps([{"stream": stream, "data": "1"}, None]))
    publisher.broadcast(stream, "next")

    assert subscriber.receive() == delivered(channel, "next")


# Redis goes away


def test_publications_arrive_again_after_an_outage_of_redis(
    start_server: StartServer, app: ConformanceApp, channel: str, stream: str
) -> None:
    """The outage costs no client its connection, and commands work while it lasts."""
    with (
        redis_server() as redis,
        start_server(
            f"--rpc_host={app.host}", "--broadcast_adapter=redis", f"--redis_url={redis.url}"
        ) as server,
        CableClient(server.cable_url) as client,
    ):
        client.receive_welcome()
        client.subscribe(channel)
        with closing(RedisPublisher(redis)) as publisher:
            publisher.broadcast(stream, "before")
            assert client.receive() == delivered(channel, "before")

        redis.stop()
        other = identifier(app.define())
        assert client.subscribe(other) == confirmed(other)
        redis.start()

        with closing(RedisPublisher(redis)) as publisher:
            publisher.broadcast(stream, "after")
            assert client.receive() == delivered(channel, "after")


# Public streams, without an application


def test_public_stream_without_an_application(start_server: StartServer) -> None:
    channel = identifier("$pubsub", stream_name="stream/2023")
    with (
        redis_server() as redis,
        start_server("--public", "--broadcast_adapter=redis", f"--redis_url={redis.url}") as server,
        CableClient(server.cable_url) as client,
        CableClient(server.cable_url) as witness,
        closing(RedisPublisher(redis)) as publisher,
    ):
        for each in (client, witness):
            assert each.receive_welcome()["sid"]
            assert each.subscribe(channel) == confirmed(channel)
        publisher.broadcast("stream/2023", {"hello": "all"})
        assert client.receive() == delivered(channel, {"hello": "all"})
        assert witness.receive() == delivered(channel, {"hello": "all"})
        client.perform(channel, "anything")
        client.send("unsubscribe", identifier=channel)
        client.expect_nothing()
        publisher.broadcast("stream/2023", "unheard")
        assert witness.receive() == delivered(channel, "unheard")
        client.expect_nothing()


def test_public_stream_needs_a_name(start_server: StartServer) -> None:
    with start_server("--public") as server, CableClient(server.cable_url) as client:
        client.receive_welcome()
        for params in ({}, {"stream_name": ""}, {"stream_name": 5}, {"signed_stream_name": "x"}):
            channel = identifier("$pubsub", **params)
            assert client.subscribe(channel) == rejected(channel)
