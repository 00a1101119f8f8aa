"""Waiting for a condition instead of sleeping: tests end when it holds, and say what did not."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float, *, poll_seconds: float = 0.02) -> T:
    """The first true answer of `condition`; an AssertionError that names it when the time is over."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {seconds:g} s: {condition!r} still answers {answer!r}")
        time.sleep(poll_seconds)
    return answer
