"""A server that receives webhooks, on a thread of its own, and may fail or hang."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Webhook:
    """A request; names of ``headers`` are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = json.loads(self.body)["events"]
        return events


class WebhookReceiver:
    """The requests so far, in ``received``; those that it answers otherwise than with 200 are in ``refused``."""

    def __init__(self) -> None:
        self.received: list[Webhook] = []
        self.refused: list[Webhook] = []
        self.status = 200
        self.is_hanging = False
        self._changed = threading.Condition(threading.RLock())
        self._released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver._take(Webhook(self.path, headers, body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def events(self, path: str = "") -> list[dict[str, Any]]:
        """Every event that was received, of one path or all, in order."""
        with self._changed:
            return [
                event
                for webhook in self.received
                if path in ("", webhook.path)
                for event in webhook.events
            ]

    def wait_until(
        self, holds: Callable[[list[dict[str, Any]]], bool], timeout_s: float = 20
    ) -> list[dict[str, Any]]:
        """Waits until this holds for all events; returns them. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not holds(self.events()):
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    raise TimeoutError(f"got {self.events()}, refused {len(self.refused)}")
            return self.events()

    def wait_for(self, number: int, timeout_s: float = 20) -> list[dict[str, Any]]:
        """Waits for so many events."""
        return self.wait_until(lambda events: len(events) >= number, timeout_s)

    def wait_for_refused(self, number: int, timeout_s: float = 20) -> None:
        """Waits until so many requests were refused, or hang."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.refused) >= number, timeout_s)

    def _take(self, webhook: Webhook) -> int:
        with self._changed:
            status, is_hanging = self.status, self.is_hanging
            is_taken = 200 <= status < 300 and not is_hanging
            (self.received if is_taken else self.refused).append(webhook)
            self._changed.notify_all()
        if is_hanging:
            self._released.wait()
        return status


@contextmanager
def webhook_receiver() -> Iterator[WebhookReceiver]:
    """A receiver for the length of a with block."""
    receiver = WebhookReceiver()
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()
