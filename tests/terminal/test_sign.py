"""``catenary sign``; that a server accepts its names is in test_tokens.py."""

import json

from catenary.channels.cable import Cable
from tests.parts.tokens import SECRET, signed_name
from tests.terminal.shell import catenary


def test_names_are_signed_as_applications_sign_them() -> None:
    def signed(*words: str, **variables: str) -> str:
        return catenary("sign", *words, **variables).stdout.strip()

    assert signed("chat/1", ANYCABLE_SECRET=SECRET) == signed_name("chat/1")
    assert signed("chat/1", ANYCABLE_STREAMS_SECRET=SECRET) == signed_name("chat/1")
    assert signed("a", "--turbo", "--key=t", ANYCABLE_SECRET=SECRET) == signed_name("a", "t")
    assert signed("a", "--cable-ready", ANYCABLE_CABLE_READY_SECRET="c") == signed_name("a", "c")
    write = Cable(channels=(), secret=SECRET).signed_stream_name("a", write=True)
    assert signed("a", "--write", ANYCABLE_SECRET=SECRET) == write != signed_name("a")
    for flags, expected in (
        ((), {"channel": "$pubsub", "signed_stream_name": signed_name("a")}),
        (
            ("--turbo",),
            {"channel": "Turbo::StreamsChannel", "signed_stream_name": signed_name("a")},
        ),
        (("--cable-ready",), {"channel": "CableReady::Stream", "identifier": signed_name("a")}),
    ):
        assert json.loads(signed("a", "--identifier", *flags, f"--secret={SECRET}")) == expected
