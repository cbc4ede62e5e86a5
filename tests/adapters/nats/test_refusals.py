"""Permanent refusals of NATS, of one publication or of a batch, are not taken for outages."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from catenary.adapters.nats.jetstream import read_ack
from catenary.adapters.nats.subjects import token
from catenary.broker.limits import Limits
from catenary.errors import BackendError, BackendRefused, TooLarge
from catenary.messages.names import Stream
from catenary.messages.publications import Publication
from tests.parts.heart import in_loop
from tests.parts.nats import NatsServer, nats_server
from tests.parts.nats_node import LIMITS, NatsNode, jetstream_server, nats_node, until

S, BAD = Stream("s"), Stream("bad")


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with jetstream_server() as running:
        yield running


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[NatsServer]:
    """A server whose user may publish on every stream but BAD."""
    file = tmp_path / "nats.conf"
    denied = [f"test.between.*.*.{token(BAD)}", f"test.between.*.{token(BAD)}"]
    names = ", ".join(f'"{each}"' for each in denied)
    file.write_text(
        "authorization: { users: [ { user: node, password: secret, permissions: "
        f'{{ publish: {{ allow: ">", deny: [{names}] }}, subscribe: ">" }} }} ] }}'
    )
    with nats_server("-c", str(file), store_dir=tmp_path / "store") as running:
        yield running


def login(server: NatsServer) -> str:
    return f"nats://node:secret@127.0.0.1:{server.port}"


def said(stream: Stream, *data: str, transient: bool = False) -> Sequence[Publication]:
    return [Publication(stream, each, transient=transient) for each in data]


async def refusal(node: NatsNode, *publications: Publication) -> BackendError:
    sent = node.pubsub.send(publications)
    assert sent is not None
    with pytest.raises(BackendError) as caught:
        await sent
    return caught.value


@pytest.mark.parametrize("limits", [None, LIMITS])
@in_loop
async def test_missing_permissions_are_known_at_once(
    strict: NatsServer, limits: Limits | None
) -> None:
    async with nats_node(strict, limits, url=login(strict)) as node:
        await node.listen([S, BAD])
        async with asyncio.timeout(3):
            for transient in (False, True):
                error = await refusal(node, *said(BAD, "1", transient=transient))
                assert isinstance(error, BackendRefused)
                assert "may not publish" in str(error)
            # Others are not held up, nor taken for refused, in the same moment as it.
            refused = node.pubsub.send(tuple(said(BAD, "2")))
            await node.publish(S, "next")
            with pytest.raises(BackendRefused):
                await refused  # type: ignore[misc]
        await until(lambda: node.data(S) == ["next"])
        assert node.data(BAD) == []
        assert node.restored == 0


@in_loop
async def test_a_jetstream_stream_with_a_message_limit(server: NatsServer) -> None:
    async with nats_node(server) as node:
        name = node.engine.kept().name
        reply = await node.engine.kept()._call(f"STREAM.INFO.{name}", {})
        config = {**reply.config, "max_msg_size": 1_000}
        changed = await node.engine.kept()._call(f"STREAM.UPDATE.{name}", config)
        assert changed.error is None
        # A node that was there before learns it from JetStream, another one when it begins.
        assert isinstance(await refusal(node, *said(S, "x" * 2_000)), TooLarge)
        async with nats_node(server) as other:
            await other.listen([S])
            batch = (*said(S, "1"), *said(S, "x" * 2_000), *said(S, "3"))
            assert isinstance(await refusal(other, *batch), TooLarge)
            await other.publish(S, "next")
            await until(lambda: other.data(S) == ["next"])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            b'{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}',
            TooLarge,
        ),
        (
            b'{"code":400,"err_code":10109,"description":"invalid operation on sealed stream"}',
            BackendRefused,
        ),
        (
            b'{"code":400,"err_code":10002,"description":"resource limits exceeded for account"}',
            BackendError,
        ),
        (b'{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}', BackendError),
        (
            b'{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}',
            BackendError,
        ),
    ],
)
def test_errors_of_jetstream_are_permanent_or_not(error: bytes, kind: type[BackendError]) -> None:
    with pytest.raises(BackendError) as caught:
        read_ack(b'{"error":%b,"stream":"S","seq":0}' % error)
    assert type(caught.value) is kind
