"""Answers as bytes: the form of a body, the hash of it, conditional requests."""

import gzip
import json

import pytest

from orgstats.query.http import NOTHING, Answer, body_of_projects, body_of_series, failure, matches


def test_series_body_format() -> None:
    """Timestamps have a fraction, counts are integers of any size."""
    assert body_of_series([(1584824400, 6090), (1584828000, 2**70)]).content == (
        b"[[1584824400.0, 6090], [1584828000.0, 1180591620717411303424]]"
    )
    assert body_of_series([(1584824400, 6090)], integers=True).content == b"[[1584824400, 6090]]"
    assert body_of_projects({1: [(10, 2)]}, integers=True).content == b'{"1": [[10, 2]]}'
    assert body_of_series([(-3600, 0)]).content == b"[[-3600.0, 0]]"


def test_project_series_body_format() -> None:
    """An object by project id, valid JSON."""
    body = body_of_projects({11: [(0, 1)], 12: [(0, 2), (10, 3)]})
    assert json.loads(body.content) == {"11": [[0.0, 1]], "12": [[0.0, 2], [10.0, 3]]}
    assert NOTHING.content == b"[]"


def test_etag_is_a_hash_of_the_body() -> None:
    """Equal bodies have equal ETags, and one different count changes it."""
    one, same, other = (body_of_series([(0, count)]) for count in (1, 1, 2))
    assert one.etag == same.etag != other.etag
    assert one.etag.startswith('"')
    assert one.etag.endswith('"')


@pytest.mark.parametrize("header", ['"x"', 'W/"x"', '"a", "x"', '"a",W/"x"', "*", ' "x" '])
def test_matching_if_none_match(header: str) -> None:
    """The ETag alone, in a list, weak, or any."""
    assert matches(header, '"x"')


@pytest.mark.parametrize("header", [None, "", '"y"', "x", '"xx"', "W/"])
def test_other_if_none_match_does_not_match(header: str | None) -> None:
    """No condition, or the ETag of something else."""
    assert not matches(header, '"x"')


def test_errors_are_json_that_no_cache_keeps() -> None:
    """The text is told as detail, whatever characters it holds."""
    answer = failure(400, 'Invalid stat: "\n💥', ("Retry-After", "5"))
    assert json.loads(answer.body) == {"detail": 'Invalid stat: "\n💥'}
    assert answer.headers == (("Cache-Control", "no-store"), ("Retry-After", "5"))


def test_304_has_no_content_length() -> None:
    """Its length would be that of a body that is not sent."""
    assert b"content-length" not in dict(Answer(304).raw_headers())
    assert dict(Answer(200, b"[]").raw_headers())[b"content-length"] == b"2"


def test_a_body_is_compressed_once() -> None:
    """However often it is asked for: it is cached for many requests."""
    body = body_of_series([(10 * n, n) for n in range(1_000)])
    assert body.gzipped is body.gzipped
    assert gzip.decompress(body.gzipped) == body.content
