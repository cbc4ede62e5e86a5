"""The bodies of requests that wait for room in the server's windows (RFC 9113, section 6.9).

Knows: windows, DATA frames. Does not know: header blocks, responses.
"""

from heapq import heapify, heappop, heappush
from typing import Final

from catenary.wire.http2_frames import (
    DATA,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    MIN_FRAME_BYTES,
    Http2Error,
    frame,
)

DEFAULT_WINDOW_BYTES: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1


class _Upload:
    """The unsent rest of a request's body; ``is_sendable`` while the stream's window has room."""

    __slots__ = ("is_sendable", "rest", "window")

    def __init__(self, body: bytes, window: int) -> None:
        self.rest = memoryview(body)
        self.window = window
        self.is_sendable = False


class Uploads:
    """Sends bodies to ``out``, as frames.

    ``window`` is that of the connection, ``initial_window`` that of a new stream: a caller that sends a body itself takes its
    size from ``window``.
    """

    __slots__ = ("_out", "_sendable", "_waiting", "initial_window", "max_frame_bytes", "window")

    def __init__(self, out: list[bytes]) -> None:
        self._out = out
        self._waiting: dict[int, _Upload] = {}
        self._sendable: list[int] = []
        """A heap of streams with unsent data and room in their windows; some may have ended."""
        self.window = DEFAULT_WINDOW_BYTES
        self.initial_window = DEFAULT_WINDOW_BYTES
        self.max_frame_bytes = MIN_FRAME_BYTES

    def __contains__(self, stream_id: int) -> bool:
        """Whether a part of a request's body waits."""
        return stream_id in self._waiting

    def begin(self, stream_id: int, body: bytes) -> None:
        """Adds the body of a request; :meth:`send` sends it."""
        upload = self._waiting[stream_id] = _Upload(body, self.initial_window)
        self._update_sendable(stream_id, upload)

    def forget(self, stream_id: int) -> None:
        """Removes the body of a request that has ended, if it waits."""
        if self._waiting.pop(stream_id, None) and len(self._sendable) > 2 * len(self._waiting):
            # As many have ended as are left, so the total cost is linear.
            self._sendable = [each for each in self._sendable if each in self._waiting]
            heapify(self._sendable)

    def extend(self, stream_id: int, more: int) -> None:
        """Extends the window of a request, or that of the connection, which is number 0. Raises Http2Error."""
        if not stream_id:
            self.window += more
            _check_window(self.window)
            return
        upload = self._waiting.get(stream_id)
        if upload is not None:
            upload.window += more
            _check_window(upload.window)
            self._update_sendable(stream_id, upload)

    def set_initial_window(self, size: int) -> None:
        """Changes the windows of all requests (section 6.9.2). Raises Http2Error."""
        _check_window(size)
        if size == self.initial_window:
            return
        for stream_id, upload in self._waiting.items():
            upload.window += size - self.initial_window
            _check_window(upload.window)
            self._update_sendable(stream_id, upload)
        self.initial_window = size

    def send(self) -> bool:
        """Sends as much as the windows allow, of the oldest request first; returns whether that was anything.

        Skips requests whose stream has no room, because a server may open the windows one by one.
        """
        before = self.window
        while self._sendable and self.window > 0:
            stream_id = self._sendable[0]
            upload = self._waiting.get(stream_id)
            if upload is not None:
                self._send_body(stream_id, upload)
                if not upload.rest:
                    del self._waiting[stream_id]
                elif upload.window > 0:
                    break
                upload.is_sendable = False
            heappop(self._sendable)
        return self.window < before

    def _send_body(self, stream_id: int, upload: _Upload) -> None:
        while upload.rest and (room := min(self.window, upload.window)) > 0:
            piece = upload.rest[: min(room, self.max_frame_bytes)]
            upload.rest = upload.rest[len(piece) :]
            upload.window -= len(piece)
            self.window -= len(piece)
            flags = 0 if upload.rest else END_STREAM
            self._out.append(frame(DATA, flags, stream_id, bytes(piece)))

    def _update_sendable(self, stream_id: int, upload: _Upload) -> None:
        if upload.window > 0 and not upload.is_sendable:
            upload.is_sendable = True
            heappush(self._sendable, stream_id)


def _check_window(size: int) -> None:
    if size > MAX_WINDOW:
        raise Http2Error(FLOW_CONTROL_ERROR, f"expected windows of 31 bits, got {size}")
