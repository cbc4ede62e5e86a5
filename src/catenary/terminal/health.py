"""Asks the server on this machine whether it is alive.

  catenary health
  catenary health --ready             whether it should receive clients
  catenary health --port=8081

Takes a server's options, and reads the same variables and the same file.
Prints the answer. Exit status: 1 unless it is 200. For health checks of
containers.
"""

import argparse
import http.client
import ssl
import urllib.error
import urllib.request
from typing import Final, NamedTuple

from catenary.config.effective import effective
from catenary.config.load import load
from catenary.errors import BackendError
from catenary.terminal.argument_values import seconds
from catenary.terminal.console import consoles, printable
from catenary.terminal.running import Invocation
from catenary.terminal.server_settings import ServerSettings

_MAX_BYTES: Final = 65_536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ready", action="store_true", help="ask whether it is ready, too")
    parser.add_argument(
        "--timeout", type=seconds, default=5.0, metavar="TIME", help="of the request (5 s)"
    )


def run(invocation: Invocation) -> int:
    arguments = invocation.arguments
    words = list(arguments.server_flags)
    if words and not words[0].startswith("-"):
        # The application, as the server is started with; it does not change the address.
        words.pop(0)
    settings = ServerSettings(effective(load(words, invocation.environ, invocation.read).options))
    answer = asked(
        settings.ready_url if arguments.ready else settings.health_url, arguments.timeout
    )
    out, _ = consoles(invocation.environ)
    for line in answer.text.splitlines():
        out.say(printable(line))
    return 0 if answer.status == 200 else 1


class Answer(NamedTuple):
    """A server's answer about itself; ``is_ours`` unless another program has sent it."""

    status: int
    text: str
    is_ours: bool


def asked(url: str, timeout_s: float) -> Answer:
    """Asks one of the paths of docs/health.md. Raises :class:`catenary.errors.BackendError`.

    Checks no certificate: it names the host that clients use, and the server is on this machine.
    """
    try:
        # Without the context that checks, which reads all authorities of the system.
        context = ssl._create_unverified_context() if url.startswith("https:") else None  # noqa: S323, SLF001
        with urllib.request.urlopen(url, timeout=timeout_s, context=context) as answer:  # noqa: S310
            return _answer(answer.status, answer)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise BackendError(f"no server answers at {url} ({why})") from None


def _answer(status: int, response: http.client.HTTPResponse | urllib.error.HTTPError) -> Answer:
    is_ours = status in (200, 503) and response.headers.get("Vary") == "Accept"
    return Answer(status, response.read(_MAX_BYTES).decode(errors="replace"), is_ours)
