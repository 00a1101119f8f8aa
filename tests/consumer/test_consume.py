"""Waiting for records without librdkafka's timeouts, which go by the wall clock."""

import time
from typing import Any, cast

from orgstats.consumer.kafka.consume import consume


class Arriving:
    """A consumer that has one more list of messages at each call; it may never be asked to wait."""

    def __init__(self, *lists: str) -> None:
        self.lists = list(lists)
        self.asked: list[int] = []

    def consume(self, most: int, seconds: float) -> list[str]:
        assert seconds == 0
        self.asked.append(most)
        return list(self.lists.pop(0)) if self.lists else []


def gathered(consumer: Arriving, most: int, seconds: float, enough: int | None = None) -> str:
    return "".join(cast("list[str]", consume(cast("Any", consumer), most, seconds, enough)))


def test_what_comes_in_time_is_one_batch_in_order() -> None:
    """Up to as many as were asked for; who has them at once is not asked again."""
    assert gathered(Arriving("abc", "", "de", "f"), 6, 60) == "abcdef"
    full = Arriving("abc", "def")
    assert (gathered(full, 3, 60), full.asked) == ("abc", [3])


def test_waiting_ends_with_what_there_is() -> None:
    """Nothing comes any more: the wait ends by the monotonic clock."""
    began = time.monotonic()
    assert gathered(Arriving("ab"), 3, 0.05) == "ab"
    assert time.monotonic() >= began + 0.05
    assert gathered(Arriving(), 3, 0) == ""


def test_it_does_not_wait_for_more_than_is_enough() -> None:
    """The end of a range is told by one message: nobody waits for a full batch behind it."""
    some = Arriving("", "ab", "c")
    assert (gathered(some, 6, 60, enough=1), some.asked) == ("ab", [6, 6])
