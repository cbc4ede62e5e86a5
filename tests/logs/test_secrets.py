"""A secret that goes through any door of a server is in none of its log lines, at the level debug.

The server's own secrets are in its options: URLs of Redis, NATS, the application and webhooks that it can't reach, and keys.
"""

import base64
import json
import time
import urllib.error
import urllib.request

import pytest

from tests.parts.cable_client import CableClient
from tests.parts.ports import free_port
from tests.parts.raw_socket import RawSocket, command, masked, upgrade
from tests.parts.server import CableServer, cable_server
from tests.parts.tokens import signed_name, signed_text, token

OWN = {
    name: f"own{name}s3cr3t{number:02}" * 3
    for number, name in enumerate(
        [
            "application",
            "broadcast",
            "api",
            "redis",
            "nats",
            "rpc",
            "rpckey",
            "streams",
            "jwt",
            "pusher",
            "webhook",
        ]
    )
}
SENT = "hunter2"
"""Is part of everything that clients send."""

DEAD = free_port()

APP = {
    "id": "app",
    "key": "appkey",
    "secret": OWN["pusher"],
    "webhooks": [
        {
            "url": f"http://user:{OWN['webhook']}@127.0.0.1:{DEAD}/{OWN['webhook']}?t={OWN['webhook']}",
        }
    ],
}

FLAGS = (
    "--debug",
    "--broker=memory",
    f"--secret={OWN['application']}",
    f"--broadcast_key={OWN['broadcast']}",
    f"--api_secret={OWN['api']}",
    f"--streams_secret={OWN['streams']}",
    f"--jwt_secret={OWN['jwt']}",
    f"--redis_url=redis://user:{OWN['redis']}@127.0.0.1:{DEAD}/1",
    f"--nats_servers=nats://user:{OWN['nats']}@127.0.0.1:{DEAD}",
    f"--rpc_host=http://user:{OWN['rpc']}@127.0.0.1:{DEAD}/_anycable?k={OWN['rpc']}",
    f"--http_rpc_secret={OWN['rpckey']}",
    "--rpc_request_timeout=200",
    "--rpc_command_timeout=200",
    "--turbo_streams",
    "--cable_ready",
    f"--turbo_streams_secret={OWN['streams']}",
    f"--cable_ready_secret={OWN['streams']}",
    "--broadcast_adapter=http,redis,redisx,nats",
    f"--pusher_apps={json.dumps([APP])}",
    *("--sse", "--ds", "--poll", "--graphql_path=/graphql", "--ocpp_path=/ocpp"),
)

# Valid for a day: other tests may run for long between the import and the first of these.
GOOD = token({"ext": json.dumps({"user": 1}), "exp": time.time() + 86_400}, key=OWN["jwt"])
BAD = token({"ext": "{}", "note": SENT}, key="another" * 5)
CUT = base64.b64encode(SENT.encode()).decode().strip("=")


def ask(url: str, *, key: str = "", body: bytes | None = None, **headers: str) -> int:
    request = urllib.request.Request(
        url, body, {k.replace("_", "-"): v for k, v in headers.items()}
    )
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def through_cables(server: CableServer) -> None:
    for path, *headers in (
        (f"/cable?jid={BAD}",),
        ("/cable", f"X-JID: {BAD}"),
        (f"/cable?token={SENT}&sid={SENT}", f"Cookie: session={SENT}"),
        (
            f"/cable?jid={GOOD}&password={SENT}",
            f"Cookie: session={SENT}",
            f"Origin: http://{SENT[:3]}",
        ),
    ):
        with RawSocket(server.port) as client:
            client.send(upgrade(path, *headers))
            client.head()
            client.frame()
    with RawSocket(server.port) as client:
        client.send(upgrade(protocol=f"actioncable-v1-json, anycable-token.{BAD}"))
        client.head()
        client.frame()
    with RawSocket(server.port) as client:
        client.open(f"/cable?jid={GOOD}")
        names = [
            {"channel": "$pubsub", "signed_stream_name": signed_name(SENT, OWN["streams"])},
            {"channel": "$pubsub", "signed_stream_name": f"{SENT}--{SENT}"},
            {"channel": "Turbo::StreamsChannel", "signed_stream_name": signed_name("t", SENT)},
            {"channel": "CableReady::Stream", "identifier": signed_name("c", SENT)},
        ]
        for each in names:
            client.send(command("subscribe", json.dumps(each)))
            client.message()
        first = json.dumps(names[0])
        data = json.dumps({"action": "login", "password": SENT, "nested": {"token": SENT}})
        client.send(command("message", first, data=data))
        client.send(command("whisper", first, data={"secret": SENT}))
        client.send(command("subscribe", json.dumps({"channel": "Chat", "api_key": SENT})))
        client.send(masked(json.dumps({"command": "x", "password": SENT}).encode()))


def through_http(server: CableServer) -> None:
    main, publish = f"http://127.0.0.1:{server.port}", server.broadcast_url
    stream = json.dumps({"stream": "a", "data": json.dumps({"token": SENT})}).encode()
    for key in (SENT, OWN["broadcast"]):
        ask(publish, key=key, body=stream)
        ask(publish + f"?key={SENT}", key=key, body=stream, X_Odd="1")
        ask(publish, key=key, body=b'{"password":"%b' % SENT.encode())
    for key in (SENT, OWN["api"]):
        ask(f"{main}/api/publish", key=key, body=stream)
        ask(f"{main}/api/connections", key=key)
    for path in (
        f"/events?jid={BAD}",
        f"/events?jid={GOOD}&signed_stream_name={signed_name(SENT, SENT)}",
        f"/events?stream={SENT[:3]}&token={SENT}",
        f"/ds/a?signed={signed_text('a', SENT)}&jid={GOOD}",
    ):
        ask(main + path, Cookie=f"s={SENT}")
    ask(f"{main}/lp?jid={BAD}", body=b"")
    for query in (
        f"auth_key={SENT}&auth_signature={SENT}",
        f"auth_key=appkey&auth_signature={SENT}",
    ):
        ask(f"{main}/apps/app/events?{query}", body=b"{}")


def through_other_protocols(server: CableServer) -> None:
    with RawSocket(server.port) as client:
        client.send(upgrade("/app/appkey?protocol=7"))
        client.head()
        for event, data in (
            ("pusher:subscribe", {"channel": "open"}),
            ("pusher:subscribe", {"channel": "private-a", "auth": f"appkey:{SENT}"}),
            ("client-x", {"password": SENT}),
        ):
            client.send(masked(json.dumps({"event": event, "data": data}).encode()))
        server.wait_for_output("Webhook to")
        data = {"auth": f"appkey:{SENT}", "user_data": json.dumps({"token": SENT})}
        client.send(masked(json.dumps({"event": "pusher:signin", "data": data}).encode()))
        client.wait_for_end()
    with RawSocket(server.port) as client:
        client.send(upgrade("/graphql", protocol="graphql-transport-ws"))
        client.head()
        init = {"type": "connection_init", "payload": {"Authorization": SENT, "jid": BAD}}
        client.send(masked(json.dumps(init).encode()))
        client.wait_for_end()
    basic = base64.b64encode(f"station:{SENT}".encode()).decode()
    with RawSocket(server.port) as client:
        client.send(upgrade("/ocpp/cs1", f"Authorization: Basic {basic}", protocol="ocpp1.6"))
        client.head()
        boot = [2, "1", "BootNotification", {"chargePointVendor": "v", "authorizationKey": SENT}]
        client.send(masked(json.dumps(boot).encode()))


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_in_any_line(form: str) -> None:
    with cable_server(*FLAGS, f"--log_format={form}") as server:
        through_cables(server)
        through_http(server)
        through_other_protocols(server)
        with CableClient(f"{server.cable_url}?jid={GOOD}") as client:
            client.receive_welcome()
        server.wait_for_output("NATS")
        server.wait_for_output("Redis")
        server.stop()
        output = server.output()
    lines = output.splitlines()
    assert len(lines) > 80
    for secret in (*OWN.values(), SENT, CUT, GOOD, BAD, BAD.split(".")[2], GOOD.split(".")[1]):
        assert [line for line in lines if secret in line] == [], secret
