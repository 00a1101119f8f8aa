"""The two tables: what follows on what, and what cannot happen."""

import pytest

from orgstats.consumer.states import (
    MEMBER,
    OPEN,
    PARTITION,
    READ,
    STORING,
    MemberEvent,
    MemberState,
    PartitionEvent,
    PartitionState,
    after,
)


def partition(*events: str) -> str:
    """The state of a partition that was closed, after events by name."""
    state = PartitionState.CLOSED
    for event in events:
        state = after(PARTITION, state, PartitionEvent(event))
    return state.value


def member(*events: str) -> str:
    """The state of a member that had joined."""
    state = MemberState.JOINED
    for event in events:
        state = after(MEMBER, state, MemberEvent(event))
    return state.value


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), "closed"),
        (("assigned",), "opening"),
        (("assigned", "opening failed"), "not opened"),
        (("assigned", "opening failed", "due"), "opening"),
        (("assigned", "opened"), "catching up"),
        (("assigned", "opened", "caught up"), "counting"),
        (("assigned", "opened", "caught up", "limit reached"), "halted"),
        (("assigned", "opened", "caught up", "position lost"), "draining"),
        (("assigned", "opened", "caught up", "position lost", "stored"), "opening"),
        (("assigned", "opened", "position lost"), "opening"),
        (("assigned", "opened", "caught up", "limit reached", "distrusted"), "opening"),
        (("assigned", "topic gone", "taken", "assigned"), "gone"),
    ],
)
def test_a_partition_comes_to(events: tuple[str, ...], state: str) -> None:
    """The ways that are meant."""
    assert partition(*events) == state


@pytest.mark.parametrize("state", set(PartitionState) - {PartitionState.CLOSED, PartitionState.GONE})
def test_whatever_is_assigned_may_be_taken_distrusted_or_gone(state: PartitionState) -> None:
    """At any time, by the group, by the store, by an operator."""
    assert after(PARTITION, state, PartitionEvent.TAKEN) is PartitionState.CLOSED
    waits = state is PartitionState.NOT_OPENED
    assert after(PARTITION, state, PartitionEvent.DISTRUSTED) is (state if waits else PartitionState.OPENING)
    assert after(PARTITION, state, PartitionEvent.TOPIC_GONE) is PartitionState.GONE


def test_what_is_catching_up_is_read_and_not_stored() -> None:
    """And what halted or drains is stored and not read."""
    assert {state.value for state in READ} == {"catching up", "counting"}
    assert {state.value for state in STORING} == {"counting", "draining", "halted"}
    assert {state.value for state in set(PartitionState) - OPEN} == {"closed", "opening", "not opened", "gone"}


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ((), "joined"),
        (("partitions taken",), "leaving"),
        (("partitions taken", "given up"), "joined"),
        (("fenced",), "fenced"),
        (("fenced", "joined again"), "joined"),
        (("unreleased",), "waiting for release"),
        (("unreleased", "joined again"), "joined"),
        (("fenced", "failed"), "broken"),
        (("failed", "failed"), "broken"),
    ],
)
def test_a_member_comes_to(events: tuple[str, ...], state: str) -> None:
    """The ways that are meant."""
    assert member(*events) == state


@pytest.mark.parametrize(
    "events", [("opened",), ("assigned", "opening failed", "opened"), ("assigned", "opened", "limit reached")]
)
def test_what_cannot_happen_to_a_partition_is_told(events: tuple[str, ...]) -> None:
    """A fault of the program is not passed over."""
    with pytest.raises(RuntimeError, match="cannot happen while"):
        partition(*events)


def test_who_is_broken_leaves_nothing_and_joins_nothing() -> None:
    """Nothing more is stored or committed."""
    for event in ("partitions taken", "joined again", "fenced"):
        with pytest.raises(RuntimeError, match="cannot happen while broken"):
            member("failed", event)


def test_every_state_is_in_its_table() -> None:
    """And every event somewhere."""
    assert set(PARTITION) == set(PartitionState)
    assert set(MEMBER) == set(MemberState)
    assert {event for events in PARTITION.values() for event in events} == set(PartitionEvent)
    assert {event for events in MEMBER.values() for event in events} == set(MemberEvent)
