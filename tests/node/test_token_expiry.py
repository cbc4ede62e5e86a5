"""Clients whose token expires while they are connected: one timer wheel for all of them."""

from catenary.messages.reasons import Reason
from catenary.metrics.counters import Counters
from catenary.node.token_expiry import CLOSED_AT_ONCE, TokenExpiry


class Client:
    """A session, as far as its token is concerned."""

    def __init__(self, expires_at: float | None) -> None:
        self.expires_at = expires_at
        self.closed = False
        self.reasons: list[Reason] = []

    def close(self, reason: Reason) -> None:
        self.closed = True
        self.reasons.append(reason)


class Watched:
    """``tick`` at a time closes those that are due."""

    def __init__(self, grace_s: float = 0) -> None:
        self.now = 0.0
        self.later: list[object] = []
        self.counters = Counters()
        self.expiry = TokenExpiry(grace_s, self.counters, lambda: self.now, self.later.append)

    def add(self, expires_at: float | None) -> Client:
        client = Client(expires_at)
        self.expiry.watch(client)  # type: ignore[arg-type]
        return client

    def tick(self, now: float) -> None:
        self.now = now
        self.expiry.tick()


def test_a_client_is_closed_after_the_grace_and_never_before() -> None:
    watched = Watched(grace_s=10)
    client = watched.add(100.0)
    watched.tick(109.9)
    assert not client.closed
    watched.tick(111.1)
    assert client.reasons == [Reason.TOKEN_EXPIRED]
    assert watched.counters.expired_tokens_total == 1


def test_a_client_without_a_token_is_not_watched() -> None:
    watched = Watched()
    client = watched.add(None)
    assert len(watched.expiry._wheel) == 0
    watched.expiry.forget(client)  # type: ignore[arg-type]


def test_a_client_that_left_is_forgotten() -> None:
    watched = Watched()
    client = watched.add(5.0)
    watched.expiry.forget(client)  # type: ignore[arg-type]
    assert len(watched.expiry._wheel) == 0
    watched.tick(100)
    assert not client.closed


def test_many_at_the_same_moment_are_closed_in_several_turns() -> None:
    watched = Watched()
    clients = [watched.add(5.0) for _ in range(CLOSED_AT_ONCE + 1)]
    watched.tick(10)
    assert sum(each.closed for each in clients) == CLOSED_AT_ONCE
    assert watched.later == [watched.expiry.tick]
    watched.tick(10)
    assert all(each.closed for each in clients)
