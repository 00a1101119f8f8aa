"""This process as a member of the group: joined, fenced and joined again, waiting for its name, leaving, broken."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Final

import structlog

from orgstats.consumer.kafka.errors import Fenced, Unreleased
from orgstats.consumer.ports import Clock, GroupConsumer
from orgstats.consumer.states import MEMBER, MemberEvent, MemberState, after
from orgstats.errors import OrgstatsError

FENCED_SECONDS: Final = 60.0
MOST_FENCED: Final = 3
"""Fenced more often than that within so many seconds, a member has a namesake: a broker that was killed and has
forgotten it fences it once, and may be killed again.
"""
UNRELEASED_SECONDS: Final = 90.0
"""How long a name may be taken by a member that was killed: twice the broker's default session timeout."""
RELEASE_POLL_SECONDS: Final = 2.0

logger = structlog.get_logger("orgstats.consumer")


class Membership:
    """One member after the other, all of this process."""

    def __init__(self, join: Callable[[], GroupConsumer], clock: Clock, stopping: Event) -> None:
        self._join = join
        self._clock = clock
        self._stopping = stopping
        self._fenced: list[float] = []  # when it was, within the last FENCED_SECONDS
        self._unreleased_since: float | None = None
        self._asked_at = 0.0  # last, for a name that was not released
        self.state = MemberState.JOINED
        self.consumer = join()

    @property
    def may_store(self) -> bool:
        """Whether what is counted may still be stored and committed."""
        return self.state in (MemberState.JOINED, MemberState.LEAVING)

    @property
    def is_leaving(self) -> bool:
        """Whether partitions are being taken away."""
        return self.state is MemberState.LEAVING

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """While partitions are taken away: the last commit is waited for."""
        self._on(MemberEvent.PARTITIONS_TAKEN)
        try:
            yield
        finally:
            self._on(MemberEvent.GIVEN_UP)

    def end(self, error: Fenced) -> None:
        """The broker does not take this member any more: end it, so that another can be joined.

        A restarted broker may have forgotten it; but of two processes with one name, one has to end: raises `error`.
        """
        now = self._clock.monotonic()
        self._fenced = [at for at in self._fenced if now < at + FENCED_SECONDS]
        if isinstance(error, Unreleased):
            self._wait_for_release(error, now)
        elif len(self._fenced) == MOST_FENCED:
            raise error
        else:
            self._on(MemberEvent.FENCED)
            self._fenced.append(now)
        logger.warning("fenced: joining the group again", error=str(error))
        try:
            self.consumer.close()
        except OrgstatsError as closing:
            logger.warning("the old membership ended badly", error=str(closing))

    def join_again(self) -> None:
        """As a new member."""
        self.consumer = self._join()
        self._on(MemberEvent.JOINED_AGAIN)

    def fail(self) -> None:
        """Nothing more is stored or committed."""
        self._on(MemberEvent.FAILED)

    def _wait_for_release(self, error: Fenced, now: float) -> None:
        """A member that was killed keeps its name until its session has timed out; a namesake that lives, for ever."""
        if self._unreleased_since is None or now > self._asked_at + FENCED_SECONDS:
            self._unreleased_since = now
        self._asked_at = now
        if now > self._unreleased_since + UNRELEASED_SECONDS:
            raise error
        self._on(MemberEvent.UNRELEASED)
        self._clock.wait(self._stopping, RELEASE_POLL_SECONDS)

    def _on(self, event: MemberEvent) -> None:
        self.state = after(MEMBER, self.state, event)
