"""The long-running process around the worker: signals, metrics, rules to publish, exit."""

import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final, Protocol

import structlog

from orgstats import failpoints, logs, tracing
from orgstats.consumer import health, metrics
from orgstats.consumer.clients import SystemClock, clients_of, store_of
from orgstats.consumer.counting import batch
from orgstats.consumer.loop import Loop
from orgstats.consumer.settings import ConsumerSettings
from orgstats.consumer.store.rules import publish_file
from orgstats.consumer.telling import INSERT_SECONDS, Telling
from orgstats.consumer.watch import Watch
from orgstats.errors import Unavailable

LEAVE_SECONDS: Final = 10.0
"""After the last flush's deadline: for the commit, the goodbye to the group, and an insert under way."""
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Numbers of glibc's malloc.h."""
MIB: Final = 1 << 20
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
RETRY_SECONDS: Final = 2.0
"""Between two tries to begin while ClickHouse is away."""

logger = structlog.get_logger("orgstats.consumer")


class Beside(Protocol):
    """A thread that runs beside the loop until it is asked to end."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def run(settings: ConsumerSettings, beside: Sequence[Callable[[ConsumerSettings, Loop], Beside]] = ()) -> None:
    """Count until SIGTERM or SIGINT: then flush, commit, leave. A second signal ends the process at once.

    `beside` makes threads that run as long as the loop does.

    Raises ConfigurationError, Refused or Unavailable with a text for the operator; Unavailable too when it was asked
    to stop and could not store or commit all that it had counted.
    """
    logs.configure(settings.log_level)
    tracing.configure("orgstats-consumer", os.environ)
    failpoints.arm(os.environ)
    if settings.metrics_listen:
        host, _, port = settings.metrics_listen.rpartition(":")
        metrics.name_build()
        health.serve(host or "0.0.0.0", int(port))  # noqa: S104 - the operator asked for every interface
    tune_process()
    stopping = threading.Event()

    def stop(signum: int, _frame: FrameType | None) -> None:
        signal.signal(signum, lambda *_: os._exit(130))
        logger.info("stopping: flush, commit, leave", signal=signal.Signals(signum).name)
        stopping.set()
        end = threading.Timer(settings.revoke_seconds + LEAVE_SECONDS, _leave_at_once)
        end.daemon = True
        end.start()

    for signum in SIGNALS:
        signal.signal(signum, stop)
    try:
        _count(settings, beside, stopping)
    finally:
        # How it ends is decided. Python takes its handlers away before it has ended, and a signal would be the end.
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        logger.info("stopped")


def tune_process() -> None:
    """Settings of Python and of the C library, for two threads of which one counts and the other prepares inserts."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)  # a batch is thousands of tuples and no cycles: looking for some costs 15 %
    sys.setswitchinterval(0.0005)  # 5 ms otherwise, for which each run of records waits while an insert is prepared
    _keep_memory()


def _keep_memory() -> None:
    """Have glibc keep what is freed: batches are megabytes, and it would take them from the kernel anew each time.

    With this 4 % more records a second were counted, in 10 MiB more. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, size in ((M_MMAP_THRESHOLD, 32 * MIB), (M_TRIM_THRESHOLD, 256 * MIB), (M_TOP_PAD, MIB)):
            mallopt(option, size)


def _count(
    settings: ConsumerSettings,
    beside: Sequence[Callable[[ConsumerSettings, Loop], Beside]],
    stopping: threading.Event,
) -> None:
    logger.info("started", **settings.masked())
    if not batch.COMPILED:
        logger.warning("counting without compiled code, several times slower: install with a C compiler at hand")
    worker = _when_clickhouse_answers(lambda: _worker(settings, stopping), stopping)
    if worker is None:
        return
    threads: list[Beside] = [make(settings, worker) for make in beside]
    telling = Telling(store_of(settings, INSERT_SECONDS), settings.instance_id, worker.pause_reasons)
    threads.append(Watch(settings, worker.positions, SystemClock(), telling))
    for thread in threads:
        thread.start()
    try:
        worker.run()
    finally:
        for thread in threads:
            thread.stop()


def _worker(settings: ConsumerSettings, stopping: threading.Event) -> Loop:
    _publish_rules(settings)
    return Loop(settings, clients_of(settings), stopping)


def _when_clickhouse_answers(make: Callable[[], Loop], stopping: threading.Event) -> Loop | None:
    """What `make` makes as soon as ClickHouse answers; None when stopped before."""
    while not stopping.is_set():
        health.HEALTH.turned()
        try:
            made = make()
        except Unavailable as error:
            metrics.paused.set(1)
            logger.warning("waiting for ClickHouse", error=str(error), retry_seconds=RETRY_SECONDS)
            stopping.wait(RETRY_SECONDS)
        else:
            metrics.paused.set(0)
            return made
    return None


def _leave_at_once() -> None:
    """Kafka or ClickHouse keeps the process from leaving; whoever comes next counts what is not committed."""
    logger.warning("leaving at once: Kafka or ClickHouse does not answer; nothing is lost")
    os._exit(Unavailable.exit_code)


def _publish_rules(settings: ConsumerSettings) -> None:
    rules = settings.rules
    if rules is not None:
        store_of(settings).run(lambda client: publish_file(client, rules))
