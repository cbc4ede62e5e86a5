"""How tools end: exit statuses, and errors of one line without secrets."""

import os

import pytest

from catenary.cli import main
from tests.terminal.shell import SECRET


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("ANYCABLE_", "PORT")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (("publish",), 2, "the following arguments are required: STREAM"),
        (("publish", "s", "x", "--ulr=x"), 2, "unknown option --ulr; did you mean --url?"),
        (("publish", "s", "x", "y"), 2, "unexpected word 'y' (see catenary publish --help)"),
        (("publish", "s", "--url"), 2, "catenary publish: --url: expected one argument"),
        (("bench", "sing"), 2, "expected one of connect, fanout, echo, resume, got 'sing'"),
        (("bench", "fanot"), 2, "got 'fanot'; did you mean fanout?"),
        (("bench", "--clients=0"), 2, "expected a whole number above 0, got '0'"),
        (("bench", "--rate=fast"), 2, "expected a number above 0, got 'fast'"),
        (("bench", "echo", "--action=", "--clients=3"), 1, "--clients: expected pairs"),
        (("bench", "--channel=Chat"), 1, "--channel: expected its --stream"),
        (("bench", "--clients=99999999"), 1, "--clients: expected at most"),
        (("history", "s", "--since=soon"), 2, "expected a time such as 90, 5m or 2h, got 'soon'"),
        (("subscribe",), 1, "expected a channel, or --stream=NAME, got neither"),
        (("subscribe", "Chat", "id"), 1, "expected name=value or a JSON object, got 'id'"),
        (("subscribe", "Chat", "--stream=s"), 1, "expected a channel or a stream, got both: Chat"),
        (("subscribe", "{broken"), 1, "expected a JSON object, got '{broken'"),
        (("subscribe", "Chat", "--url=redis://x"), 1, "expected a URL such as ws://"),
        (("subscribe", "Chat", "--header=nothing"), 2, "expected a header such as"),
        (("publish", "s", "x", "--lines"), 1, "--lines: expected the data on standard input"),
        (("publish", "s", "x", "--url=redis://x"), 1, "expected the URL of broadcasts"),
        (("publish", "s", "x", "--url=http://h:x"), 1, "expected the URL of broadcasts"),
        (("presence", "\udcff"), 1, "expected text in UTF-8"),
        (("presence", "s", "--url=http://h:x"), 1, "got a port that is not from 1 to 65535"),
        (("bench", "--jwt=a, b"), 2, "expected a token, got something else"),
        (("presence", "s", "--url=x"), 1, "--url: expected the URL of an API"),
        (("token",), 1, "expected a secret from --secret"),
        (("sign", "s", "--turbo"), 1, "expected a secret from --secret"),
        (("sign", "s", "--config-path=/nowhere"), 1, "--config-path: expected a file"),
        (("completion", "tcsh"), 2, "expected one of bash, zsh, fish, got 'tcsh'"),
        (
            ("publish", "s", "x", "--url=http://h:1/b"),
            1,
            "no server accepts broadcasts at http://h:1",
        ),
    ],
)
def test_what_can_not_be_done_is_told_in_one_line(
    words: tuple[str, ...], status: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status
    said = capsys.readouterr()
    assert expected in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_secrets_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("publish", "s", "x"), ("presence", "s"), ("subscribe", "--stream=s")):
        for flag in (f"--secret={SECRET}", f"--key={SECRET}"):
            assert main((*words, flag, "--url=http://127.0.0.1:1/x")) == 1
            said = capsys.readouterr()
            assert said.err.startswith(f"catenary {words[0]}: ")
            assert SECRET not in said.out + said.err
