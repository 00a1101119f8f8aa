"""What the endpoint counts, in which buckets, and how it writes them."""

import re
from datetime import UTC, datetime

import httpx
import pytest

from orgstats.query.params import MAX_BUCKETS
from orgstats.schemas.outcomes import STATS, Outcome
from tests.conformance.conftest import MATRIX_BUCKET, Ask, Target
from tests.query.seeding import EXAMPLE, EXAMPLE_FIRST

UNTIL = 1_584_907_200


def starts(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    return [start for start, _ in answer.json()]


def test_the_published_example(ask: Ask, own: Target) -> None:
    """The 24 published points, as the default window ending with the last one."""
    expected = [[float(EXAMPLE_FIRST + 3600 * hour), count] for hour, count in enumerate(EXAMPLE)]
    assert ask({"until": UNTIL}).json() == expected
    assert ask({"since": EXAMPLE_FIRST, "until": UNTIL, "resolution": "1h", "stat": "received"}).json() == expected


def test_the_body_is_an_array_of_float_and_integer(ask: Ask) -> None:
    """A bare array; each timestamp has a fraction, each count has none."""
    text = ask({"until": UNTIL}).text
    assert re.fullmatch(r"\[(\[\d+\.0, ?\d+\](, ?|(?=\])))+\]", text)


def test_the_default_is_the_last_24_hours(ask: Ask) -> None:
    """Without parameters there are 24 hourly points up to now."""
    before = datetime.now(UTC).timestamp()
    answered = starts(ask())
    assert len(answered) == 24
    assert answered[-1] in {before // 3600 * 3600, datetime.now(UTC).timestamp() // 3600 * 3600}
    assert [later - 3600 for later in answered[1:]] == answered[:-1]


@pytest.mark.parametrize("stat", STATS)
def test_each_stat_sums_its_outcomes_of_the_error_categories(stat: str, ask: Ask, own: Target) -> None:
    """Only default, error and security count; received holds accepted, rejected and blacklisted."""
    outcomes = {
        "received": (Outcome.accepted, Outcome.filtered, Outcome.rate_limited),
        "rejected": (Outcome.rate_limited,),
        "blacklisted": (Outcome.filtered,),
        "generated": (Outcome.accepted,),
    }
    expected = sum(2 ** (outcome * 7 + place) for outcome in outcomes[stat] for place in (0, 1, 3))
    answer = ask(
        {"stat": stat, "since": MATRIX_BUCKET, "until": MATRIX_BUCKET},
        path="/api/0/organizations/matrix/stats/",
        token=own.every_token,
    )
    assert answer.json() == [[float(MATRIX_BUCKET), expected]]


def test_an_organization_without_data_gets_zeros(ask: Ask, own: Target) -> None:
    """Zeros, not an error."""
    answer = ask({"until": UNTIL}, path="/api/0/organizations/empty-org/stats/", token=own.every_token)
    assert [count for _, count in answer.json()] == [0] * 24


@pytest.mark.parametrize(
    ("since", "until", "resolution", "expected"),
    [
        # the last bucket contains until; stepping back from it must stay at or above since
        (3600, 7200, "1h", [3600, 7200]),
        (3601, 7200, "1h", [7200]),
        (3599, 7200, "1h", [3600, 7200]),
        (3600, 10799, "1h", [3600, 7200]),
        (3599.5, 7199.5, "1h", [0, 3600]),
        (3599.6, 7199.5, "1h", [3600]),
        (5, 25, "10s", [0, 10, 20]),
        (6, 25, "10s", [10, 20]),
        (100, 100, "10s", [100]),
        (100, 100, "1d", [0]),
        (86_399, 86_400, "1d", [86_400]),
        (0, 86_400, "1d", [0, 86_400]),
        (0, 0, "10s", [0]),
        (4_294_967_295, 4_294_967_295, "10s", [4_294_967_290]),
        (4_294_880_895, 4_294_967_295, "1d", [4_294_857_600, 4_294_944_000]),
    ],
)
def test_buckets_match_the_contract_examples(
    since: float, until: float, resolution: str, expected: list[int], ask: Ask
) -> None:
    """Made backwards from until while at or after since, floored to the width, ascending."""
    assert starts(ask({"since": since, "until": until, "resolution": resolution})) == expected


def test_a_bucket_is_counted_whole(ask: Ask, own: Target) -> None:
    """A window inside of one bucket gives all of that bucket."""
    inside = {"since": EXAMPLE_FIRST + 100, "until": EXAMPLE_FIRST + 200, "resolution": "1h"}
    assert ask(inside).json() == [[float(EXAMPLE_FIRST), EXAMPLE[0]]]
    before = {"since": EXAMPLE_FIRST - 10, "until": EXAMPLE_FIRST - 1, "resolution": "10s"}
    assert ask(before).json() == [[float(EXAMPLE_FIRST - 10), 0]]


def test_days_sum_their_hours(ask: Ask, own: Target) -> None:
    """The same events at every resolution: 3 hours of the first day, 21 of the second."""
    days = ask({"since": EXAMPLE_FIRST, "until": UNTIL + 3599, "resolution": "1d"}).json()
    assert [count for _, count in days] == [sum(EXAMPLE[3:])]
    both = ask({"since": UNTIL - 86_400, "until": UNTIL, "resolution": "1d"}).json()
    assert [count for _, count in both] == [sum(EXAMPLE[:3]), sum(EXAMPLE[3:])]
    tens = ask({"since": UNTIL - 3600, "until": UNTIL, "resolution": "10s"}).json()
    assert len(tens) == 361
    assert [point for point in tens if point[1]] == [[float(UNTIL - 3600), 7460], [float(UNTIL), 11448]]


@pytest.mark.parametrize(
    ("seconds", "width"), [(0, 10), (3600, 10), (3601, 3600), (604_800, 3600), (604_801, 86_400), (31_536_000, 86_400)]
)
def test_the_default_resolution(seconds: int, width: int, ask: Ask) -> None:
    """10 s up to an hour, 1 h up to a week, otherwise 1 d."""
    answered = starts(ask({"since": UNTIL - seconds, "until": UNTIL}))
    assert answered[-1] == UNTIL // width * width
    assert len(answered) == seconds // width + 1


@pytest.mark.parametrize(
    ("spelling", "width"),
    [("10s", 10), ("1h", 3600), ("60m", 3600), ("3600s", 3600), ("1d", 86_400), ("24h", 86_400), ("1440m", 86_400)],
)
def test_spellings_of_the_resolution(spelling: str, width: int, ask: Ask) -> None:
    """Every integer and unit that comes to one of the three widths."""
    answered = starts(ask({"since": UNTIL - 90_000, "until": UNTIL, "resolution": spelling}))
    assert answered[-1] - answered[-2] == width


def test_ten_thousand_buckets_are_allowed(ask: Ask) -> None:
    """10,000 buckets are answered, and 10,001 refused."""
    since = UNTIL - 10 * (MAX_BUCKETS - 1)
    assert len(starts(ask({"since": since, "until": UNTIL, "resolution": "10s"}))) == MAX_BUCKETS
    assert ask({"since": since - 10, "until": UNTIL, "resolution": "10s"}).status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        f"until=5&until={UNTIL}",
        f"until=nonsense&until={UNTIL}",
        f"stat=nonsense&stat=&until={UNTIL}",
        f"until={UNTIL}&since=&resolution=&stat=",
        f"until={UNTIL}&interval=5m&field=sum(quantity)&org_id=8&organization=other",
        f"until={UNTIL}.0",
        f"until=+{UNTIL}",
        f"until={UNTIL}&&=&x",
    ],
)
def test_last_parameter_wins_empty_is_absent_unknown_ignored(query: str, ask: Ask) -> None:
    """Each of these spells the same request."""
    answer = ask(query)
    assert starts(answer) == [float(EXAMPLE_FIRST + 3600 * hour) for hour in range(24)]
    assert answer.content == ask({"until": UNTIL}).content


@pytest.mark.parametrize(
    ("period", "since"),
    [("1d", UNTIL - 86_399), ("24h", UNTIL - 86_399), ("90m", UNTIL - 5_399), ("1w", UNTIL - 604_799)],
)
def test_stats_period_replaces_since(period: str, since: int, ask: Ask) -> None:
    """The window is that long up to until; a since goes before it, and an empty one is absent."""
    asked = {"until": UNTIL, "resolution": "1h"}
    assert ask({**asked, "statsPeriod": period}).content == ask({**asked, "since": since}).content
    assert ask({**asked, "since": UNTIL, "statsPeriod": period}).content == ask({**asked, "since": UNTIL}).content
    assert ask({**asked, "statsPeriod": ""}).content == ask(asked).content


def test_slug_id_and_trailing_slashes_answer_alike(ask: Ask, target: Target) -> None:
    """The slug, the numeric id where it is known, without a slash at the end, with one and with two."""
    names = [target.slug, *([] if target.org_id is None else [str(target.org_id)])]
    paths = [f"/api/0/organizations/{name}/stats{slash}" for name in names for slash in ("", "/", "//")]
    answers = [ask({"until": UNTIL}, path=path) for path in paths]
    assert {answer.content for answer in answers} == {ask({"until": UNTIL}).content}
