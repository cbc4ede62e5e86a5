"""The cable as a dependency of FastAPI endpoints."""

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from catenary.channels.cable import Cable


def get_cable(connection: HTTPConnection) -> Cable:
    """The cable that runs in this process. Raises RuntimeError if none does."""
    cable = getattr(connection.state, "cable", None)
    if not isinstance(cable, Cable):
        raise RuntimeError(  # noqa: TRY004  (there is none)
            "expected a cable, got none: give the application lifespan=cable.lifespan, or serve it"
            " with catenary app:cable --asgi app:api"
        )
    return cable


CableDep = Annotated[Cable, Depends(get_cable)]
"""The type of a parameter that FastAPI fills with the cable: ``cable: CableDep``."""
