"""Metrics: the series the backend exports, by name (those of requests are beside the API's application).

The processes of one backend write their series into files of one directory (``PROMETHEUS_MULTIPROC_DIR``, made by the
supervisor before anything here is imported), and one process adds them up for Prometheus. Labels are few and bounded:
a label whose value a client chooses would let the client fill the memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, mmap_dict, multiprocess

# These parts of the library carry no types.
_MmapedDict: Final[Any] = mmap_dict.MmapedDict
_multiprocess: Final[Any] = multiprocess

_COMMIT_BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.04, 0.1, 0.2, 0.5, 1.0, 5.0)
_BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

STREAM_CONNECTIONS: Final = Gauge("rtx_stream_connections", "Open WebSockets.", multiprocess_mode="livesum")
STREAM_MESSAGES: Final = Counter("rtx_stream_messages_total", "Messages sent to WebSockets.")
STREAM_SLOW_CONSUMERS: Final = Counter("rtx_stream_slow_consumers_total", "WebSockets closed for not keeping up.")

STREAM_RESYNCHRONISATIONS: Final = Counter(
    "rtx_stream_resynchronisations_total", "Times an API worker lost market data and took a book afresh."
)

ORDERS: Final = Counter("rtx_orders_total", "New orders the engine accepted.", ["market"])
ORDER_REJECTIONS: Final = Counter("rtx_command_rejections_total", "Commands the engine refused.", ["reason"])
TRADES: Final = Counter("rtx_trades_total", "Trades.", ["market"])
COMMANDS: Final = Counter("rtx_commands_total", "Commands written to the journal.")
BATCH_COMMANDS: Final = Histogram(
    "rtx_engine_batch_commands", "Commands committed in one transaction.", buckets=_BATCH_BUCKETS
)
COMMIT_DURATION: Final = Histogram(
    "rtx_engine_commit_duration_seconds", "Time of one transaction of the journal.", buckets=_COMMIT_BUCKETS_S
)
QUEUE_DEPTH: Final = Gauge(
    "rtx_engine_queue_depth", "Commands waiting for the engine.", multiprocess_mode="livemostrecent"
)
QUEUE_REFUSALS: Final = Counter("rtx_engine_queue_refusals_total", "Commands refused because the queue was full.")
JOURNAL_SEQUENCE: Final = Gauge(
    "rtx_journal_sequence", "Position of the last committed command.", multiprocess_mode="livemax"
)
SNAPSHOT_SEQUENCE: Final = Gauge(
    "rtx_snapshot_sequence", "Journal position of the newest snapshot.", multiprocess_mode="livemax"
)
ENGINE_LEADER: Final = Gauge("rtx_engine_leader", "1 where the engine leads.", multiprocess_mode="livemax")
ENGINE_EPOCH: Final = Gauge("rtx_engine_epoch", "Epoch of the engine's lease.", multiprocess_mode="livemax")
STANDBY_LAG: Final = Histogram(
    "rtx_standby_lag_seconds",
    "Time from journaling a row until a standby has done it again.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0),
)
STANDBY_LAG_ROWS: Final = Gauge(
    "rtx_standby_lag_rows", "Journal rows that the standby has still to do.", multiprocess_mode="livemax"
)
ENGINE_DIVERGED: Final = Gauge(
    "rtx_engine_diverged",
    "1 where the engine computed something else than the journal holds, until one follows it again.",
    multiprocess_mode="mostrecent",
)
SWITCHES_EXPIRED: Final = Counter(
    "rtx_dead_mans_switches_expired_total", "Dead-man's switches that went off and cancelled an account's orders."
)
HANDOVERS: Final = Counter("rtx_handovers_total", "Times this engine handed the book over, or refused to.", ["outcome"])
ENGINE_RELOADS: Final = Counter(
    "rtx_engine_reloads_total", "Times the engine threw its memory away and read the journal again."
)
PUBLISH_FAILURES: Final = Counter(
    "rtx_publish_failures_total", "Market data updates that Redis did not take; trading is not touched by it."
)

HISTORY_READS: Final = Counter(
    "rtx_history_reads_total", "Reads of history, by the database that answered.", ["source"]
)

PROCESSES_UP: Final = Gauge(
    "rtx_processes", "Processes of this backend that run.", ["role"], multiprocess_mode="livemostrecent"
)
PROCESS_RESTARTS: Final = Counter("rtx_process_restarts_total", "Processes that ended by themselves.", ["role"])
BUILD_INFO: Final = Gauge(
    "rtx_build_info", "Always 1; the labels say what runs.", ["version", "colour"], multiprocess_mode="livemax"
)


def multiprocess_registry(directory: Path) -> CollectorRegistry:
    """A registry that adds up what the processes wrote into ``directory``, for the process that serves /metrics."""
    registry = CollectorRegistry()
    _multiprocess.MultiProcessCollector(registry, path=str(directory))
    return registry


def recorded_processes(directory: Path) -> set[int]:
    """Process ids that have files of their own in ``directory``."""
    names = (path.stem.rpartition("_")[2] for path in directory.glob("*.db"))
    return {int(name) for name in names if name.isdecimal()}


def retire_process(directory: Path, pid: int) -> None:
    """Fold the series of an ended process into one file, so that restarts neither lose counts nor leave files.

    Gauges of living processes go; counters and histograms keep counting from where the process stopped, and of what
    is to be remembered the most recent value stays.
    """
    _multiprocess.mark_process_dead(pid, path=str(directory))
    for kind in ("counter", "histogram", "gauge_mostrecent"):
        ended = directory / f"{kind}_{pid}.db"
        if not ended.exists():
            continue
        kept = _MmapedDict(str(directory / f"{kind}_retired.db"))
        try:
            for key, value, timestamp, _position in _MmapedDict.read_all_values_from_file(str(ended)):
                before, time_s = kept.read_value(key)
                if kind != "gauge_mostrecent":
                    kept.write_value(key, before + value, timestamp)
                elif timestamp >= time_s:
                    kept.write_value(key, value, timestamp)
        finally:
            kept.close()
        ended.unlink()
