"""Channel state, remote disconnects, and the end of a server."""

from contextlib import ExitStack

import pytest

from tests.conformance.conftest import Connect, StartServer
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier
from tests.parts.conformance_app import ChannelAnswer, ConformanceApp, ConnectAnswer
from tests.parts.redis import RedisPublisher
from tests.parts.server import CableServer

RESTART = {"type": "disconnect", "reason": "server_restart", "reconnect": True}


# Channel state


def stateful_channel(app: ConformanceApp, publisher: RedisPublisher, stream: str) -> str:
    """A channel that counts, and remembers the name it was subscribed with."""

    def subscribed(answer: ChannelAnswer) -> None:
        answer.set_istate(name=answer.call.params["name"], count="1")
        answer.stream_from(stream)

    def tick(answer: ChannelAnswer) -> None:
        count = int(answer.call.istate["count"]) + 2
        answer.set_istate(count=str(count))
        answer.transmit({"count": count, "name": answer.call.istate["name"]})

    def unsubscribed(answer: ChannelAnswer) -> None:
        if answer.call.params.get("notify_disconnect"):
            publisher.broadcast(stream, {"data": f"user left: {answer.call.istate['name']}"})

    return app.define(subscribed=subscribed, tick=tick, unsubscribed=unsubscribed)


def test_channel_state_is_kept_between_commands(
    client: CableClient, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    channel = identifier(stateful_channel(app, publisher, stream), name="chipolino")
    assert client.subscribe(channel) == confirmed(channel)

    for count in (3, 5):
        client.perform(channel, "tick")
        assert client.receive() == delivered(channel, {"count": count, "name": "chipolino"})


def test_channel_state_is_available_when_a_client_leaves(
    connect: Connect, app: ConformanceApp, publisher: RedisPublisher, stream: str
) -> None:
    name = stateful_channel(app, publisher, stream)
    channel = identifier(name, name="chipolino")
    leaving_channel = identifier(name, name="chipollone", notify_disconnect=True)
    staying, leaving = connect(), connect()
    staying.receive_welcome()
    leaving.receive_welcome()
    assert staying.subscribe(channel) == confirmed(channel)
    assert leaving.subscribe(leaving_channel) == confirmed(leaving_channel)

    leaving.close()

    assert staying.receive() == delivered(channel, {"data": "user left: chipollone"})


# Remote disconnect


def identified_clients(
    connect: Connect, app: ConformanceApp, uid: str, number: int
) -> list[CableClient]:
    def identify(answer: ConnectAnswer) -> None:
        answer.identify(uid=uid)

    test = app.define_connect(identify)
    clients = [connect(f"test={test}") for _ in range(number)]
    for client in clients:
        client.receive_welcome()
    return clients


@pytest.mark.parametrize("reconnect", [True, False])
def test_remote_disconnect_ends_a_session(
    connect: Connect, app: ConformanceApp, publisher: RedisPublisher, sid: str, *, reconnect: bool
) -> None:
    (client,) = identified_clients(connect, app, sid, 1)
    (other,) = identified_clients(connect, app, f"{sid} too", 1)

    publisher.disconnect(uid=sid, reconnect=reconnect)

    assert client.receive() == {"type": "disconnect", "reason": "remote", "reconnect": reconnect}
    assert client.wait_for_close() == (1000, "Closed remotely")
    other.expect_nothing()


@pytest.mark.reference_fault("it ends only one of the sessions that share identifiers")
def test_remote_disconnect_ends_every_session_with_the_identifiers(
    connect: Connect, app: ConformanceApp, publisher: RedisPublisher, sid: str
) -> None:
    clients = identified_clients(connect, app, sid, 3)
    for client in clients:
        client.deadline_s = 2

    publisher.disconnect(uid=sid, reconnect=True)

    for client in clients:
        assert client.receive()["reason"] == "remote"
        assert client.wait_for_close() == (1000, "Closed remotely")


def test_remotely_disconnected_session_is_reported_once(
    connect: Connect, app: ConformanceApp, publisher: RedisPublisher, sid: str
) -> None:
    test = app.define_connect(lambda answer: answer.identify(uid=sid))
    client = connect(f"test={test}", headers={"X-Request-ID": sid})
    client.receive_welcome()
    publisher.disconnect(uid=sid, reconnect=False)
    client.wait_for_close()
    app.calls.wait_for(sid, "disconnect")
    last = connect()
    last_sid = last.receive_welcome()["sid"]
    last.close()
    app.calls.wait_for(last_sid, "disconnect")

    assert len(app.calls.of(sid, "disconnect")) == 1


# The end of a server


def welcomed_clients(
    stack: ExitStack, server: CableServer, number: int
) -> tuple[list[CableClient], list[str]]:
    """Clients of a server and their session ids."""
    clients = [stack.enter_context(CableClient(server.cable_url)) for _ in range(number)]
    return clients, [client.receive_welcome()["sid"] for client in clients]


def test_every_client_hears_of_a_restart_and_is_reported(
    start_server: StartServer, app: ConformanceApp
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(start_server(f"--rpc_host={app.host}"))
        clients, sids = welcomed_clients(stack, server, 60)

        assert server.stop() == 0

        assert [client.receive() for client in clients] == [RESTART] * 60
        assert [len(app.calls.of(sid, "disconnect")) for sid in sids] == [1] * 60


@pytest.mark.reference_fault("it may end before the last close frames are written", skip=True)
def test_every_client_gets_a_close_frame_at_a_restart(start_server: StartServer) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(start_server("--public"))
        clients, _ = welcomed_clients(stack, server, 60)

        assert server.stop() == 0

        for client in clients:
            assert client.receive() == RESTART
            assert client.wait_for_close() == (1001, "Server restart")


def test_disconnect_calls_are_finished_before_the_end(
    start_server: StartServer, app: ConformanceApp
) -> None:
    """Even at a rate of one in a second: the end does not wait for the pace."""
    with ExitStack() as stack:
        server = stack.enter_context(
            start_server(
                f"--rpc_host={app.host}", "--disconnect_mode=always", "--disconnect_rate=1"
            )
        )
        _, sids = welcomed_clients(stack, server, 3)

        assert server.stop() == 0

        assert [len(app.calls.of(sid, "disconnect")) for sid in sids] == [1, 1, 1]


@pytest.mark.reference_fault("the call that is next in its queue is lost", skip=True)
def test_disconnect_calls_that_wait_are_finished_before_the_end(
    start_server: StartServer, app: ConformanceApp
) -> None:
    """Sessions that ended earlier are still in the queue when the server is stopped."""
    with ExitStack() as stack:
        server = stack.enter_context(
            start_server(
                f"--rpc_host={app.host}", "--disconnect_mode=always", "--disconnect_rate=1"
            )
        )
        clients, sids = welcomed_clients(stack, server, 4)
        for client in clients:
            client.close()
        app.calls.wait_for_any(sids, "disconnect")

        assert server.stop() == 0

        assert [len(app.calls.of(sid, "disconnect")) for sid in sids] == [1] * 4


def test_disconnect_mode_never_makes_no_calls(
    start_server: StartServer, app: ConformanceApp
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(
            start_server(f"--rpc_host={app.host}", "--disconnect_mode=never")
        )
        clients, sids = welcomed_clients(stack, server, 2)
        clients[0].close()

        assert server.stop() == 0

        assert [app.calls.of(sid, "disconnect") for sid in sids] == [[], []]
