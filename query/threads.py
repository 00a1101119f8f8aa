"""Blocking calls of one event loop, each in a thread; there are only so many, and nobody waits for one for ever."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar

from orgstats import tracing
from orgstats.errors import Unavailable

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Threads:
    """At most `size` calls at once. Raises Unavailable when waiting and call have taken `timeout_seconds`."""

    def __init__(self, size: int, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._idle = asyncio.Semaphore(size)
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="clickhouse")

    def close(self) -> None:
        """Begin no more calls; what still waits fails."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def call(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Run a blocking call in a thread of its own."""
        async with self.idle():
            return await self.submit(function, *args, **kwargs)

    @asynccontextmanager
    async def idle(self) -> AsyncIterator[None]:
        """Wait until a thread is idle; whoever enters must call `submit` at once. Waiting and call time out."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._idle.acquire()
                yield
        except TimeoutError:
            raise Unavailable("ClickHouse did not answer in time") from None

    def submit(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> asyncio.Future[Result]:
        """Begin a call in the thread that `idle` has found."""
        future = self._pool.submit(tracing.carried(function), *args, **kwargs)
        future.add_done_callback(partial(self._thread_is_idle, asyncio.get_running_loop()))
        return asyncio.wrap_future(future)

    def _thread_is_idle(self, loop: asyncio.AbstractEventLoop, _: object) -> None:
        """Called in the thread: a call that nobody waits for any more still occupies it until here."""
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._idle.release)
