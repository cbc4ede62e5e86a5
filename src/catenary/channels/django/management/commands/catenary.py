"""``manage.py catenary`` serves the project's cable; ``manage.py catenary rpc`` serves it over gRPC.

The process replaces itself with the program ``catenary`` (exec), with the project's settings in its
environment: flags, signals and workers are those of the program.
"""

import os
import sys
from types import MethodType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from catenary.channels.django.configuration import configuration, server_environment


class Command(BaseCommand):
    """Passes unknown flags to the program."""

    help = (
        "Serves the project's cable (CATENARY in the settings); with the word rpc, serves it over"
        " gRPC to another server. Accepts the flags of catenary --help-all, too."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, allow_abbrev=False, **kwargs)
        setattr(parser, "parse_args", MethodType(_parse, parser))  # noqa: B010
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--asgi",
            nargs="?",
            const="",
            metavar="MODULE:NAME",
            help='serve the pages of the project at the same port (CATENARY["ASGI"])',
        )

    def handle(self, *flags: str, **options: Any) -> None:
        found = configuration()
        if not found.cable:
            raise CommandError('expected CATENARY = {"CABLE": "module:cable"} in the settings')
        if "DJANGO_SETTINGS_MODULE" not in os.environ:
            raise CommandError(
                "expected DJANGO_SETTINGS_MODULE: the settings of this process are"
                " unknown to another"
            )
        words = [found.cable]
        if flags[:1] == ("rpc",):
            words.insert(0, "rpc")
            flags = flags[1:]
        if options["asgi"] is not None:
            words.append(f"--asgi={options['asgi'] or found.asgi}")
        warnings = [f"-W{each}" for each in sys.warnoptions]
        environ = server_environment(os.environ)
        # The path on which this process found the project.
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        connections.close_all()
        sys.stdout.flush()
        sys.stderr.flush()
        program = [sys.executable, *warnings, "-m", "catenary", *words, *flags]
        os.execve(sys.executable, program, environ)  # noqa: S606


def _parse(parser: CommandParser, args: Any = None, namespace: Any = None) -> Any:
    known, flags = parser.parse_known_args(args, namespace)
    # Django passes the positional words of a command like this.
    known.args = tuple(flags)
    return known
