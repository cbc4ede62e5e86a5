"""Prints what happens to clients and publications, on all nodes, as it happens.

  catenary tail --sid=SID             one client
  catenary tail --stream=chat/1       a stream, and the clients that follow it
  catenary tail --event=rejected,request_refused,subscription_rejected
  catenary tail --identifiers='{"user_id":42}' --count=10

A line for each event: JSON unless standard output is a terminal. Exit status: 0
after --count events or --timeout; 1 if the API refuses, or --timeout is first.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from catenary.errors import BackendError
from catenary.supervision.backoff import Backoff
from catenary.terminal.argument_values import count, seconds
from catenary.terminal.arguments import more_arguments
from catenary.terminal.console import Console, consoles, printable
from catenary.terminal.listing import add_json_argument, is_for_people
from catenary.terminal.rest import Api, add_api_arguments, api_of, filters
from catenary.terminal.running import Invocation

_FILTERS: Final = ("sid", "stream", "identifiers", "address", "event", "node")
_ABOUT_THE_TRACE: Final = frozenset({"following", "unanswered", "dropped"})
_STYLES: Final = {
    **dict.fromkeys(("connected", "resumed", "subscribed"), "green"),
    **dict.fromkeys(("disconnected", "closed", "unsubscribed", "disconnect"), "yellow"),
    **dict.fromkeys(("published", "delivered", "whispered", "presence"), "blue"),
    **dict.fromkeys(("rejected", "refused", "failed", "subscription_rejected"), "red"),
    **dict.fromkeys(("request_refused", "publication_refused", "no_history"), "red"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sid", metavar="SID", help="events of a client and its streams")
    parser.add_argument("--stream", metavar="NAME", help="of a stream and its clients")
    parser.add_argument("--identifiers", metavar="TEXT", help="of clients with these identifiers")
    parser.add_argument("--address", metavar="IP", help="of clients with this address")
    parser.add_argument("--event", metavar="NAMES", help="these events, such as rejected,failed")
    more_arguments(parser).add_argument("--node", metavar="NODE", help="of one node")
    parser.add_argument("--count", type=count, metavar="N", help="end after N events")
    parser.add_argument("--timeout", type=seconds, metavar="TIME", help="end after this time")
    add_json_argument(parser)
    add_api_arguments(parser)


def run(invocation: Invocation) -> int:
    arguments, api = invocation.arguments, api_of(invocation)
    out, notes = consoles(invocation.environ)
    is_text = is_for_people(invocation, out)
    until = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    printed = 0
    for data in _events(api, filters(arguments, *_FILTERS), until, notes):
        event: dict[str, Any] = msgspec.json.decode(data)
        is_counted = event.get("event") not in _ABOUT_THE_TRACE
        if not is_text:
            out.say(data.decode())
        elif is_counted:
            out.say(_line(out, event))
        else:
            notes.say(notes.painted("dim", _note(event)))
        printed += is_counted
        if arguments.count is not None and printed >= arguments.count:
            return 0
    return 0 if arguments.count is None else 1


def _events(
    api: Api, query: dict[str, object], until: float | None, notes: Console
) -> Iterator[bytes]:
    """The events until a moment of the monotonic clock; a connection that breaks is opened again."""
    outage, is_open = Backoff(), False
    while True:
        try:
            for data in api.events("/events", query, until):
                is_open = True
                outage.works()
                if data:
                    yield data
            reason = "the server ended the stream"
        except BackendError as error:
            if not is_open:
                raise
            reason = str(error)
        if until is not None and time.monotonic() >= until:
            return
        pause = outage.failed()
        if pause.is_logged:
            notes.say(notes.painted("dim", f"away: {reason}"))
        time.sleep(pause.seconds)


def _line(out: Console, event: dict[str, Any]) -> str:
    moment, name, sid = str(event["ts"]), str(event["event"]), str(event.get("sid", ""))
    rest = " ".join(
        f"{out.painted('dim', f'{field}=')}{printable(str(value))}"
        for field, value in event.items()
        if field not in ("ts", "event", "sid", "node", "worker")
    )
    shown = out.painted(_STYLES.get(name, "cyan"), f"{name:13}")
    return f"{out.painted('dim', moment[11:23])} {shown} {printable(sid):12} {rest}".rstrip()


def _note(event: dict[str, Any]) -> str:
    match event["event"]:
        case "following":
            number = event.get("total", 0)
            return f"following {number} node{'' if number == 1 else 's'}"
        case "dropped":
            return f"{event.get('total', 0):,} events were dropped: more came than could be sent"
    return printable(f"node {event.get('node')} is missing: {event.get('reason')}")
