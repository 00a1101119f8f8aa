"""Thousands of histories say millions of lines, which nobody reads."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


def be_quiet() -> None:
    """Log nothing from now on."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing for a while."""
    before = structlog.get_config()
    be_quiet()
    try:
        yield
    finally:
        structlog.configure(**before)
