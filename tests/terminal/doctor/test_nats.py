"""NATS: reachable, with permissions, and with JetStream where histories are stored."""

import json
from pathlib import Path

from catenary.terminal.doctor.findings import Finding
from catenary.terminal.doctor.nats import check_nats
from tests.parts.nats import nats_server
from tests.parts.ports import free_port
from tests.terminal.doctor import bad, reached, shown

BACK = ("ok", "a message that was published came back")


def checked(url: str, *flags: str) -> list[Finding]:
    return reached(check_nats, f"--nats_servers={url}", *flags)


def test_a_server_without_nats_or_with_its_own() -> None:
    assert checked("nats://127.0.0.1:1", "--broadcast_adapter=http") == []
    assert reached(check_nats, "--embed_nats", "--pubsub=nats") == []


def test_jetstream(tmp_path: Path) -> None:
    with nats_server() as plain:
        found = checked(plain.url, "--pubsub=nats")
        assert BACK in shown(found)
        assert bad(found) == []
        (finding,) = bad(checked(plain.url, "--broker=nats"))
        assert (finding.level, finding.text) == (
            "problem",
            "JetStream does not answer: is it enabled?",
        )
    with nats_server(store_dir=tmp_path) as storing:
        assert ("ok", "JetStream answers") in shown(checked(storing.url, "--broker=nats"))


def test_servers_that_are_away() -> None:
    away = f"nats://user:s3cret@127.0.0.1:{free_port()}"
    (finding,) = bad(checked(away, "--pubsub=nats"))
    assert finding.level == "problem"
    assert "s3cret" not in finding.text
    with nats_server() as server:
        (finding,) = bad(checked(f"{away},{server.url}", "--pubsub=nats"))
        assert finding.level == "warning"


def test_permissions(tmp_path: Path) -> None:
    users = [
        {"user": "all", "password": "s3cret"},
        {"user": "few", "password": "s3cret", "permissions": {"publish": "elsewhere"}},
    ]
    configuration = tmp_path / "nats.conf"
    configuration.write_text(json.dumps({"authorization": {"users": users}}))
    with nats_server("-c", str(configuration)) as server:
        for user, problems in (("all", []), ("few", ["problem"]), ("nobody", ["problem"])):
            url = server.url.replace("//", f"//{user}:s3cret@")
            found = bad(checked(url, "--pubsub=nats"))
            assert [each.level for each in found] == problems, found
            assert all("s3cret" not in each.text for each in found)
