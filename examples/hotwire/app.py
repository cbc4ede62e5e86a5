"""A list that is the same on all pages: Hotwire, with Flask instead of Rails.

Flask renders all HTML, for the page and for its changes. Changes are published as Turbo Streams to the
server, which holds the browsers' connections.
"""

import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from flask import Flask, abort, redirect, render_template, request, send_from_directory, url_for
from werkzeug.wrappers import Response

from catenary import Cable
from catenary.channels.html import action_cable_meta_tag
from catenary.channels.publishers import publisher

HERE = Path(__file__).parent
SECRET = os.environ.get("ANYCABLE_SECRET", "change-me")
BROADCAST_URL = os.environ.get("ANYCABLE_HTTP_BROADCAST_URL", "http://localhost:8080/_broadcast")
CABLE_URL = os.environ.get("ANYCABLE_WEBSOCKET_URL", "ws://localhost:8080/cable")
TURBO_STREAM = "text/vnd.turbo-stream.html"

cable = Cable(channels=[], secret=SECRET, publisher=publisher(BROADCAST_URL, secret=SECRET))
app = Flask(__name__)


@dataclass
class Item:
    id: int
    text: str
    is_done: bool = False


ids = count(1)
items: dict[int, Item] = {}  # instead of a database


@app.context_processor
def tags() -> dict[str, Any]:
    return {
        "cable_tag": action_cable_meta_tag(CABLE_URL),
        "turbo_stream_from": cable.turbo_stream_from,
    }


@app.get("/")
def index() -> str:
    return render_template("index.html", items=items.values())


@app.post("/items")
def add() -> str | Response:
    text = request.form.get("text", "").strip()
    if not text:
        abort(422)
    item = Item(next(ids), text)
    items[item.id] = item
    publish("append", "items", render_template("item.html", item=item))
    return answer(turbo_stream("replace", "new-item", render_template("form.html")))


@app.post("/items/<int:id>/done")
def toggle(id: int) -> str | Response:
    item = items.get(id) or abort(404)
    item.is_done = not item.is_done
    publish("replace", f"item-{id}", render_template("item.html", item=item))
    return answer("")


@app.post("/items/<int:id>/delete")
def delete(id: int) -> str | Response:
    items.pop(id, None)
    publish("remove", f"item-{id}")
    return answer("")


def turbo_stream(action: str, target: str, html: str = "") -> str:
    return render_template("turbo_stream.html", action=action, target=target, html=html)


def publish(action: str, target: str, html: str = "") -> None:
    """Publishes a change to all open pages, the sender's too."""
    cable.broadcast("items", turbo_stream(action, target, html))


def answer(html: str) -> str | Response:
    """The response for Turbo; a browser without scripts is redirected to the page."""
    if TURBO_STREAM not in request.accept_mimetypes.values():
        return redirect(url_for("index"), 303)
    return app.response_class(html, mimetype=TURBO_STREAM)


@app.get("/node_modules/<path:path>")
def script(path: str) -> Response:
    return send_from_directory(HERE / "node_modules", path)
