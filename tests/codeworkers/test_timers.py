"""Timers of channels survive the code that declared them."""

from tests.parts.cable_client import delivered
from tests.parts.reloadable_server import CLOCK, ReloadableServer


def test_timers_continue_in_new_code(reloadable: ReloadableServer) -> None:
    reloadable.serve("--app_workers=2")
    jack = reloadable.client("jack", CLOCK)
    assert jack.receive() == delivered(CLOCK, [1, 1])
    reloadable.write(2)
    reloadable.reload()
    ticks = [jack.receive()["message"]]
    while ticks[-1][1] == 1:
        ticks.append(jack.receive()["message"])
    ticks += [jack.receive()["message"] for _ in range(2)]
    assert [tick for tick, _ in ticks] == list(range(2, len(ticks) + 2))
