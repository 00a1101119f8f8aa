"""The cache: one load for all who wait, nothing kept for longer than it may."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from orgstats.errors import Unavailable
from orgstats.query.cache import Cache, Together


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


def test_cancelled_waiter_does_not_cancel_the_load() -> None:
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


def test_oldest_values_are_evicted() -> None:
    """No more values than the size are kept, however many keys are asked for."""

    async def scenario() -> None:
        source = Source()
        cache = source.cache(size=2)
        for key in "abca":
            await cache.get(key)
        assert source.loads == ["a", "b", "c", "a"]
        assert await cache.get("c") == 3

    asyncio.run(scenario())


def test_what_is_kept_weighs_no_more_than_the_size() -> None:
    """A heavy value pushes the oldest out, one that is too heavy by itself none; a key counts once, however often."""

    async def scenario() -> None:
        weights = {"a": 4, "b": 4, "c": 5, "d": 11}
        source = Source()
        loaded: list[str] = []

        async def load(key: str) -> str:
            loaded.append(key)
            return key

        cache = Cache(load, lambda *_: 10.0, size=10, clock=lambda: source.now, weight=weights.__getitem__)
        for key in "abddab":
            await cache.get(key)
        assert loaded == ["a", "b", "d", "d"]
        await cache.get("c")
        await cache.get("b")
        await cache.get("a")
        assert loaded[4:] == ["c", "a"]
        for _ in range(3):
            source.now += 10.0
            await cache.get("a")
        await cache.get("c")
        await cache.get("a")
        assert loaded[6:] == ["a", "a", "a", "c"]

    asyncio.run(scenario())


def test_keys_are_loaded_together() -> None:
    """One call at a time: however many are asked for while it runs, they are one more; what is not there is None."""

    async def scenario() -> None:
        gate, calls = asyncio.Event(), []

        async def load(keys: Sequence[int]) -> dict[int, str]:
            calls.append(list(keys))
            await gate.wait()
            return {key: str(key) for key in keys if key % 2}

        together = Together(load, at_once=50, most_waiting=100)
        first = asyncio.create_task(together.get(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = [asyncio.create_task(together.get(key)) for key in [*range(2, 102), 2]]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="wait already"):
            await together.get(1_000)
        others[3].cancel()
        gate.set()
        assert await first == "1"
        found = await asyncio.gather(*others, return_exceptions=True)
        assert found[:3] == [None, "3", None]
        assert isinstance(found[3], asyncio.CancelledError)
        assert calls == [[1], list(range(2, 52)), list(range(52, 102))]

    asyncio.run(scenario())


def test_failed_batch_load_fails_for_all_its_keys() -> None:
    """The next is tried again."""

    async def scenario() -> None:
        failing = True

        async def load(keys: Sequence[int]) -> dict[int, int]:
            if failing:
                raise Unavailable("away")
            return {key: key for key in keys}

        together = Together(load)
        assert all(
            isinstance(found, Unavailable)
            for found in await asyncio.gather(together.get(1), together.get(2), return_exceptions=True)
        )
        failing = False
        assert await together.get(1) == 1

    asyncio.run(scenario())
