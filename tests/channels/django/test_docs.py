"""docs/django.md: its files in a new Django project, served with its commands."""

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.parts import guide
from tests.parts.cable_client import CableClient, confirmed, identifier
from tests.parts.server import cable_server

PAGES = """
from django.contrib.auth import get_user_model, login
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import path
from orders.models import Order
from orders.views import place


def enter(request):
    user, _ = get_user_model().objects.get_or_create(username="ann")
    login(request, user)
    return HttpResponse()


def orders(request):
    return render(request, "orders/list.html", {"orders": Order.objects.all()})


urlpatterns = [path("enter", enter), path("orders", orders), path("place", place)]
"""
MANAGE = (sys.executable, "-W", "error", "manage.py")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the files of the guide."""
    written = guide.write("django", tmp_path_factory.mktemp("guide"))
    begun = tmp_path_factory.mktemp("project")
    guide.run(begun, "-m", "django", "startproject", "shop", ".")
    settings = begun / "shop" / "settings.py"
    settings.write_text(settings.read_text() + (written / "shop" / "settings.py").read_text())
    (written / "shop" / "settings.py").unlink()
    for each in written.rglob("*.*"):
        path = begun / each.relative_to(written)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(each.read_text())
    (begun / "orders" / "__init__.py").touch()
    (begun / "shop" / "urls.py").write_text(PAGES)
    guide.run(begun, "manage.py", "migrate", "--run-syncdb", "--verbosity=0")
    return begun


def get(url: str, cookie: str = "") -> tuple[str, str]:
    """A page, and the cookies that come with it."""
    request = urllib.request.Request(url, headers={"Cookie": cookie})
    with urllib.request.urlopen(request, timeout=5) as answer:
        given = answer.headers.get_all("set-cookie") or []
        return answer.read().decode(), "; ".join(each.partition(";")[0] for each in given)


def test_the_shop_of_the_guide(project: Path) -> None:
    with cable_server("--asgi", command=(*MANAGE, "catenary"), directory=project) as server:
        pages = f"http://127.0.0.1:{server.port}"
        _, cookie = get(f"{pages}/enter")
        page, _ = get(f"{pages}/orders", cookie)
        (name,) = re.findall('signed-stream-name="(.*?)"', page)
        (token,) = re.findall('name="cable-token" content="(.*?)"', page)
        orders = identifier("Turbo::StreamsChannel", signed_stream_name=name)
        order = identifier("OrderChannel", id=1)
        with (
            CableClient(server.cable_url, headers={"Cookie": cookie}) as ann,
            CableClient(f"{server.cable_url}?jid={token}") as follower,
        ):
            for client in (ann, follower):
                client.receive_welcome()
            assert follower.subscribe(orders) == confirmed(orders)
            get(f"{pages}/place", cookie)
            put = follower.receive()["message"]
            assert put.startswith('<turbo-stream action="prepend" target="orders"><template>')
            assert '<li id="order_1">1: new</li>' in put

            assert ann.subscribe(order) == confirmed(order)
            ann.perform(order, "cancel")
            assert ann.receive()["message"] == {"status": "canceled"}
            replaced = follower.receive()["message"]
            assert replaced.startswith('<turbo-stream action="replace" target="order_1">')
            assert "canceled" in replaced
        assert "Traceback" not in server.output()


def test_the_secret_for_another_server(project: Path) -> None:
    text = (guide.ROOT / "docs" / "django.md").read_text()
    (command,) = re.findall(r'^python manage.py shell (.*) "(.*)"$', text, re.MULTILINE)
    done = subprocess.run(
        [*MANAGE, "shell", *command[0].split(), command[1]],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert re.fullmatch("[0-9a-f]{64}\n", done.stdout)


def test_the_tests_of_the_guide(project: Path) -> None:
    guide.run(project, "manage.py", "test", "--verbosity=0")
