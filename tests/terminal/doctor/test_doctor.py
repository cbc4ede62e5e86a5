"""The whole tool, as it is typed."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

from catenary.cli import main
from tests.parts.ports import free_port
from tests.terminal.shell import PROGRAM, catenary, environment

SECRETS = ("s3cret-1", "s3cret-2", "s3cret-3", "s3cret-4", "s3cret-5")


def findings(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def ports() -> tuple[str, ...]:
    return (
        "--host=127.0.0.1",
        f"--port={free_port()}",
        f"--http_broadcast_port={free_port()}",
        "--broadcast_adapter=http",
    )


def test_a_server_that_would_work() -> None:
    done = catenary("doctor", "--norpc", "--secret", "s3cret-1", *ports())
    assert [each for each in findings(done) if each["level"] == "problem"] == []
    assert done.returncode == 0


def test_a_configuration_that_is_refused_is_the_only_finding() -> None:
    done = catenary("doctor", "--prot=8080")
    (finding,) = findings(done)
    assert (done.returncode, finding["level"]) == (1, "problem")
    assert "--prot" in finding["text"]
    assert "--port" in finding["text"]


def test_variables_and_the_file_count(tmp_path: Path) -> None:
    file = tmp_path / "anycable.toml"
    file.write_text("[server]\nmax_conn = 2000000000\n")
    done = catenary("doctor", f"--config-path={file}", *ports(), ANYCABLE_RPC_IMPL="none")
    problems = [each for each in findings(done) if each["level"] == "problem"]
    # The system may allow more files than that, or fewer.
    assert {each["check"] for each in problems} - {"system files"} == {"open files"}
    assert done.returncode == 1


def test_no_secret_is_printed() -> None:
    port = free_port()
    done = catenary(
        "doctor",
        *ports()[:3],
        "--broadcast_adapter=http,redis,nats",
        f"--redis_url=redis://u:{SECRETS[0]}@127.0.0.1:{port}",
        f"--nats_servers=nats://u:{SECRETS[1]}@127.0.0.1:{port}",
        f"--rpc_host=http://u:{SECRETS[2]}@127.0.0.1:{port}/_anycable",
        f"--jwt_jwks_url=http://u:{SECRETS[3]}@127.0.0.1:{port}/",
        f"--secret={SECRETS[4]}",
    )
    problems = [each["check"] for each in findings(done) if each["level"] == "problem"]
    assert problems == ["redis", "nats", "token keys", "application"]
    assert [secret for secret in SECRETS if secret in done.stdout] == []


def test_people_get_a_list(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [str(PROGRAM), "doctor", "--public", "--norpc", *ports()]
    with subprocess.Popen(
        words, stdout=theirs, env=environment(TERM="xterm"), cwd=tmp_path
    ) as shell:
        os.close(theirs)
        printed = b""
        try:
            while chunk := os.read(ours, 4096):
                printed += chunk
        except OSError:
            pass  # the other end is closed
    os.close(ours)
    text = printed.decode()
    assert shell.returncode == 0
    assert "\x1b[32m✓\x1b[0m configuration  complete, without a file" in text
    assert "\x1b[33m!\x1b[0m access         with --public, anyone may connect" in text
    assert "                 → leave it out in production" in text
    assert "no problems, " in text


def test_a_word_that_is_no_option_is_refused() -> None:
    assert main(["doctor", "now"]) == 1
