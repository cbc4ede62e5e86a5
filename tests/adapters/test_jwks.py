"""A key set on the web: fetched at the start, looked for again, away and back."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from catenary.adapters.jwks import MIN_INTERVAL_S, RemoteKeys
from catenary.errors import ConfigError
from tests.parts.heart import in_loop
from tests.parts.key_set import EC, ED, RSA, key_set_server, web_key
from tests.parts.ports import free_port


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def until(condition: Callable[[], bool]) -> None:
    """Returns once something holds that another thread brings about."""
    while not condition():  # noqa: ASYNC110  (nothing here can set an event)
        await asyncio.sleep(0.005)


def names(remote: RemoteKeys) -> list[str | None]:
    return [key.kid for key in remote.keys]


@in_loop
async def test_keys_are_there_after_the_start() -> None:
    with key_set_server(web_key(RSA, "r"), web_key(EC, "e")) as server:
        remote = RemoteKeys(server.url, interval_s=60)
        await remote.start()
        assert names(remote) == ["r", "e"]
        assert remote.trouble is None
        await remote.close(1)
        assert server.requests == 1


@in_loop
async def test_new_keys_are_found_but_not_at_any_price() -> None:
    clock = Clock()
    with key_set_server(web_key(RSA, "old")) as server:
        remote = RemoteKeys(server.url, interval_s=60, clock=clock)
        await remote.start()
        server.keys = [web_key(EC, "new")]

        clock.now_s += MIN_INTERVAL_S - 0.1
        await remote.refresh()
        assert (names(remote), server.requests) == (["old"], 1)

        clock.now_s += 0.1
        await asyncio.gather(*(remote.refresh() for _ in range(20)))
        assert (names(remote), server.requests) == (["new"], 2)
        await remote.close(1)


@in_loop
async def test_keys_are_fetched_regularly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catenary.adapters.jwks.MIN_INTERVAL_S", 0.01)
    with key_set_server(web_key(RSA, "old")) as server:
        remote = RemoteKeys(server.url, interval_s=0.02)
        await remote.start()
        server.keys = [web_key(ED, "new")]
        await until(lambda: names(remote) == ["new"])
        await remote.close(1)


@pytest.mark.parametrize("outage", ["status", "body", "too much", "closed"])
def test_an_outage_costs_no_keys(outage: str, caplog: pytest.LogCaptureFixture) -> None:
    @in_loop
    async def test() -> None:
        clock = Clock()
        with key_set_server(web_key(RSA, "r")) as server:
            remote = RemoteKeys(server.url, interval_s=60, clock=clock)
            await remote.start()
            match outage:
                case "status":
                    server.status = 503
                case "body":
                    server.body = b"<html>"
                case "too much":
                    server.body = b'{"keys":[]}' + b" " * 2**20
                case "closed":
                    pass
            if outage != "closed":
                clock.now_s += MIN_INTERVAL_S
                await remote.refresh()
        if outage == "closed":
            clock.now_s += MIN_INTERVAL_S
            await remote.refresh()
        assert names(remote) == ["r"]
        assert "Fetching token keys failed" in caplog.text
        await remote.close(1)

    test()


@in_loop
async def test_a_start_without_the_issuer_is_no_failure() -> None:
    remote = RemoteKeys(f"http://127.0.0.1:{free_port()}/", interval_s=60)
    await remote.start()
    assert remote.keys == ()
    assert remote.trouble is not None
    await remote.close(1)


@in_loop
async def test_an_empty_key_set_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with key_set_server() as server:
        remote = RemoteKeys(server.url, interval_s=60)
        await remote.start()
        assert "no signature key" in caplog.text
        await remote.close(1)


@in_loop
async def test_the_loop_continues_and_a_cancelled_caller_disturbs_no_other() -> None:
    clock = Clock()
    with key_set_server(web_key(RSA, "old")) as server:
        remote = RemoteKeys(server.url, interval_s=60, clock=clock)
        await remote.start()
        server.keys = [web_key(EC, "new")]
        server.gate.clear()
        clock.now_s += MIN_INTERVAL_S
        impatient = asyncio.ensure_future(remote.refresh())
        patient = asyncio.ensure_future(remote.refresh())
        await until(lambda: server.requests == 2)
        impatient.cancel()
        server.gate.set()
        await patient
        assert impatient.cancelled()
        assert names(remote) == ["new"]
        await remote.close(1)


@in_loop
async def test_closing_waits_for_no_answer() -> None:
    clock = Clock()
    with key_set_server(web_key(RSA, "old")) as server:
        remote = RemoteKeys(server.url, interval_s=60, clock=clock)
        await remote.start()
        server.gate.clear()
        clock.now_s += MIN_INTERVAL_S
        waiting = asyncio.ensure_future(remote.refresh())
        await until(lambda: server.requests == 2)
        await asyncio.wait_for(remote.close(1), 2)
        assert server.requests == 2
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 2)


@in_loop
async def test_a_set_that_a_library_stumbles_over_costs_no_keys(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    with key_set_server(web_key(RSA, "r")) as server:
        remote = RemoteKeys(server.url, interval_s=60, clock=clock)
        await remote.start()

        def stumble(raw: bytes) -> None:
            raise KeyError("crv")

        monkeypatch.setattr("catenary.adapters.jwks.from_key_set", stumble)
        clock.now_s += MIN_INTERVAL_S
        await remote.refresh()
        await remote.close(1)
    assert names(remote) == ["r"]
    assert "KeyError" in caplog.text


@in_loop
async def test_a_user_in_the_url_asks_and_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with key_set_server(web_key(RSA, "r")) as server:
        url = server.url.replace("//", "//me:p%40ss@")
        remote = RemoteKeys(url, interval_s=60)
        await remote.start()
        await remote.close(1)
        assert names(remote) == ["r"]
        assert server.authorization == "Basic bWU6cEBzcw=="
    away = RemoteKeys(f"http://me:battery@127.0.0.1:{free_port()}/", interval_s=60)
    await away.start()
    await away.close(1)
    assert "Fetching token keys failed" in caplog.text
    assert "battery" not in caplog.text
    with pytest.raises(ConfigError, match="jwt_jwks_url: expected"):
        RemoteKeys("http://u:hush@h:x", interval_s=60)


@in_loop
async def test_an_issuer_that_is_away_for_long_costs_few_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("catenary.adapters.jwks.MIN_INTERVAL_S", 0)
    remote = RemoteKeys(f"http://127.0.0.1:{free_port()}/", interval_s=60)
    await remote.start()
    for _ in range(19):
        await remote.refresh()
    await remote.close(1)
    assert caplog.text.count("Fetching token keys failed") == 3, "numbers 1, 8 and 16"
