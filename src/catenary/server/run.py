"""Serving: builds, announces, runs to the end."""

import logging
import os
from typing import Final

from catenary import __version__
from catenary.config.load import Request
from catenary.config.options import Options
from catenary.server import lifecycle, logs
from catenary.server.assembly import Assembly

_log: Final = logging.getLogger("catenary.server")


async def serve(options: Options, request: Request) -> None:
    """Serves until a signal; ``options`` are the effective ones of ``request``.

    Raises :class:`catenary.errors.ConfigError` before anything is served.
    """
    logs.set_up(options.log.level, options.log.format)
    open_files = lifecycle.raise_open_files()
    _log.info("Catenary %s (pid %d, up to %d open files)", __version__, os.getpid(), open_files)
    if request.config_path is not None:
        _log.info("Configuration from %s", request.config_path)
    for name in request.presets:
        _log.info("Preset %s", name)
    for warning in request.warnings:
        _log.warning("%s", warning)
    if options.access.public:
        _log.warning("Public mode: everybody may connect, subscribe and publish")
    assembly = Assembly(options)
    for announcement in assembly.announcements:
        _log.info("%s", announcement)
    await lifecycle.run(
        assembly.listeners,
        start=assembly.start,
        finish=assembly.finish,
        shutdown_delay_s=options.node.shutdown_delay_s,
        shutdown_timeout_s=options.node.shutdown_timeout_s,
    )
