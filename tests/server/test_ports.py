"""Ports that several features share, before anything listens."""

from catenary.process.binding import ListenAddress
from catenary.server.ports import Ports


def address(host: str, port: int, option: str) -> ListenAddress:
    return ListenAddress(host, port, f"{option}_port", f"{option}_host")


def test_an_address_is_one_port_however_it_is_written() -> None:
    ports = Ports()
    first = ports.at(address("[::1]", 8080, "server"))
    assert ports.at(address("::1", 8080, "api")) is first
    assert first.address.port_option == "server_port", "errors name the first feature"
    everywhere = ports.at(address("", 8090, "metrics"))
    assert ports.at(address("::", 8090, "api")) is everywhere
    other = ports.at(address("127.0.0.2", 8080, "api"))
    assert ports.specs == (first, everywhere, other)
