"""Every exception of Catenary.

    CatenaryError
    ├── ConfigError            a wrong option, file or variable: the start stops, one line says why
    │   ├── MissingExtra       an optional library is not installed: names the install command
    │   ├── UnexpectedWord     a word among the flags that is none
    │   └── ImportFailed       the application's module has raised an exception at its import
    ├── RequestRefused         an HTTP request that is not served; carries the status of the answer
    ├── ProtocolError          what a peer sent breaks a protocol; carries a close code
    │   ├── FrameError         RFC 6455 frames
    │   └── CommandError       a client's message that is no command
    ├── PublicationError       what a publisher sent is no publication
    │   └── RateExceeded       a stream has used up its rate
    ├── AppError               the application behind us
    │   ├── AppUnavailable     it can't be reached, or did not answer in time
    │   │   └── AppNotReached  it did not get the call, which may be made again
    │   └── AppFailed          it answered with an error of its own
    ├── NotKept                no broker keeps what was asked for
    ├── LostPosition           a history does not reach back to what was asked for
    ├── BackendError           Redis, NATS: something beside us is away
    │   ├── BackendRefused     it refuses for good: a repetition can't change its answer
    │   │   └── TooLarge       it takes nothing of that size
    │   └── NotCaughtUp        the node may not have received all remote disconnects yet
    └── ServerEnded            what the server can't go on without has ended by itself

Knows: names. Does not know: who raises or catches them.
"""

import json
import shlex
import sys
from urllib.parse import unquote, urlsplit


class CatenaryError(Exception):
    """The root: catch it to catch everything that Catenary raises on purpose."""


class ConfigError(CatenaryError):
    """A configuration that can't be used; the message names the option, the value and what was expected."""


class MissingExtra(ConfigError):
    """An optional library is not installed; ``extra`` is the name of the extra that brings it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional library: {install_command(extra)}")
        self.extra = extra


class UnexpectedWord(ConfigError):
    """A word among the flags; ``word`` is empty if it may belong to a secret."""

    def __init__(self, word: str, shown: str) -> None:
        super().__init__(f"expected an option such as --port=8080, got the word {shown}")
        self.word = word


class ImportFailed(ConfigError):
    """The application's module has raised an exception at its import, which is the cause of this one."""


class RequestRefused(CatenaryError):
    """An HTTP request that is not served: malformed, not allowed, or too much at the moment.

    ``status`` is the HTTP status of the answer, the message its body, and ``headers`` are the
    header fields that the answer carries besides its own (RFC 9110, section 15).
    """

    def __init__(
        self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class ProtocolError(CatenaryError):
    """A peer broke a protocol. ``close_code`` is the WebSocket close code that answers it."""

    close_code = 1002


class FrameError(ProtocolError):
    """A frame that breaks RFC 6455; ``close_code`` follows section 7.4.1."""

    def __init__(self, close_code: int, message: str) -> None:
        super().__init__(message)
        self.close_code = close_code


class CommandError(ProtocolError):
    """A client's message that can't be read as a command."""


class PublicationError(CatenaryError):
    """What a publisher sent can't be read as a publication."""


class RateExceeded(PublicationError):
    """A stream has used up its rate of publications: the same one may be accepted after ``retry_after_s`` seconds."""

    def __init__(self, stream: str, rate: int, retry_after_s: int) -> None:
        super().__init__(
            f"expected up to {rate} publications a second on the stream {stream[:100]!r},"
            f" try again in {retry_after_s} s"
        )
        self.retry_after_s = retry_after_s


class AppError(CatenaryError):
    """The application behind the server did not decide."""


class AppUnavailable(AppError):
    """The application can't be reached, or did not answer in time."""


class AppNotReached(AppUnavailable):
    """The application is away, or has nobody free: it did not get the call, as far as is known.

    The same call may be made again later.
    """


class AppFailed(AppError):
    """The application answered with an error of its own (status ERROR)."""


class NotKept(CatenaryError):
    """The server has no broker that keeps what was asked for: a history, or who is present."""


class LostPosition(CatenaryError):
    """The messages behind a position are not all there: it is of another epoch, or too old."""


class ServerEnded(CatenaryError):
    """A part that the server can't go on without has ended, and can't be restarted: status 1."""


class BackendError(CatenaryError):
    """A service beside the server (Redis, NATS) is away or answers with an error.

    The same request may succeed later, except for :class:`BackendRefused`.
    """


class BackendRefused(BackendError):
    """A service beside the server has refused a request for good: the same request fails again.

    Code that repeats requests must not repeat this one: it would block everything after it.
    """


class TooLarge(BackendRefused):
    """What was to be sent or kept is larger than the service takes."""


class NotCaughtUp(BackendError):
    """The node may not have received all remote disconnects yet, so it can't tell who may come back."""


def install_command(extra: str) -> str:
    """What installs an extra from where this installation came from: a clone, a file, an index.

    Source: https://packaging.python.org/en/latest/specifications/direct-url/
    """
    from importlib import metadata  # 20 ms, which every start would take

    try:
        text = metadata.distribution("catenary").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        text = None
    origin = json.loads(text or "{}")
    url = urlsplit(origin.get("url", ""))
    if url.scheme == "file":
        flag = "--editable " if origin.get("dir_info", {}).get("editable") else ""
        what = f"{unquote(url.path)}[{extra}]"
    elif "vcs_info" in origin:
        flag, what = "", f"catenary[{extra}] @ {origin['vcs_info']['vcs']}+{origin['url']}"
    else:
        flag, what = "", f"catenary[{extra}]"
    return f"{sys.executable} -m pip install {flag}{shlex.quote(what)}"
