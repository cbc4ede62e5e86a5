"""Streams whose names are signed, and those of Turbo and CableReady: without an application."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conformance.conftest import StartServer
from tests.parts.cable_client import CableClient, confirmed, delivered, identifier, rejected
from tests.parts.conformance_app import ConformanceApp
from tests.parts.server import CableServer
from tests.parts.tokens import SECRET, signed_name, signed_text

PUBSUB, TURBO, CABLE_READY = "$pubsub", "Turbo::StreamsChannel", "CableReady::Stream"
PARAMS = {PUBSUB: "signed_stream_name", TURBO: "signed_stream_name", CABLE_READY: "identifier"}
CHAT = signed_name("chat/1")
each_channel = pytest.mark.parametrize("channel", PARAMS)

# Of features/turbo_rpc_less.testfile: the key s3Krit and the stream chat/2023, signed by openssl.
FIXED = "ImNoYXQvMjAyMyI=--2b2e054b6413bf3bc7e8bbad2f68962aa2ba19821800ccbd8de6fd7314e8320c"


@pytest.fixture(scope="module")
def standalone(start_server: StartServer) -> Iterator[CableServer]:
    """Everything that is signed is served, nothing that is public."""
    with start_server(
        "--norpc", "--noauth", f"--streams_secret={SECRET}", "--turbo_streams", "--cable_ready"
    ) as server:
        yield server


@pytest.fixture
def client(standalone: CableServer) -> Iterator[CableClient]:
    with welcomed(standalone) as client:
        yield client


def welcomed(server: CableServer) -> CableClient:
    client = CableClient(server.cable_url)
    client.receive_welcome()
    return client


def publish(server: CableServer, stream: str, message: object) -> None:
    body = json.dumps({"stream": stream, "data": json.dumps(message)}).encode()
    urllib.request.urlopen(server.broadcast_url, body, timeout=5).close()


# Names


@pytest.mark.parametrize(
    ("signed", "stream"),
    [
        (CHAT, "chat/1"),
        (signed_name("é \U0001f600"), "é \U0001f600"),
        (signed_text('"é"'), "é"),
        (signed_text(' "spaced" '), "spaced"),
        (signed_name('quo"ted'), 'quo"ted'),
    ],
)
@each_channel
def test_signed_stream_is_heard_until_it_is_given_back(
    standalone: CableServer, client: CableClient, channel: str, signed: str, stream: str
) -> None:
    name = identifier(channel, **{PARAMS[channel]: signed})
    assert client.subscribe(name) == confirmed(name)
    publish(standalone, stream, {"n": 1})
    assert client.receive() == delivered(name, {"n": 1})

    client.send("unsubscribe", identifier=name)
    client.expect_nothing()
    publish(standalone, stream, {"n": 2})
    client.expect_nothing()


BAD_NAMES = [
    pytest.param("", id="empty"),
    pytest.param("--", id="dashes"),
    pytest.param("chat/1", id="plain"),
    pytest.param(signed_name("chat/1", SECRET + "!"), id="wrong key"),
    pytest.param(signed_name("chat/1", ""), id="empty key"),
    pytest.param(CHAT[:-1], id="cut"),
    pytest.param(CHAT.partition("--")[0], id="unsigned"),
    pytest.param(CHAT + "--x", id="three parts"),
    pytest.param(" " + CHAT, id="space"),
    pytest.param(
        f"{CHAT.partition('--')[0]}--{CHAT.partition('--')[2].upper()}", id="capital digits"
    ),
    pytest.param(
        f"{signed_name('chat/2').partition('--')[0]}--{CHAT.partition('--')[2]}", id="other name"
    ),
    pytest.param(signed_name(5), id="number"),
    pytest.param(signed_name(None), id="null"),
    pytest.param(signed_name({"_rails": {"message": "x"}}), id="object"),
    pytest.param(signed_text("chat/1"), id="no JSON"),
    pytest.param(signed_text('"chat/1" x'), id="more than JSON"),
    pytest.param(
        signed_name(""),
        id="signed emptiness",
        marks=pytest.mark.reference_fault("it subscribes to the stream without a name"),
    ),
    pytest.param(5, id="no text"),
]


@pytest.mark.parametrize("signed", BAD_NAMES)
@each_channel
def test_bad_name_is_rejected(client: CableClient, channel: str, signed: object) -> None:
    name = identifier(channel, **{PARAMS[channel]: signed})
    assert client.subscribe(name) == rejected(name)
    client.expect_nothing()


@pytest.mark.parametrize(
    ("channel", "params"),
    [
        (PUBSUB, {}),
        (PUBSUB, {"stream_name": "chat/1"}),
        (PUBSUB, {"stream_name": "chat/1", "signed_stream_name": "bad"}),
        (PUBSUB, {"identifier": CHAT}),
        (TURBO, {}),
        (TURBO, {"stream_name": "chat/1"}),
        (TURBO, {"identifier": CHAT}),
        (CABLE_READY, {}),
        (CABLE_READY, {"stream_name": "chat/1"}),
        (CABLE_READY, {"signed_stream_name": CHAT}),
        ("OtherChannel", {"signed_stream_name": CHAT}),
        ("$PUBSUB", {"signed_stream_name": CHAT}),
    ],
)
def test_other_params_name_nothing(
    client: CableClient, channel: str, params: dict[str, object]
) -> None:
    name = identifier(channel, **params)
    assert client.subscribe(name) == rejected(name)


def test_one_signed_name_beside_a_plain_one_counts(
    client: CableClient, standalone: CableServer
) -> None:
    name = identifier(PUBSUB, signed_stream_name=CHAT, stream_name="other")
    assert client.subscribe(name) == confirmed(name)
    publish(standalone, "other", "unheard")
    publish(standalone, "chat/1", "heard")
    assert client.receive() == delivered(name, "heard")


# Keys


def accepted(server: CableServer, channel: str, **params: object) -> bool:
    """Whether a subscription is confirmed."""
    name = identifier(channel, **params)
    with welcomed(server) as client:
        answer = client.subscribe(name)
    assert answer in (confirmed(name), rejected(name))
    return answer == confirmed(name)


OTHER = "another key"


@pytest.mark.parametrize(
    ("flags", "pubsub", "turbo", "cable_ready"),
    [
        pytest.param([], None, None, None, id="nothing"),
        pytest.param([f"--secret={SECRET}"], SECRET, None, None, id="secret"),
        pytest.param(
            [f"--secret={SECRET}", "--turbo_streams", "--cable_ready"],
            SECRET,
            SECRET,
            SECRET,
            id="secret for all",
        ),
        pytest.param([f"--secret={OTHER}", f"--streams_secret={SECRET}"], SECRET, None, None),
        pytest.param([f"--secret={SECRET}", "--streams_secret=none"], None, None, None),
        pytest.param(
            [f"--streams_secret={SECRET}", "--turbo_streams", f"--turbo_streams_secret={OTHER}"],
            SECRET,
            OTHER,
            None,
            id="turbo has its own",
        ),
        pytest.param(
            [f"--streams_secret={SECRET}", "--cable_ready", f"--cable_ready_secret={OTHER}"],
            SECRET,
            None,
            OTHER,
            id="cable ready has its own",
        ),
        pytest.param([f"--turbo_streams_secret={OTHER}"], None, None, None, id="turbo is off"),
        pytest.param(["--turbo_streams", "--cable_ready"], None, None, None, id="no key"),
        pytest.param([f"--turbo_rails_key={OTHER}"], None, OTHER, None, id="turbo's old name"),
        pytest.param([f"--cable_ready_key={OTHER}"], None, None, OTHER, id="the other old name"),
    ],
)
def test_each_channel_has_its_key(
    start_server: StartServer,
    flags: list[str],
    pubsub: str | None,
    turbo: str | None,
    cable_ready: str | None,
) -> None:
    with start_server("--norpc", "--noauth", *flags) as server:
        for key in (SECRET, OTHER):
            signed = signed_name("chat/1", key)
            assert accepted(server, PUBSUB, signed_stream_name=signed) is (key == pubsub)
            assert accepted(server, TURBO, signed_stream_name=signed) is (key == turbo)
            assert accepted(server, CABLE_READY, identifier=signed) is (key == cable_ready)


@pytest.mark.reference_fault("without a key, names that are signed with the empty one are good")
@pytest.mark.parametrize("flags", [["--noauth"], ["--noauth", "--secret=none"]])
def test_without_a_key_nothing_that_is_signed_is_good(
    start_server: StartServer, flags: list[str]
) -> None:
    with start_server("--norpc", *flags) as server:
        assert not accepted(server, PUBSUB, signed_stream_name=signed_name("chat/1", ""))


def test_a_name_from_elsewhere(start_server: StartServer) -> None:
    with start_server("--norpc", "--noauth", "--turbo_rails_key=s3Krit") as server:
        assert accepted(server, TURBO, signed_stream_name=FIXED)


@pytest.mark.parametrize(
    ("flags", "plain"),
    [
        (["--public"], True),
        (["--noauth", "--public_streams"], True),
        (["--noauth"], False),
    ],
)
def test_public_streams_are_there_beside_signed_ones(
    start_server: StartServer, flags: list[str], *, plain: bool
) -> None:
    with start_server("--norpc", f"--secret={SECRET}", *flags) as server:
        assert accepted(server, PUBSUB, stream_name="chat/1") is plain
        assert accepted(server, PUBSUB, stream_name="chat/1", signed_stream_name=None) is plain
        assert accepted(server, PUBSUB, signed_stream_name=CHAT)
        assert not accepted(server, PUBSUB, stream_name="chat/1", signed_stream_name="bad")


# Whispers


@pytest.mark.parametrize(
    ("flags", "channel", "params", "is_heard"),
    [
        pytest.param([], PUBSUB, {"signed_stream_name": CHAT}, False, id="signed"),
        pytest.param(
            ["--streams_whisper"], PUBSUB, {"signed_stream_name": CHAT}, True, id="allowed"
        ),
        pytest.param(["--public_streams"], PUBSUB, {"stream_name": "chat/1"}, True, id="public"),
        pytest.param(
            ["--public_streams"], PUBSUB, {"signed_stream_name": CHAT}, False, id="signed, public"
        ),
        pytest.param(
            ["--streams_whisper", "--turbo_streams"],
            TURBO,
            {"signed_stream_name": CHAT},
            False,
            id="turbo",
        ),
        pytest.param(
            ["--streams_whisper", "--cable_ready"],
            CABLE_READY,
            {"identifier": CHAT},
            False,
            id="cable ready",
        ),
    ],
)
def test_whispers(
    start_server: StartServer,
    flags: list[str],
    channel: str,
    params: dict[str, object],
    *,
    is_heard: bool,
) -> None:
    name = identifier(channel, **params)
    with ExitStack() as stack:
        server = stack.enter_context(
            start_server("--norpc", "--noauth", f"--streams_secret={SECRET}", *flags)
        )
        speaker = stack.enter_context(welcomed(server))
        listener = stack.enter_context(welcomed(server))
        for each in (speaker, listener):
            assert each.subscribe(name) == confirmed(name)
        speaker.send("whisper", identifier=name, data={"typing": True})
        speaker.expect_nothing()
        publish(server, "chat/1", "published")
        if is_heard:
            assert listener.receive() == delivered(name, {"typing": True})
        assert listener.receive() == delivered(name, "published")
        assert speaker.receive() == delivered(name, "published")


# With an application


def test_application_is_not_asked_about_these_streams(
    start_server: StartServer, app: ConformanceApp, sid: str
) -> None:
    flags = (f"--rpc_host={app.host}", f"--streams_secret={SECRET}", "--turbo_streams")
    with start_server(*flags) as server:
        other = identifier(app.define())
        with CableClient(server.cable_url, headers={"X-Request-ID": sid}) as client:
            client.receive_welcome()
            for channel in (PUBSUB, TURBO):
                name = identifier(channel, signed_stream_name=CHAT)
                assert client.subscribe(name) == confirmed(name)
            assert client.subscribe(other) == confirmed(other)
        app.calls.wait_for(sid, "disconnect")
        assert [call.identifier for call in app.calls.of(sid, "subscribe")] == [other]
