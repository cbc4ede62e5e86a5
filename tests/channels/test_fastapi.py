"""The cable as a dependency of FastAPI."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from catenary import Cable
from catenary.channels.fastapi import CableDep, get_cable
from tests.channels.chat import chat


def naming(app: FastAPI) -> FastAPI:
    @app.get("/")
    async def names(cable: CableDep) -> list[str]:
        return [each.channel_name for each in cable.channels]

    return app


def test_endpoints_get_the_running_cable() -> None:
    with TestClient(naming(FastAPI(lifespan=chat().lifespan))) as client:
        assert client.get("/").json() == ["LogChannel", "RoomChannel"]


def test_the_cable_can_be_overridden_in_tests() -> None:
    app = naming(FastAPI())

    def another() -> Cable:
        return chat()

    app.dependency_overrides[get_cable] = another
    assert TestClient(app).get("/").json() == ["LogChannel", "RoomChannel"]


def test_the_error_without_a_cable_names_the_remedy() -> None:
    with pytest.raises(RuntimeError, match=r"give the application lifespan=cable\.lifespan"):
        TestClient(naming(FastAPI())).get("/")
