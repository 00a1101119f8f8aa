"""The fast path and compiled cells give of a run what the fallback and plain cells give."""

import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from orgstats.consumer.counting.batch import BatchCounter, Kind, Pending, Record, Rejected, RunResult
from orgstats.consumer.counting.cell_table import Cells
from orgstats.consumer.counting.chunk import MAX_REASONS, Chunk
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.packing import packed
from orgstats.consumer.counting.rule_history import RuleHistory, RulesEntry
from orgstats.consumer.counting.rules import parse

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
        "key_id": SMALL,
        "outcome": st.sampled_from([None, 0, 1, 2, 6, 7, 255, 256]),
        "reason": st.sampled_from([None, "", "a", "b" * 70, "ü"]),
        "category": SMALL,
        "quantity": SMALL,
        "padding": st.just("x" * 1100),
        "remote_addr": st.sampled_from([None, "10.0.0.1", "11.0.0.1", "::ffff:10.0.0.1", "x", 7]),
        "user_agent": st.sampled_from([None, "", "GoogleBot", 'a"b\\/\n', "b\u00f6t", "x" * 300, "\u0001", 5]),
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


PLAIN_TIME = "2023-11-14T22:13:20.5Z"


def spelled(**fields: object) -> bytes:
    """A record without spaces, as most producers write it."""
    return json.dumps({"timestamp": PLAIN_TIME, "outcome": 0, **fields}, separators=(",", ":")).encode()


def messages(values: Sequence[bytes | None], stamps: Sequence[int]) -> Sequence[Record]:
    """A run as a consumer gets it."""
    run = [
        Message(offset=at, value=value, timestamp=(1, ms))
        for at, (value, ms) in enumerate(zip(values, stamps, strict=True))
    ]
    return cast("Sequence[Record]", run)


def counted(
    run: Sequence[Record], pending: Pending, batch: BatchCounter, cuts: Sequence[int] = ()
) -> tuple[object, ...]:
    """Cells, dead letters, how many were out of bounds, the highest Kafka timestamp of a run, in so many batches."""
    result = RunResult()
    edges = [0, *sorted({min(cut, len(run)) for cut in cuts}), len(run)]
    for first, end in itertools.pairwise(edges):
        part = batch.count(run[first:end], pending)
        result.refusals += [Rejected(first + at, code, text) for at, code, text in part.refusals]
        result.out_of_bounds += part.out_of_bounds
        result.highest_ms = max(result.highest_ms, part.highest_ms)
    chunk = Chunk(0, table=Cells() if pending.fast is None else None)
    batch.fold_into(chunk, pending)
    cells = {key: cell.row_values() for cells in chunk.cells.values() for key, cell in cells.items()}
    return cells, result.refusals, result.out_of_bounds, result.highest_ms


def check(
    values: Sequence[bytes | None], stamps: Sequence[int], rules: RuleHistory | None = None, cuts: Sequence[int] = ()
) -> None:
    """Each way gives the same, and the same again when the fast one has met all values before."""
    batch = BatchCounter(AgeLimits(), rules or RuleHistory(()))
    run = messages(values, stamps)
    each = counted(run, Pending(), batch)
    for _ in range(2):
        assert counted(run, batch.pending(), batch, cuts) == each


@given(st.lists(st.tuples(VALUES, STAMPS), min_size=1, max_size=30))
def test_fast_path_equals_fallback_on_odd_records(records: list[tuple[bytes | None, int]]) -> None:
    """Whatever a run holds, counting it at once or record by record comes to the same."""
    values, stamps = zip(*records, strict=True)
    check(values, stamps)


ADDRESSES = st.lists(st.sampled_from(["10.0.0.0/8", "11.0.0.1", "::/0"]), min_size=1, max_size=2)
RULES = st.lists(
    st.fixed_dictionaries(
        {"outcome": st.sampled_from(["filtered", "rate_limited"]), "reason": st.sampled_from(["one", "two", "three"])},
        optional={
            "org_id": st.lists(st.integers(0, 2), min_size=1, max_size=2),
            "project_id": st.lists(st.integers(0, 2), min_size=1, max_size=2),
            "remote_addr": ADDRESSES,
            "user_agent": st.lists(st.sampled_from(["*bot*", "", "b?t", "a*", "x*"]), min_size=1, max_size=2),
        },
    ).filter(lambda rule: len(rule) > 2),
    max_size=5,
)
HISTORIES = st.lists(st.tuples(st.sampled_from([-1, 0, T0 * 1000, T0 * 1000 + 999]), RULES), max_size=3)


def history_of(entries: Sequence[tuple[int, list[dict[str, object]]]]) -> RuleHistory:
    """Rules in force from these Kafka timestamps on."""

    def toml(rules: Sequence[dict[str, object]]) -> str:
        return "\n".join("[[rule]]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in rule.items()) for rule in rules)

    return RuleHistory(RulesEntry(ms, n, parse(toml(rules))) for n, (ms, rules) in enumerate(entries))


@given(
    st.lists(st.tuples(VALUES | EVENTS.map(lambda e: json.dumps(e, ensure_ascii=False).encode()), STAMPS), min_size=1),
    HISTORIES,
    st.lists(st.integers(0, 30), max_size=3),
)
def test_rules_classify_alike_whatever_they_are_and_however_batches_fall(
    records: list[tuple[bytes | None, int]], entries: list[tuple[int, list[dict[str, object]]]], cuts: list[int]
) -> None:
    """Events that nobody has classified, in texts with escapes and without, by any rules from any time on."""
    values, stamps = zip(*records, strict=True)
    check(values, stamps, history_of(entries), cuts)


def unclassified(number: int) -> bytes:
    """An event with values that others have, and one that is its own."""
    return json.dumps(
        {"timestamp": PLAIN_TIME, "org_id": number % 3, "user_agent": f"agent/{number}", "url": f"/{number % 7}"}
    ).encode()


def test_more_rules_than_bits_in_a_word() -> None:
    """The first that matches is found beyond the 64th, too, and the same events once more by other rules."""
    values = [unclassified(number) for number in range(400)]
    stamps = [T0 * 1000] * len(values)
    rules: list[dict[str, object]] = [
        {"outcome": "filtered", "reason": f"r{n}", "user_agent": [f"agent/{n}"]} for n in range(150)
    ]
    check(values, stamps, history_of([(0, rules)]))
    batch = BatchCounter(AgeLimits(), history_of([(0, rules)]))
    pending, cells = batch.pending(), []
    for history in (batch.rules, history_of([(0, rules[69:])]), history_of([(0, rules[:10]), (1, rules[140:])])):
        batch.rules = history
        batch.count(messages(values, stamps), pending)
        plain = BatchCounter(AgeLimits(), history)
        one = Pending()
        plain.count(messages(values, stamps), one)
        cells += plain.fold(one)
    expected: Counter[object] = Counter()
    for tally, events in cells:
        expected[tally] += events
    assert Counter(dict(batch.fold(pending))) == expected


@pytest.mark.parametrize("wrong", [b'"user_agent":5', b'"org_id":"1"', b'"user_agent":"bot","user_agent":5'])
def test_a_value_of_the_wrong_type_is_not_held_against_rules(wrong: bytes) -> None:
    """Conditions are made for one type; the record is a dead letter, as everywhere."""
    rules: dict[str, object] = {"outcome": "filtered", "reason": "one", "user_agent": ["*bot*"], "org_id": [1]}
    value = b'{"timestamp":"2023-11-14T22:13:20.5Z",%b}' % wrong
    check([value] * 2, [T0 * 1000] * 2, history_of([(0, [rules])]))


def test_more_values_than_are_remembered() -> None:
    """Then they are met anew, and nothing is counted differently."""
    history = history_of([(0, [{"outcome": "filtered", "reason": "sevens", "user_agent": ["*7"]}])])
    batch = BatchCounter(AgeLimits(), history)
    pending = batch.pending()
    numbers = [*range(70_000), *range(10)]
    values = [unclassified(number) for number in numbers]
    batch.count(messages(values, [T0 * 1000] * len(values)), pending)
    filtered = sum(events for tally, events in batch.fold(pending) if tally.reason == "sevens")
    assert filtered == sum(number % 10 == 7 for number in numbers)


@settings(max_examples=50)
@given(st.lists(PLAIN, min_size=1, max_size=200), st.lists(st.tuples(st.integers(0, 199), VALUES), max_size=3))
def test_fast_path_equals_fallback_among_plain_records(plain: list[bytes], odd: list[tuple[int, bytes | None]]) -> None:
    """A few odd records in a long plain run change nothing but themselves."""
    values: list[bytes | None] = list(plain)
    for at, value in odd:
        values.insert(at, value)
    check(values, [T0 * 1000] * len(values))


BASES = [
    spelled(org_id=1, project_id=10, key_id=100, outcome=1, reason="a", event_id="0f" * 16, category=1, quantity=1),
    spelled(org_id=12, reason=None, remote_addr="10.0.0.1", quantity=999_999_999_999_999_999, x=0, url="/?a=1"),
    b'{"outcome": 2, "org_id": 1 , "timestamp": "2023-11-14T22:13:59Z", "reason":"b"}',
    spelled(outcome=None, org_id=1, reason="c", user_agent="a\\bot", url="/x"),
]
BROKEN_BY: list[dict[str, object]] = [{"outcome": "filtered", "reason": "local", "url": ["/*"], "org_id": [1, 2]}]
PIECES = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[1]",
    b":",
    b",",
    b" ",
    b"0",
    b"9",
    b"-",
    b".",
    b"e",
    b"null",
    b"true",
    b"\0",
    b"\n",
]
PIECES += [
    b"\x7f",
    b"\xff",
    "ü".encode(),
    b'"org_id":2,',
    b'"timestamp":1,',
    b'"category":256,',
    b'"quantity":1e3,',
    b'"x":"',
    b'"url":"/y",',
    b'"url":5,',
    b'"org_id":"1",',
    b'"key_id":2,',
    b'"outcome":null,',
]


def broken(rng: random.Random) -> bytes:
    """A record with up to three places where something was put in, taken out or doubled."""
    text = rng.choice(BASES)
    for _ in range(rng.randrange(4)):
        start = rng.randrange(len(text) + 1)
        end = min(start + rng.choice((0, 0, 1, 1, 2, 20)), len(text))
        text = text[:start] + rng.choice([*PIECES, b"", text[start:end] * 2]) + text[end:]
    return text


@pytest.mark.parametrize("seed", range(4))
def test_fast_path_equals_fallback_on_broken_text(seed: int) -> None:
    """However a record is broken, it is of no kind, or all of its kind are alike."""
    rng, rules = random.Random(seed), history_of([(0, BROKEN_BY)])
    for _ in range(150):
        check([broken(rng) for _ in range(40)], rng.choices([T0 * 1000, (T0 + 595) * 1000, -1], k=40), rules)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b'"key_id":1', b'"key_id":01'),
        (b'"key_id":1', b'"key_id":"1"'),
        (b'"url":"/"', b'"url":1'),
        (b'"x":10', b'"x":010'),
        (b'"timestamp":"2016-12-31T23:59:60Z"', b'"timestamp":"2016-12-31T23:59:61Z"'),
    ],
)
def test_the_first_speaks_for_none_that_is_broken(right: bytes, wrong: bytes) -> None:
    """A record that differs from a right one only in what is not counted may still be a dead letter."""
    values = [b'{"timestamp":"2016-12-31T23:59:50Z","org_id":1,"outcome":0,%b}' % piece for piece in (right, wrong)]
    ms = 1_483_228_790_000
    check(values, [ms] * 2)
    batch = BatchCounter(AgeLimits(), RuleHistory(()))
    assert [refusal.at for refusal in batch.count(messages(values, [ms] * 2), batch.pending()).refusals] == [1]


TOKENS = ["{", "}", "[", "]", '"a"', ":", ",", "1", " true"]
WORDS = [
    "true",
    "tru",
    "truE",
    "false",
    "fals",
    "falsE",
    "falsee",
    "null",
    "nul",
    "NaN",
    "01",
    "-1",
    "-",
    "1.5",
    "1e5",
    "",
    " ",
]
WORDS += ['"', '"a\\n"', '"\\u00e9"', '"\\x"', '"\\', '"ü"', "\t1", "1\n"]


def test_what_is_nested_in_a_field_that_nobody_knows() -> None:
    """Whatever five tokens there are in it, right or broken, it is passed over or refused as a decoder does."""
    pieces = ["".join(tokens) for length in range(1, 6) for tokens in itertools.product(TOKENS, repeat=length)]
    pieces += [
        around % word for around in ("%s", "[%s]", "[1, %s ,1]", '{"a":%s}', '{"a" : %s , "b":1}') for word in WORDS
    ]
    texts = [f'{{"x":{piece},"timestamp":"{PLAIN_TIME}","outcome":0}}'.encode() for piece in ["1", *pieces]]
    texts += [f'{{"timestamp":"{PLAIN_TIME}","org_id":{word},"outcome":0}}'.encode() for word in WORDS]
    # The first is right, and would speak for those behind it that are broken.
    check(texts, [T0 * 1000] * len(texts))


@pytest.mark.parametrize("depth", [1, 31, 32, 33, 64, 65, 1_000])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_however_deep_it_is_nested(depth: int, opened: str, closed: str) -> None:
    """Closed as often as opened, once less, once more, or by the other bracket."""
    last = closed * (depth - 1)
    for end in (closed + last, last, closed + last + closed, last + "]", last + "}"):
        value = f'{{"timestamp":"{PLAIN_TIME}","outcome":0,"x":{opened * depth}1{end}}}'.encode()
        check([spelled(x=1), value], [T0 * 1000] * 2)


def test_nested_values_that_nobody_knows_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what it is for: of a thousand alike but for what is passed over, one is."""
    batch = BatchCounter(AgeLimits(), RuleHistory(()))
    decoded: list[bytes] = []
    kind_of = batch._kind

    def kind(value: bytes, timestamp_ms: int) -> Kind | None:
        decoded.append(value)
        return kind_of(value, timestamp_ms)

    monkeypatch.setattr(batch, "_kind", kind)
    values = [spelled(org_id=1, x={"a": [n, None, {"b": "x"}, True]}, y=[[], {}, n % 2 == 0]) for n in range(1000)]
    pending = batch.pending()
    batch.count(messages(values, [T0 * 1000] * 1000), pending)
    assert sum(events for _, events in batch.fold(pending)) == 1000
    assert len(decoded) == (1 if pending.fast else 0)


@pytest.mark.parametrize("year", [0, 1, 1969, 1970, 2105, 2106, 2107, 9999])
def test_times_that_no_bucket_holds(year: int) -> None:
    """Around the first and the last second of ClickHouse's DateTime each way counts in the same bucket."""
    days = [f"{year:04}-{day}T{time}Z" for day in ("01-01", "02-07", "12-31") for time in ("00:00:00", "06:28:15.9")]
    stamps = [0, 9_999, 600_000, 4_294_967_290_000, 4_294_967_899_000]
    check([spelled(timestamp=day, org_id=1) for day in days for _ in stamps], stamps * len(days))


def test_reasons_keep_their_order() -> None:
    """Which reasons a chunk keeps is decided by offset, also between records that are counted in different ways."""
    rng = random.Random(1)
    values = [
        spelled(org_id=rng.randrange(3), outcome=1, reason=f"r{rng.randrange(number + 1)}", x=0.5 if odd else 1)
        for number in range(4 * MAX_REASONS)
        for odd in [rng.random() < 0.3]
    ]
    check(values, [T0 * 1000] * len(values))


def test_the_fast_path_knows_the_calendar() -> None:
    """Each time that there is lies in its bucket, and what is no time is a dead letter, as the fallback has it."""
    days = itertools.product((1969, 1970, 1972, 1999, 2000, 2023, 2100), range(14), (0, 1, 28, 29, 30, 31, 32))
    clocks = itertools.product((0, 23, 24), (0, 59, 60), (0, 9, 10, 59))
    times = [(*day, 0, 0, 0) for day in days] + [(2024, 2, 29, *clock) for clock in clocks]
    values, stamps = [], []
    for year, month, day, hour, minute, second in times:
        near = datetime(year, min(max(month, 1), 12), min(max(day, 1), 28), tzinfo=UTC) + timedelta(days=5)
        values.append(spelled(timestamp=f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
        stamps.append(max(int(near.timestamp()), 0) * 1000)
    check(values, stamps)


COUNTS_OF = st.tuples(st.integers(0, 1), st.lists(st.tuples(VALUES | PLAIN, STAMPS), max_size=8), st.booleans())


@given(st.lists(COUNTS_OF, max_size=12), st.sampled_from([1, 3, 100]))
def test_kinds_are_shared_and_forgotten_and_no_count_differs(
    runs: list[tuple[int, list[tuple[bytes | None, int]], bool]], most: int
) -> None:
    """Two partitions are counted in turn, folded now and then, and kinds are met anew when there are too many."""
    batch, ways = BatchCounter(AgeLimits(), history_of([(0, BROKEN_BY)])), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orgstats.consumer.counting.batch.MOST_KINDS", most)
        for pending in (batch.pending, Pending):
            plain = pending is Pending
            partitions = [(pending(), Chunk(0, table=Cells() if plain else None)) for _ in range(2)]
            for at, records, folds in runs:
                one, chunk = partitions[at]
                batch.count(messages([value for value, _ in records], [ms for _, ms in records]), one)
                if folds:
                    batch.fold_into(chunk, one)
            for one, chunk in partitions:
                batch.fold_into(chunk, one)
            cells = [chunk.cells.values() for _, chunk in partitions]
            ways.append([[{key: cell.row_values() for key, cell in one.items()} for one in family] for family in cells])
    assert ways[0] == ways[1]


def test_reasons_keep_their_order_when_all_kinds_are_known() -> None:
    """In each chunk anew: a kind that was met in an earlier one has its place by its first record in this one."""
    rng, batch = random.Random(2), BatchCounter(AgeLimits(), RuleHistory(()))
    values = [spelled(org_id=rng.randrange(3), outcome=1, reason=f"r{number}") for number in range(2 * MAX_REASONS)]
    fast, slow = batch.pending(), Pending()
    for _ in range(3):
        rng.shuffle(values)
        odd = [value.replace(b"}", b',"x":[1]}') if rng.random() < 0.3 else value for value in values]
        run = messages(odd, [T0 * 1000] * len(odd))
        assert counted(run, fast, batch) == counted(run, slow, batch)


def test_a_kind_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was folded since, whichever partition it is, and whenever the record was."""
    batch, decoded = BatchCounter(AgeLimits(), RuleHistory(())), list[bytes]()
    if batch.pending().fast is None:
        pytest.skip("needs orgstats.consumer.counting.fast_path, which a C compiler makes at installation")
    kind = batch._kind

    def decode(value: bytes, timestamp_ms: int) -> Kind | None:
        decoded.append(value)
        return kind(value, timestamp_ms)

    monkeypatch.setattr(batch, "_kind", decode)
    for partition in range(2):
        pending = batch.pending()
        for minute in range(10, 13):
            value = spelled(timestamp=f"2023-11-14T22:{minute}:20Z", org_id=1, x=partition)
            batch.count(messages([value] * 3, [T0 * 1000] * 3), pending)
            assert [(tally.bucket, events) for tally, events in batch.fold(pending)] == [(T0 + 60 * (minute - 13), 3)]
    assert len(decoded) == 1


NOT_UTF_8 = [
    *(b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xe2\x82"),
    *(
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf0\x9f\x98",
        b"\xff",
        b"\\x",
        b"\\u00e9",
        b"\\",
    ),
]


def test_text_in_any_language_has_a_kind() -> None:
    """Characters at the edges of each length of UTF-8, and what JSON escapes by one character."""
    texts = [*"\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff", '\\"/\b\f\n\r\t']
    values = [spelled(org_id=1, x="?").replace(b'"?"', json.dumps(text, ensure_ascii=False).encode()) for text in texts]
    assert by_path(values, [T0 * 1000] * len(values)) == ([], 1)
    check(values, [T0 * 1000] * len(values))


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (spelled(org_id=1, timestamp="2023-11-14T22:13:60.5Z"), T0 * 1000),
        (spelled(org_id=1, timestamp="2023-11-14T22:13:20.Z"), T0 * 1000),
        (spelled(org_id=1, timestamp="2023-11-14T22:13:20+00:00"), T0 * 1000),
        (spelled(org_id=1, timestamp=T0), T0 * 1000),
        (spelled(org_id=1, outcome=256), T0 * 1000),
        (spelled(org_id=1), (T0 + 90 * 86_400) * 1000),
        (spelled(org_id=1), (T0 - 600) * 1000),
        (spelled(org_id=1), -1),
        (spelled(org_id=1, x=1.5), T0 * 1000),
        (spelled(org_id=1, x="\u0001"), T0 * 1000),
        *((spelled(org_id=1, x="?").replace(b"?", text), T0 * 1000) for text in NOT_UTF_8),
        (spelled(org_id=1, x="y" * 1000), T0 * 1000),
        (spelled(org_id=1) + b" ", T0 * 1000),
        (spelled(org_id=1) + b"\0", T0 * 1000),
        (spelled(org_id=10**18), T0 * 1000),
        (b"{}", T0 * 1000),
        (b"", T0 * 1000),
        (None, T0 * 1000),
    ],
)
def test_odd_records_are_of_no_kind(value: bytes | None, ms: int) -> None:
    """What could count differently from others of the same text, or is hard to read, is handed back."""
    assert by_path([value, *BASES], [ms, *[T0 * 1000] * 4]) == ([0], 4)


def test_plain_records_have_a_kind() -> None:
    """Records that differ in what is not counted are of one kind, or the comparisons above would prove nothing."""
    alike = [
        spelled(timestamp=f"2023-11-14T22:13:2{i}.{i}Z", org_id=1, release=f"{i}", event_id=f"{i}", x=i)
        for i in range(9)
    ]
    assert by_path(alike, [T0 * 1000] * 9) == ([], 1)
    assert by_path([unclassified(3 * number) for number in range(9)], [T0 * 1000] * 9) == ([], 1)


def by_path(values: Sequence[bytes | None], stamps: Sequence[int]) -> tuple[list[int], int]:
    """Places of the odd ones, and how many kinds the others are of."""
    batch, odd = BatchCounter(AgeLimits(), RuleHistory(())), list[int]()
    fast = batch.pending().fast
    if fast is None:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("needs consumer.alike, which a C compiler makes at installation")

    from orgstats.consumer.counting.fast_path import Classifier, Kinds

    row = packed(messages(values, stamps))
    fast.count(row, Classifier(batch.rules), Kinds(), batch._kind, lambda _: None, odd)
    taken = fast.take()
    assert sum(events for _, events in taken) == len(values) - len(odd)
    return odd, len(taken)
