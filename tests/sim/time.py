"""Time that passes only when somebody waits for it, and checkpoints that run when they are told to."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Event
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class SimClock:
    """A clock of its own; `at` lets something happen while somebody waits."""

    def __init__(self, epoch_ms: int = 1_700_000_000_000) -> None:
        self._seconds = 0.0
        self._epoch_ms = epoch_ms
        self._planned: list[tuple[float, Callable[[], None]]] = []

    def monotonic(self) -> float:
        """Seconds since the beginning."""
        return self._seconds

    def epoch_ms(self) -> int:
        """The beginning, and what has passed since."""
        return self._epoch_ms + round(self._seconds * 1000)

    def sleep(self, seconds: float) -> None:
        """Time passes, and what is planned within it happens."""
        until = self._seconds + seconds
        while due := [one for one in self._planned if one[0] <= until]:
            first = min(due, key=lambda one: one[0])
            self._planned.remove(first)
            self._seconds = max(self._seconds, first[0])
            first[1]()
        self._seconds = max(self._seconds, until)

    def wait(self, event: Event, seconds: float) -> None:
        """As `sleep`, unless the event is set already."""
        if not event.is_set():
            self.sleep(seconds)

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        """Let something happen so many seconds from now."""
        self._planned.append((self._seconds + seconds, call))


class SkewedClock:
    """The clock of one machine: it goes as fast as the others, but is ahead by `skew_ms`."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self.skew_ms = 0
        self.monotonic = clock.monotonic
        self.sleep = clock.sleep
        self.wait = clock.wait

    def epoch_ms(self) -> int:
        """As this machine shows it."""
        return self._clock.epoch_ms() + self.skew_ms


class SimExecutor:
    """Runs a call at once; or with `hold` only when `run` is called or somebody waits for it.

    With `stuck` waiting is in vain, too.
    """

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self._begun: tuple[Future[Any], Callable[[], Any]] | None = None
        self.hold = False
        self.stuck = False

    def submit(self, call: Callable[[], Answer]) -> "Future[Answer]":
        """Begin a call; the one before has ended."""
        assert self._begun is None, "one checkpoint at a time"
        future: Future[Answer] = Future()
        self._begun = future, call
        if not (self.hold or self.stuck):
            self.run()
        return future

    @property
    def begun(self) -> bool:
        """Whether a call is under way."""
        return self._begun is not None

    def run(self) -> None:
        """Let the call that was begun come to its end."""
        if self._begun is None:
            return
        (future, call), self._begun = self._begun, None
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - whatever a call raises is its answer
            future.set_exception(error)

    def wait(self, future: "Future[Any]", seconds: float) -> None:
        """The call ends meanwhile, unless it is stuck."""
        if self.stuck:
            self._clock.sleep(seconds)
        elif not future.done():
            self.run()

    def shutdown(self, *, wait: bool) -> None:
        """A call that nobody waits for is forgotten."""
        if wait:
            self.run()
