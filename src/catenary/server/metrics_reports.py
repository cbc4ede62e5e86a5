"""Periodic reports of the figures: to StatsD, and to the log.

Each process reports its own; a worker adds its number.
"""

import logging
from collections.abc import Callable
from typing import Final

from catenary.adapters.statsd import StatsdSocket
from catenary.config.addresses import statsd_address
from catenary.logs.metrics import MetricsLog
from catenary.metrics.figures import Labels
from catenary.metrics.intervals import HISTOGRAM_SUFFIXES, Intervals
from catenary.metrics.statsd import StatsdLines, packed
from catenary.process.shutdown import Close
from catenary.server.build import ServerBuild
from catenary.server.shutdown_phases import REPORT_METRICS
from catenary.supervision.backoff import Backoff
from catenary.supervision.ticker import Ticker

_log: Final = logging.getLogger("catenary.metrics")


def add_metrics_reports(build: ServerBuild) -> None:
    """Registers the reports that the options ask for. Called when all figures are registered."""
    if build.options.metrics.log:
        _add_log(build)
    if build.options.statsd.host:
        _add_statsd(build)


def _add_log(build: ServerBuild) -> None:
    wanted = build.options.metrics.log_filter
    names = {figure.name for figure in build.figures.figures()}
    names |= {name + suffix for name in names for suffix in HISTOGRAM_SUFFIXES}
    unknown = sorted(set(wanted) - names)
    if unknown and (build.worker is None or build.worker.number == 1):
        _log.warning("metrics_log_filter: this server has no metrics named %s", ", ".join(unknown))
    if not _log.isEnabledFor(logging.INFO):
        _log.warning("metrics_log writes no lines: expected log_level=info or debug")
    log, intervals = MetricsLog(wanted), Intervals()
    _report(build, lambda: log.write(intervals.report(build.figures.figures())))


def _add_statsd(build: ServerBuild) -> None:
    options = build.options.statsd
    host, port = statsd_address(options.host)
    target = StatsdSocket(host, port, counters=build.counters, supervisor=build.supervisor)
    build.start.append(target.start)
    interval_s = build.options.metrics.rotate_interval_s
    build.announcements.append(f"Sending metrics to StatsD at {target} every {interval_s} s")
    lines = StatsdLines(options.prefix, _tags(build), options.tags_format)
    intervals, oversized = Intervals(), Backoff()

    def send() -> None:
        if not target.is_ready:
            return  # The increases go into a later report.
        report = intervals.report(build.figures.figures())
        packets, too_long = packed(lines.encode(report), options.max_packet_size_bytes)
        if too_long:
            build.counters.statsd_lost_lines_total += too_long
            if oversized.failed().is_logged:
                _log.warning(
                    "%d metrics are not sent to StatsD: each takes more than statsd_max_packet_size=%d",
                    too_long,
                    options.max_packet_size_bytes,
                )
        target.send(packets)

    _report(build, send, target.close)


def _report(build: ServerBuild, write: Callable[[], None], close: Close | None = None) -> None:
    """Calls ``write`` at the end of each interval, and at the end of the shutdown for the last one; then ``close``."""
    ticker = Ticker(build.options.metrics.rotate_interval_s, write)

    async def end(timeout_s: float) -> None:
        await ticker.stop(timeout_s)
        write()
        if close is not None:
            await close(timeout_s)

    build.add(ticker.start, REPORT_METRICS, end)


def _tags(build: ServerBuild) -> Labels:
    """Those of the options; the number of a worker distinguishes it from the others."""
    pairs = (tag.partition(":") for tag in build.options.metrics.tags)
    worker = {} if build.worker is None else {"worker": str(build.worker.number)}
    return tuple(({name: value for name, _, value in pairs} | worker).items())
