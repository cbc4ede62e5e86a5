"""New values for a running server: which parts apply them."""

import functools

import pytest

from catenary.config.effective import effective
from catenary.config.options import Options
from catenary.server.reloads import RELOADABLE, Reloads, Settings


def test_a_part_applies_the_options_that_concern_it() -> None:
    reloads, applied = Reloads(), list[int]()
    reloads.add(
        ("limits.max_streams",),
        lambda new: functools.partial(applied.append, new.options.limits.max_streams),
    )
    settings = Settings(effective(Options()))
    assert reloads.prepare(settings, {"log.level"}) == []
    (apply,) = reloads.prepare(settings, {"limits.max_streams"})
    assert applied == []
    apply()
    assert applied == [65536]


def test_an_option_that_needs_a_restart_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got \['server.port'\]"):
        Reloads().add(("server.port",), lambda new: lambda: None)


def test_options_that_are_said_to_be_reloadable_exist() -> None:
    assert "limits.max_streams" in RELOADABLE
