"""The files of the console, read once from the package: with an ETag, and compressed.

Knows: files, HTTP. Does not know: who may read them.
"""

import gzip
import hashlib
from importlib.resources import files
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class _File(msgspec.Struct, frozen=True):
    content: bytes
    compressed: bytes
    etag: str
    media_type: str


class StaticFiles:
    """All files of ``pages/``; they are read at the first request."""

    __slots__ = ("_files",)

    def __init__(self) -> None:
        self._files: dict[str, _File] | None = None

    def response(self, request: Request, name: str) -> Response:
        """The file of a name, 304 if the browser has it already, 404 if there is none."""
        if self._files is None:
            self._files = _read_all()
        found = self._files.get(name)
        if found is None:
            return Response("Not found\n", 404, media_type="text/plain")
        # Browsers ask again each time, so that no page runs with the code of another version.
        headers = {"etag": found.etag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if found.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        content = found.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            content = found.compressed
        return Response(content, headers=headers, media_type=found.media_type)


def _read_all() -> dict[str, _File]:
    found = {}
    for each in files("catenary.console").joinpath("pages").iterdir():
        kind = _TYPES.get(each.name.rpartition(".")[2])
        if kind is not None:
            content = each.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            found[each.name] = _File(content, gzip.compress(content, mtime=0), etag, kind)
    return found
