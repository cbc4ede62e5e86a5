"""Which clients may connect, and what the node is passed about them."""

from typing import Any

import msgspec
import pytest

from catenary.auth.origins import Origins
from catenary.edge.admission import Admission, AdmissionRules
from catenary.edge.request import Peer, Proxied
from catenary.errors import RequestRefused
from catenary.messages.environment import Environment
from catenary.messages.heartbeat import Heartbeat
from catenary.messages.names import Sid
from catenary.metrics.counters import Counters
from catenary.node.session import Traits
from catenary.ports import Decode
from catenary.protocols.table import ACTION_CABLE_EXTENDED_JSON, ACTION_CABLE_JSON
from catenary.wire.http1 import RequestHead

PEER = Peer("http", "10.0.0.1")
HEARTBEAT = Heartbeat(3, "s")


def request(target: str = "/cable", **headers: str) -> RequestHead:
    return RequestHead("GET", target, {"host": "example.com", **headers})


def admission(counters: Counters | None = None, **rules: Any) -> Admission:
    defaults: dict[str, Any] = {
        "origins": Origins(()),
        "proxied": Proxied(("cookie",), ()),
        "heartbeat": HEARTBEAT,
    }
    return Admission(AdmissionRules(**(defaults | rules)), counters or Counters())


def test_a_client_has_an_environment_and_the_default_heartbeat() -> None:
    admitted = admission().admit(request(cookie="a=1"), PEER, ACTION_CABLE_JSON)
    assert admitted.environment.url == "http://example.com/cable"
    assert admitted.environment.headers == {"cookie": "a=1", "REMOTE_ADDR": "10.0.0.1"}
    assert admitted.traits == Traits(HEARTBEAT)


def test_an_endpoint_has_a_realm_and_makes_the_ids_of_its_sessions() -> None:
    """No header of the request takes part: a client must not choose either."""
    own = admission(realm="pusher:1", new_sid=lambda: Sid("1.2"))
    head = request(**{"x-request-id": "chosen", "realm": "other"})
    environment = own.admit(head, PEER, ACTION_CABLE_JSON).environment
    assert (environment.sid, environment.realm) == ("1.2", "pusher:1")
    plain = admission().admit(head, PEER, ACTION_CABLE_JSON).environment
    assert (plain.sid, plain.realm) == ("chosen", "")


def test_a_protocol_may_have_a_reader_for_each_session() -> None:
    read: list[str] = []

    def reader(environment: Environment) -> Decode:
        read.append(environment.sid)
        return lambda payload: None

    protocol = msgspec.structs.replace(ACTION_CABLE_JSON, reader=reader)
    first = admission().admit(request(), PEER, protocol)
    second = admission().admit(request(), PEER, protocol)
    assert read == [first.environment.sid, second.environment.sid]
    assert first.traits.decode is not None
    assert first.traits.decode is not second.traits.decode
    assert admission().admit(request(), PEER, ACTION_CABLE_JSON).traits.decode is None


@pytest.mark.parametrize(("origin", "is_allowed"), [("https://a.test", True), ("https://b", False)])
def test_pages_of_other_origins_are_refused(origin: str, is_allowed: bool) -> None:
    checked = admission(origins=Origins(("a.test",)))
    if is_allowed:
        checked.admit(request(origin=origin), PEER, ACTION_CABLE_JSON)
        return
    with pytest.raises(RequestRefused, match="expected an allowed origin") as refused:
        checked.admit(request(origin=origin), PEER, ACTION_CABLE_JSON)
    assert refused.value.status == 403


def test_connections_beyond_the_limit_are_refused() -> None:
    counters = Counters()
    limited = admission(counters, max_connections=2)
    counters.open_connections_num = 1
    limited.check_capacity()
    counters.open_connections_num = 2
    for attempt in (
        limited.check_capacity,
        lambda: limited.admit(request(), PEER, ACTION_CABLE_JSON),
    ):
        with pytest.raises(RequestRefused, match="too many connections") as refused:
            attempt()
        assert refused.value.status == 503
        assert 5 <= int(dict(refused.value.headers)["Retry-After"]) <= 15


@pytest.mark.parametrize(
    ("protocol", "is_native", "pong_timeout_s"),
    [
        (ACTION_CABLE_JSON, False, 0),
        (ACTION_CABLE_JSON, True, 6),
        (ACTION_CABLE_EXTENDED_JSON, False, 6),
        (ACTION_CABLE_EXTENDED_JSON, True, 6),
    ],
    ids=["plain", "plain native", "extended", "extended native"],
)
def test_pongs_are_expected_only_from_clients_that_send_them(
    protocol: Any, is_native: bool, pong_timeout_s: float
) -> None:
    heartbeat = Heartbeat(3, "s", is_native=is_native)
    admitted = admission(heartbeat=heartbeat, pong_timeout_s=6).admit(request(), PEER, protocol)
    assert admitted.traits.heartbeat.pong_timeout_s == pong_timeout_s


@pytest.mark.parametrize("keeps_sessions", [True, False])
@pytest.mark.parametrize("protocol", [ACTION_CABLE_JSON, ACTION_CABLE_EXTENDED_JSON])
def test_a_session_is_resumed_only_if_protocol_and_server_can(
    protocol: Any, keeps_sessions: bool
) -> None:
    asked = request("/cable?sid=former")
    traits = admission(keeps_sessions=keeps_sessions).admit(asked, PEER, protocol).traits
    can = keeps_sessions and protocol is ACTION_CABLE_EXTENDED_JSON
    assert (traits.is_resumable, traits.resumes) == (can, "former" if can else None)
