"""Values that many requests need at the same moment: loaded once, kept for a short time."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Cache(Generic[Key, Value]):
    """Loads a key's value once for all who ask while it loads, and keeps it for `seconds(key, value)`.

    A value's age counts from the start of its load, so it is never older than that. At most `size` values
    are kept, the oldest go first. A failed load fails for all who waited, and is not kept. For one event
    loop; a waiter that is cancelled does not end the load for the others.
    """

    def __init__(
        self,
        load: Callable[[Key], Awaitable[Value]],
        seconds: Callable[[Key, Value], float],
        size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load_value = load
        self._seconds = seconds
        self._size = size
        self._clock = clock
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
        self._kept.pop(key, None)
        if seconds > 0:
            self._kept[key] = (started + seconds, value)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return value

    def _finished(self, key: Key, task: asyncio.Task[Value]) -> None:
        del self._loading[key]
        if not task.cancelled():
            task.exception()  # a load that everybody stopped waiting for may fail in silence
