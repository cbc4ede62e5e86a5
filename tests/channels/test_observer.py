"""An author's observer: methods that it lacks do nothing, and none of its exceptions reaches the server."""

import logging
from typing import Any
from unittest.mock import Mock

import pytest

from catenary import Observer, ports
from catenary.channels.observer import GuardedObserver

METHODS = [name for name in vars(ports.Observer) if not name.startswith("_")]


def test_an_observer_need_not_have_any_method() -> None:
    guarded = GuardedObserver(Observer())
    for name in METHODS:
        arguments: dict[str, Any] = {"is_resumed": True} if name == "connected" else {}
        getattr(guarded, name)(*[None] * ARITY.get(name, 2), **arguments)


ARITY = {
    "connected": 1,
    "delivered": 3,
    "opened": 1,
    "published": 1,
    "presence_changed": 1,
    **dict.fromkeys(("closed", "failed", "performed", "rejected"), 3),
    **dict.fromkeys(("request_refused", "subscription_rejected"), 3),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_called_and_its_exceptions_are_logged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    method = Mock(side_effect=LookupError("own fault"), __qualname__=f"Mine.{name}")
    observer = Observer()
    setattr(observer, name, method)
    with caplog.at_level(logging.ERROR):
        getattr(GuardedObserver(observer), name)("a", key="b")
    method.assert_called_once_with("a", key="b")
    (record,) = caplog.records
    assert record.getMessage() == f"The observer failed in Mine.{name}"
