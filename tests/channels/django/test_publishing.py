"""Publications in a transaction are sent after its commit."""

from typing import Any

import pytest
from django.db import connections, transaction
from django.test import override_settings

from catenary import Cable
from catenary.channels.django.cable import in_django
from catenary.channels.django.configuration import secret
from catenary.channels.publishers.http import HttpPublisher
from catenary.errors import BackendError
from tests.channels.django.project.models import Room


class Recorder:
    """Satisfies Publisher."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.fails = False

    def publish(self, raw: bytes) -> None:
        if self.fails:
            raise BackendError("away")
        self.published.append(raw)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def cable(recorder: Recorder) -> Cable:
    arguments: dict[str, Any] = {**in_django(), "publisher": recorder}
    return Cable(channels=[], **arguments)


def test_publications_are_sent_in_order_after_the_commit(cable: Cable, recorder: Recorder) -> None:
    with transaction.atomic():
        cable.broadcast("news", 1)
        with transaction.atomic():
            cable.broadcast("news", 2)
        Room.objects.create(name="den")
        assert recorder.published == []
    assert recorder.published == [
        b'{"stream":"news","data":"1"}',
        b'{"stream":"news","data":"2"}',
    ]


def test_publications_of_a_rolled_back_transaction_are_never_sent(
    cable: Cable, recorder: Recorder
) -> None:
    with transaction.atomic():
        cable.broadcast("news", "kept")
        with transaction.atomic():
            cable.broadcast("news", "of a savepoint")
            transaction.set_rollback(True)
    with transaction.atomic():
        cable.broadcast("news", "of a transaction")
        transaction.set_rollback(True)
    assert recorder.published == [b'{"stream":"news","data":"\\"kept\\""}']


def test_publishing_outside_a_transaction_does_not_use_the_database(
    cable: Cable, recorder: Recorder
) -> None:
    connections.close_all()
    cable.broadcast("news", 1)
    assert len(recorder.published) == 1
    assert connections["default"].connection is None


def test_a_failed_publication_after_the_commit_does_not_fail_the_request(
    cable: Cable, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.fails = True
    with transaction.atomic():
        Room.objects.create(name="den")
        cable.broadcast("news", 1)
    assert Room.objects.count() == 1
    assert "away" in caplog.text
    with pytest.raises(BackendError):
        cable.broadcast("news", 1)


def test_publisher_and_api_url_come_from_the_settings() -> None:
    given = {"PUBLISHER": "http://localhost:1/_broadcast", "API_URL": "http://localhost:1/api"}
    with override_settings(CATENARY=given):
        arguments = in_django()
    assert isinstance(arguments["publisher"], HttpPublisher)
    assert arguments["api_url"] == "http://localhost:1/api"


def test_the_secret_of_settings_environment_and_secret_key_in_this_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ANYCABLE_SECRET", raising=False)
    derived = secret()
    assert len(derived) == 64
    with override_settings(SECRET_KEY="another"):
        assert secret() != derived
    monkeypatch.setenv("ANYCABLE_SECRET", "of the environment")
    assert secret() == "of the environment"
    with override_settings(CATENARY={"SECRET": "of the settings"}):
        assert secret() == "of the settings"
