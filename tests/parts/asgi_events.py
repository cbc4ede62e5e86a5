"""The response of an ASGI application that is called without a server."""

from typing import Any

from starlette.types import ASGIApp, Message


class Events:
    """Collects the events of one response."""

    def __init__(self) -> None:
        self.events: list[Message] = []

    async def send(self, event: Message) -> None:
        """Passed to the application."""
        self.events.append(event)

    async def request(self, app: ASGIApp, method: str, path: str, accept: str = "") -> None:
        """Calls the application with a request without a body; its only header is Accept, unless that is empty."""
        headers = [(b"accept", accept.encode())] if accept else []
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": headers}

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        await app(scope, receive, self.send)

    @property
    def status(self) -> int:
        """The status of the response."""
        status: int = self.events[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        return {name.decode(): value.decode() for name, value in self.events[0]["headers"]}

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(event.get("body", b"") for event in self.events[1:])
