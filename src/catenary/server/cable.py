"""The cable as applications import it: :class:`catenary.channels.cable.Cable`, which can also be mounted in other
ASGI servers. The server is imported only when it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from catenary.channels import cable
from catenary.errors import ConfigError

if TYPE_CHECKING:
    from catenary.server.mounted import Mounted


class Cable(cable.Cable):
    """An application: its connection class and its channels."""

    _mounted: "Mounted | None" = None

    def asgi(self, **options: object) -> "Mounted":
        """An ASGI application that serves the cable's clients; it can be mounted anywhere, once.

        ``options`` are the server's, by the names of their flags, as in ``asgi(broker="memory", secret="…")``; they
        override ``ANYCABLE_*`` of the environment. A second call without options returns the same application. Raises
        :class:`ConfigError`.
        """
        if self._mounted is None:
            from catenary.server.mounted import Mounted

            self._mounted = Mounted(self, options)
        elif options:
            raise ConfigError("expected one asgi() with options for this cable, got a second")
        return self._mounted

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the mounted cable inside the block, and disconnects its clients at the end. Raises
        :class:`ConfigError`."""
        async with self.asgi().running():
            yield

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[dict[str, Any]]:
        """The same as a lifespan for Starlette or FastAPI; requests have the cable in their state."""
        async with self.running():
            yield {"cable": self}
