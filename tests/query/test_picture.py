"""The picture of a series in a terminal."""

from orgstats.query.picture import picture


def test_picture_draws_columns() -> None:
    """Columns stand on the last row, the highest fills all rows, and a single event is still seen."""
    points = [(1584824400 + 10 * n, count) for n, count in enumerate([0, 1, 500, 1000])]
    assert picture(points, columns=20, rows=2) == (
        "1,000    █\n    0  ▁██\n      2020-03-21T21:00:00Z … 2020-03-21T21:00:30Z"
    )


def test_nothing_is_an_empty_picture() -> None:
    """A series of zeros has no columns and does not fail."""
    assert "█" not in picture([(0, 0), (10, 0)], columns=40)


def test_a_picture_fits_its_columns() -> None:
    """More points than columns are summed, and no line is longer than the terminal but the times."""
    lines = picture([(10 * n, 1) for n in range(10_000)], columns=60).splitlines()
    assert max(map(len, lines[:-1])) <= 60
