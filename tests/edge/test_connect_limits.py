"""How many clients connect: of an address and of all, per second and at once."""

from collections.abc import Callable

from catenary.edge.connect_limits import ConnectLimits, ConnectRules
from catenary.errors import RequestRefused
from catenary.messages.environment import Environment
from catenary.messages.names import Sid
from catenary.node.observers import ObserverGroup


class Edge:
    """Limits, with a clock that the test sets."""

    def __init__(self, rules: ConnectRules, connected: tuple[str, ...] = ()) -> None:
        self.now = 100.0
        self.connected = connected
        self.observers = ObserverGroup()
        self.limits = ConnectLimits(rules, self.observers, lambda: self.connected, lambda: self.now)

    def refused(self, address: str) -> int:
        """The status with which a client is refused, 0 if it is not."""
        try:
            self.limits.check(address)
        except RequestRefused as refused:
            ((name, seconds),) = refused.headers
            return refused.status if name == "Retry-After" and 5 <= int(seconds) <= 60 else -1
        return 0

    def open(self, address: str) -> Callable[[], None]:
        """A connection that was admitted; returns what closes it."""
        environment = Environment(Sid("s"), "ws://a/cable", {"REMOTE_ADDR": address})
        assert self.observers.opened is not None
        self.observers.opened(environment)

        def close() -> None:
            assert self.observers.closed is not None
            self.observers.closed(environment, None, "")

        return close


def test_without_limits_nothing_is_counted() -> None:
    edge = Edge(ConnectRules())
    assert {edge.refused("10.0.0.1") for _ in range(1000)} == {0}
    assert edge.observers.opened is None
    assert edge.observers.closed is None
    assert len(edge.limits._rates) == 0


def test_connects_of_an_address_per_second() -> None:
    edge = Edge(ConnectRules(max_address_connect_rate=3))
    assert [edge.refused("10.0.0.1") for _ in range(5)] == [0, 0, 0, 429, 429]
    assert edge.refused("10.0.0.2") == 0
    edge.now += 1
    assert edge.refused("10.0.0.1") == 0


def test_connects_of_all_addresses_per_second() -> None:
    edge = Edge(ConnectRules(max_connect_rate=3))
    assert [edge.refused(f"10.0.0.{number}") for number in range(5)] == [0, 0, 0, 503, 503]


def test_a_client_whose_address_is_refused_uses_nothing_of_the_limit_of_all() -> None:
    edge = Edge(ConnectRules(max_connect_rate=3, max_address_connect_rate=1))
    assert [edge.refused("10.0.0.1") for _ in range(50)] == [0, *[429] * 49]
    assert [edge.refused(f"10.0.0.{number}") for number in range(2, 5)] == [0, 0, 503]


def test_the_more_are_refused_the_longer_they_are_spread() -> None:
    edge = Edge(ConnectRules(max_connect_rate=10))
    after = []
    for number in range(400):
        try:
            edge.limits.check(f"10.0.{number}.1")
        except RequestRefused as refused:
            after.append(int(dict(refused.headers)["Retry-After"]))
    assert max(after[:50]) <= 15
    assert max(after[-50:]) >= 35


def test_an_ipv6_network_is_one_address_and_an_ipv4_address_has_one_form() -> None:
    edge = Edge(ConnectRules(max_address_connect_rate=2))
    assert [edge.refused(f"2001:db8::{number}") for number in range(1, 4)] == [0, 0, 429]
    assert edge.refused("2001:db8:0:1::1") == 0
    assert [edge.refused(form) for form in ("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1")] == [
        0,
        0,
        429,
    ]


def test_clients_without_an_address_share_no_limit() -> None:
    """Those of a Unix socket, or of another ASGI server that does not know it."""
    edge = Edge(ConnectRules(max_address_connect_rate=1, max_address_connections=1))
    assert [edge.refused("") for _ in range(3)] == [0, 0, 0]


def test_open_connections_of_an_address() -> None:
    edge = Edge(ConnectRules(max_address_connections=2))
    close = edge.open("2001:db8::1")
    assert edge.refused("2001:db8::2") == 0
    edge.open("2001:db8::2")
    assert edge.refused("2001:db8::3") == 429
    assert edge.refused("10.0.0.1") == 0
    close()
    assert edge.refused("2001:db8::3") == 0


def test_addresses_without_a_connection_are_forgotten() -> None:
    edge = Edge(ConnectRules(max_address_connections=2))
    closes = [edge.open(f"10.0.{number // 250}.{number % 250}") for number in range(1000)]
    assert edge.limits._connections is not None
    assert len(edge.limits._connections.by_host) == 1000
    for close in closes:
        close()
    assert edge.limits._connections.by_host == {}


def test_limits_may_change_and_connections_that_are_open_count() -> None:
    edge = Edge(ConnectRules(), connected=("10.0.0.1", "10.0.0.1"))
    assert edge.refused("10.0.0.1") == 0
    edge.limits.replace(ConnectRules(max_address_connections=2))
    assert edge.refused("10.0.0.1") == 429
    edge.limits.replace(ConnectRules(max_address_connections=3))
    assert edge.refused("10.0.0.1") == 0
    edge.open("10.0.0.1")
    assert edge.refused("10.0.0.1") == 429
    edge.limits.replace(ConnectRules())
    assert edge.refused("10.0.0.1") == 0
