"""Values that many requests need at the same moment: loaded once, kept for a short time."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from orgstats.errors import Unavailable

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Cache(Generic[Key, Value]):
    """Loads a key's value once for all who ask while it loads, and keeps it for `seconds(key, value)`.

    A value's age counts from the start of its load, so it is never older than that. What is kept weighs at most
    `size` together, as `weight` says; without it, that is a number of values. The oldest go first; one that is too
    heavy by itself is not kept, and pushes nothing out. A failed load fails for all who waited, and is not kept. For
    one event loop; a waiter that is cancelled does not end the load for the others.
    """

    def __init__(
        self,
        load: Callable[[Key], Awaitable[Value]],
        seconds: Callable[[Key, Value], float],
        size: int,
        clock: Callable[[], float] = time.monotonic,
        weight: Callable[[Value], int] = lambda _: 1,
    ) -> None:
        self._load_value = load
        self._seconds = seconds
        self._size = size
        self._clock = clock
        self._weight = weight
        self._weighs = 0
        self._kept: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[Value]] = {}

    async def get(self, key: Key) -> Value:
        """The value of `key`; raises what its load raises."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] > self._clock():
            return kept[1]
        task = self._loading.get(key)
        if task is None:
            task = asyncio.create_task(self._load(key))
            self._loading[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    async def _load(self, key: Key) -> Value:
        started = self._clock()
        value = await self._load_value(key)
        seconds = self._seconds(key, value)
        self._drop(self._kept.pop(key, None))
        if seconds > 0 and self._weight(value) <= self._size:
            self._kept[key] = (started + seconds, value)
            self._weighs += self._weight(value)
        while self._weighs > self._size:
            self._drop(self._kept.popitem(last=False)[1])
        return value

    def _drop(self, kept: tuple[float, Value] | None) -> None:
        if kept is not None:
            self._weighs -= self._weight(kept[1])

    def _finished(self, key: Key, task: asyncio.Task[Value]) -> None:
        del self._loading[key]
        if not task.cancelled():
            task.exception()  # a load that everybody stopped waiting for may fail in silence


class Together(Generic[Key, Value]):
    """Loads the values of many keys with one call at a time: whoever asks meanwhile is in the next call.

    So any number of keys that nobody has asked for before costs one connection at most. At most `most_waiting` keys
    wait; for more, and for all of a call that fails, `get` raises. For one event loop.
    """

    def __init__(
        self,
        load: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]],
        at_once: int = 1_000,
        most_waiting: int = 10_000,
    ) -> None:
        self._load = load
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._waiting: dict[Key, asyncio.Future[Value | None]] = {}
        self._runner: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value | None:
        """The value of `key`, or None; raises Unavailable when too many wait, and what the load raises."""
        future = self._waiting.get(key)
        if future is None:
            if len(self._waiting) >= self._most_waiting:
                raise Unavailable(f"{self._most_waiting} look-ups of tokens wait already")
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return await asyncio.shield(future)

    async def _run(self) -> None:
        while self._waiting:
            asked = {key: self._waiting.pop(key) for key in list(self._waiting)[: self._at_once]}
            try:
                found = await self._load(list(asked))
            except Exception as error:  # noqa: BLE001 - each who waits gets it
                for future in asked.values():
                    future.set_exception(error)
                    future.exception()  # nobody may be left to see it
            else:
                for key, future in asked.items():
                    future.set_result(found.get(key))
