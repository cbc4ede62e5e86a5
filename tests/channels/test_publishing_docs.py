"""The guide to publishing: its files, with a server that has what they ask for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.cable_client import CableClient, identifier
from tests.parts.guide import run, write
from tests.parts.server import CableServer, cable_server

SECRET = "s3cret"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files of the guide."""
    return write("publishing", tmp_path_factory.mktemp("publishing"))


@pytest.fixture(scope="module")
def server() -> Iterator[CableServer]:
    flags = ("--norpc", "--public_streams", f"--secret={SECRET}", "--turbo_streams")
    with cable_server(*flags, "--broker=memory", "--broadcast_adapter=http") as server:
        yield server


@pytest.fixture
def variables(server: CableServer) -> dict[str, str]:
    """Those that a job has."""
    return {
        **os.environ,
        "ANYCABLE_BROADCAST_ADAPTER": "http",
        "ANYCABLE_HTTP_BROADCAST_URL": server.broadcast_url,
        "ANYCABLE_SECRET": SECRET,
        "ANYCABLE_API_URL": f"http://127.0.0.1:{server.port}/api",
    }


def test_every_file_can_be_imported(written: Path) -> None:
    names = [path.stem for path in written.glob("*.py")]
    assert {"jobs", "places", "transactions", "reading", "pages"} == set(names)
    run(written, "-c", "import " + ", ".join(names))


def test_publications_are_received_and_stored(
    written: Path, server: CableServer, variables: dict[str, str]
) -> None:
    run(written, "-c", "import jobs; jobs.order_paid(1); jobs.cable.release()", env=variables)
    code = """
import transactions
from reading import room_now

transactions.cable.broadcast("orders/1", "later")
assert room_now("orders/1") == ([], [{"state": "paid"}])
transactions.commit()
assert room_now("orders/1") == ([], [{"state": "paid"}, "later"])
transactions.cable.release()
"""
    run(written, "-c", code, env=variables)


def test_clients_connect_with_the_tags_of_pages(written: Path, server: CableServer) -> None:
    code = """
import pathlib, pages
pathlib.Path("page").write_text("|".join((pages.head(7), pages.body(1), pages.for_scripts(1))))
"""
    run(written, "-c", code)
    head, body, signed = (written / "page").read_text().split("|")
    token = head.partition('name="cable-token" content="')[2].partition('"')[0]
    with CableClient(f"{server.cable_url}?jid={token}") as client:
        client.receive_welcome()
        turbo = body.partition('signed-stream-name="')[2].partition('"')[0]
        for channel, name in (("Turbo::StreamsChannel", turbo), ("$pubsub", signed)):
            asked = identifier(channel, signed_stream_name=name)
            assert client.subscribe(asked)["type"] == "confirm_subscription"
