"""The cable as applications import it: :class:`catenary.channels.cable.Cable`, and a way into
other ASGI servers. What that needs is loaded when it is asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from catenary.channels import cable
from catenary.errors import ConfigError

if TYPE_CHECKING:
    from catenary.server.mounted import Mounted


class Cable(cable.Cable):
    """An application: who may connect, and the channels there are."""

    _mounted: "Mounted | None" = None

    def asgi(self, **options: object) -> "Mounted":
        """An ASGI application that serves the cable's clients, to be mounted anywhere, once.

        ``options`` are those of the server by the names of their flags, as in
        ``asgi(broker="memory", secret="…")``, above ``ANYCABLE_*`` of the environment. Asked again
        without options, it returns the same. Raises :class:`ConfigError`.
        """
        if self._mounted is None:
            from catenary.server.mounted import Mounted

            self._mounted = Mounted(self, options)
        elif options:
            raise ConfigError("expected one asgi() with options for this cable, got a second")
        return self._mounted

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The mounted cable runs within, and its clients are gone behind it. Raises
        :class:`ConfigError`."""
        async with self.asgi().running():
            yield

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[dict[str, Any]]:
        """The same as the lifespan of a Starlette or FastAPI application, whose requests find the
        cable in their state."""
        async with self.running():
            yield {"cable": self}
