"""The page of the dashboard, and the signed names of its streams: there is no channel.

Each machine publishes to its own stream. The page gets the signed names of the streams that it may see,
and subscribes to them; the server checks the signatures without a call to the application.
"""

import time
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from catenary import Cable

HERE = Path(__file__).parent
MACHINES = ("ant", "bee", "cow", "dog", "eel", "fox")
HISTORY_S = 300

cable = Cable(channels=[])


async def page(request: Request) -> FileResponse:
    return FileResponse(HERE / "index.html")


async def streams(request: Request) -> JSONResponse:
    """The signed streams; ``since`` is by the server's clock, which may differ from the browser's."""
    signed = {name: cable.signed_stream_name(f"machines/{name}") for name in MACHINES}
    return JSONResponse({"since": int(time.time()) - HISTORY_S, "streams": signed})


web = Starlette(
    routes=[
        Route("/", page),
        Route("/streams", streams),
        Mount("/node_modules", StaticFiles(directory=HERE / "node_modules")),
    ]
)
