"""A member that is fenced, or whose name is taken: when it joins again, when it ends."""

from threading import Event
from unittest.mock import Mock

import pytest

from orgstats.consumer.kafka.errors import Fenced, Unreleased
from orgstats.consumer.membership import (
    FENCED_SECONDS,
    MOST_FENCED,
    RELEASE_POLL_SECONDS,
    UNRELEASED_SECONDS,
    Membership,
)
from orgstats.errors import Unavailable
from tests.sim.time import SimClock

FENCED = Fenced("another process uses the same name")


@pytest.fixture
def clock() -> SimClock:
    """It stands still by itself."""
    return SimClock()


@pytest.fixture
def member(clock: SimClock) -> Membership:
    """Joined, with a new client each time."""
    return Membership(Mock, clock, Event())


def test_a_fenced_member_is_closed_and_another_one_joined(member: Membership) -> None:
    """In between nothing may be stored or committed."""
    first = member.consumer
    member.end(FENCED)
    first.close.assert_called_once()  # type: ignore[attr-defined]
    assert member.state.name == "FENCED"
    assert not member.may_store
    member.join_again()
    assert member.state.name == "JOINED"
    assert member.consumer is not first


@pytest.mark.parametrize(("seconds", "ends"), [(FENCED_SECONDS - 1, True), (FENCED_SECONDS, False)])
def test_fenced_again_and_again_within_a_minute_it_has_a_namesake(
    member: Membership, clock: SimClock, seconds: float, ends: bool
) -> None:
    """Of two processes with one name one has to end; a broker that is killed a few times is none."""
    for _ in range(MOST_FENCED):
        member.end(FENCED)
        member.join_again()
    clock.sleep(seconds)
    if ends:
        with pytest.raises(Fenced):
            member.end(FENCED)
    else:
        member.end(FENCED)


def test_a_name_that_is_taken_is_asked_for_until_a_session_must_be_over(member: Membership, clock: SimClock) -> None:
    """A member that was killed keeps it for so long."""
    taken = Unreleased("taken")
    while clock.monotonic() <= UNRELEASED_SECONDS:
        before = clock.monotonic()
        member.end(taken)
        assert not member.may_store
        assert clock.monotonic() == before + RELEASE_POLL_SECONDS
        member.join_again()
    with pytest.raises(Unreleased):
        member.end(taken)


def test_leaving_ends_whatever_happens(member: Membership) -> None:
    """Also when the last checkpoint raises."""

    def leave() -> None:
        with member.leaving():
            assert member.is_leaving
            raise Unavailable("no answer")

    with pytest.raises(Unavailable):
        leave()
    assert not member.is_leaving
    assert member.may_store


def test_a_client_that_does_not_close_well_is_left_behind(member: Membership) -> None:
    """Its membership is over anyway."""
    member.consumer.close.side_effect = Unavailable("no answer")  # type: ignore[attr-defined]
    member.end(FENCED)
    member.join_again()
    assert member.may_store


def test_what_failed_stores_nothing_more(member: Membership) -> None:
    """The next owner counts it."""
    member.fail()
    assert not member.may_store
