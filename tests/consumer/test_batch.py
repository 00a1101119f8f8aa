"""The quick way of counting a run gives what the careful way gives, record for record."""

import json
from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import BatchCounter, Counted, Pending
from consumer.classify import RuleHistory
from consumer.decode import AgeLimits
from consumer.segment import Segment

T0 = 1_700_000_000
STAMPS = st.sampled_from([T0 * 1000, T0 * 1000 + 999, (T0 + 86_400) * 1000, (T0 + 100 * 86_400) * 1000, -1])
TIMES = st.sampled_from(
    [
        "2023-11-14T22:13:20.123456Z",
        "2023-11-14T22:13:29.999999Z",
        "2023-11-14T22:13:30.000000Z",
        "2023-11-14T22:23:20.000000Z",
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20.1Z",
        "2023-11-31T22:13:20.123456Z",
        "2023-11-14T22:13:61.123456Z",
        "2016-12-31T23:59:60.123456Z",
        "2023-11-14T22:13:20.123456+05:30",
        "٢٠٢٣-11-14T22:13:20.123456Z",
        T0,
        T0 + 0.5,
        -5,
        None,
    ]
)
SMALL = st.sampled_from([None, 0, 1, 2, -1, 2**63, "x"])
EVENTS = st.fixed_dictionaries(
    {"timestamp": TIMES},
    optional={
        "org_id": SMALL,
        "project_id": SMALL,
        "outcome": st.sampled_from([None, 0, 1, 2, 6, 7]),
        "reason": st.sampled_from([None, "", "a", "b" * 70, "ü"]),
        "category": SMALL,
        "quantity": SMALL,
        "padding": st.just("x" * 1100),
    },
)
VALUES = EVENTS.map(lambda event: json.dumps(event).encode()) | st.sampled_from(
    [None, b"", b"{", b"[]", b"[" * 1500, b'{"timestamp":1,"x":"\xff"}']
    # text that only the fields which are skipped hold: half a character, halves of one in two records, a whole one
    + [b'{"timestamp":"2023-11-14T22:13:20.123456Z","outcome":0,"x":"%b"}' % t for t in (b"\xc3", b"\xbc", b"\xc3\xbc")]
)
PLAIN = st.builds(
    lambda second, org, outcome: json.dumps(
        {"timestamp": f"2023-11-14T22:13:{second:02}.500000Z", "org_id": org, "outcome": outcome}
    ).encode(),
    st.integers(0, 59),
    st.integers(1, 3),
    st.integers(0, 2),
)


def counted(values: Sequence[bytes | None], stamps: Sequence[int], *, at_once: bool) -> tuple[object, ...]:
    """Cells in order, dead letters and how many were out of bounds; a run at once, or one record at a time."""
    batch = BatchCounter(AgeLimits(), RuleHistory(()))
    pending: Pending = Counter()
    if at_once:
        result = batch.count(values, stamps, pending)
    else:
        result = Counted()
        batch._count_each(values, stamps, pending, 0, result)
    segment = Segment(0)
    segment.add(batch.fold(pending))
    cells = {key: count.row_values() for key, count in segment.cells.items()}
    projects = {key: count.row_values() for key, count in (segment.project_cells or {}).items()}
    return cells, projects, result.refusals, result.out_of_bounds


@given(st.lists(st.tuples(VALUES, STAMPS), min_size=1, max_size=30))
def test_quick_equals_careful_on_odd_records(records: list[tuple[bytes | None, int]]) -> None:
    """Whatever a run holds, counting it at once or record by record comes to the same."""
    values, stamps = zip(*records, strict=True)
    assert counted(values, stamps, at_once=True) == counted(values, stamps, at_once=False)


@settings(max_examples=50)
@given(st.lists(PLAIN, min_size=1, max_size=200), st.lists(st.tuples(st.integers(0, 199), VALUES), max_size=3))
def test_quick_equals_careful_among_plain_records(plain: list[bytes], odd: list[tuple[int, bytes | None]]) -> None:
    """A few odd records in a long plain run change nothing but themselves."""
    values: list[bytes | None] = list(plain)
    for at, value in odd:
        values.insert(at, value)
    stamps = [T0 * 1000] * len(values)
    assert counted(values, stamps, at_once=True) == counted(values, stamps, at_once=False)


def test_plain_records_take_the_quick_way() -> None:
    """A run of ordinary records is counted by the quick way, or the comparison above would prove nothing."""
    value = '{"timestamp":"2023-11-14T22:13:20.500000Z","org_id":1,"outcome":0,"x":"ü"}'.encode()
    pending: Pending = Counter()
    assert BatchCounter(AgeLimits(), RuleHistory(()))._count_plain([value] * 3, [T0 * 1000] * 3, pending)
    assert list(pending.values()) == [3]
