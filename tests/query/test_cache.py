"""The cache: one load for all who wait, nothing kept for longer than it may."""

import asyncio
from collections.abc import Callable

import pytest

from orgstats.query.cache import Cache


class Source:
    """Values that count their loads; while the gate is closed, loads wait."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.now = 0.0
        self.error: Exception | None = None

    async def load(self, key: str) -> int:
        self.loads.append(key)
        number = len(self.loads)
        await self.gate.wait()
        if self.error:
            raise self.error
        return number

    def cache(self, seconds: Callable[[str, int], float] = lambda *_: 10.0, size: int = 100) -> Cache[str, int]:
        return Cache(self.load, seconds, size, clock=lambda: self.now)


def test_a_value_is_kept_for_its_time() -> None:
    """Within its seconds a value is not loaded again, after them it is."""

    async def scenario() -> None:
        source = Source()
        cache = source.cache()
        assert await cache.get("a") == await cache.get("a") == 1
        source.now = 9.9
        assert await cache.get("a") == 1
        source.now = 10.0
        assert await cache.get("a") == 2

    asyncio.run(scenario())


def test_age_counts_from_the_start_of_a_load() -> None:
    """A slow load does not make a value live longer."""

    async def scenario() -> None:
        source = Source()
        cache = source.cache()
        source.gate.clear()
        first = asyncio.create_task(cache.get("a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        source.now = 10.0
        source.gate.set()
        assert await first == 1
        assert await cache.get("a") == 2

    asyncio.run(scenario())


def test_who_asks_while_it_loads_waits_for_the_same_load() -> None:
    """A hundred requests for one key at one moment are one load."""

    async def scenario() -> None:
        source = Source()
        cache = source.cache(seconds=lambda *_: 0.0)
        source.gate.clear()
        waiting = [asyncio.create_task(cache.get("a")) for _ in range(100)]
        other = asyncio.create_task(cache.get("b"))
        await asyncio.sleep(0)
        source.gate.set()
        assert set(await asyncio.gather(*waiting)) == {1}
        assert await other == 2
        assert await cache.get("a") == 3

    asyncio.run(scenario())


def test_a_failed_load_fails_for_all_and_is_not_kept() -> None:
    """Everybody who waited gets the error, the next one a new try."""

    async def scenario() -> None:
        source = Source()
        cache = source.cache()
        source.error = OSError("away")
        results = await asyncio.gather(cache.get("a"), cache.get("a"), return_exceptions=True)
        assert [type(result) for result in results] == [OSError, OSError]
        source.error = None
        assert await cache.get("a") == 2

    asyncio.run(scenario())


def test_one_who_leaves_does_not_end_the_load_of_others() -> None:
    """A cancelled waiter is only one waiter less."""

    async def scenario() -> None:
        source = Source()
        cache = source.cache()
        source.gate.clear()
        leaving, staying = (asyncio.create_task(cache.get("a")) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        source.gate.set()
        assert await staying == 1

    asyncio.run(scenario())


def test_the_oldest_values_make_room() -> None:
    """No more values than the size are kept, however many keys are asked for."""

    async def scenario() -> None:
        source = Source()
        cache = source.cache(size=2)
        for key in "abca":
            await cache.get(key)
        assert source.loads == ["a", "b", "c", "a"]
        assert await cache.get("c") == 3

    asyncio.run(scenario())
