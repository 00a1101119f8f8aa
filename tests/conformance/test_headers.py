"""Headers of every answer of the endpoint, the other methods, and conditional requests."""

import time

import httpx
import pytest

from tests.conformance.conftest import COMPLETE_UNTIL, Ask, Target

EVERY_ANSWER = {
    "Content-Type": "application/json",
    "X-XSS-Protection": "1; mode=block",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
    "Content-Language": "en",
    "Vary": "Accept-Language, Cookie",
    "Allow": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": (
        "X-Sentry-Auth, X-Requested-With, Origin, Accept, Content-Type, Authentication, Authorization"
    ),
    "Access-Control-Expose-Headers": (
        "X-Sentry-Error, Retry-After, ETag, X-Stats-Complete-Until, X-Stats-Retained-Since"
    ),
}


def test_every_answer_has_the_headers(ask: Ask, target: Target) -> None:
    """Successes and errors alike, the length being that of the body."""
    answers = {
        200: ask(),
        400: ask({"stat": "x"}),
        401: ask(token=None),
        403: ask(path="/api/0/organizations/no-such-organization/stats/"),
        405: ask(method="POST"),
    }
    if target.every_token:
        answers[404] = ask(path="/api/0/organizations/no-such-organization/stats/", token=target.every_token)
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["Content-Length"] == str(len(answer.content))
        assert {name: answer.headers.get(name) for name in EVERY_ANSWER} == EVERY_ANSWER
        assert "Server" not in answer.headers


def test_head_is_get_without_a_body(ask: Ask) -> None:
    """The same status and headers, the length of the body that GET gives."""
    for params in ({"until": 1_584_907_200}, {"stat": "x"}):
        got, head = ask(params), ask(params, method="HEAD")
        assert head.content == b""
        assert head.status_code == got.status_code
        assert unmoving(head.headers) == unmoving(got.headers)


def unmoving(headers: httpx.Headers) -> dict[str, str]:
    """Headers without those that change from second to second."""
    changing = ("date", "x-stats-", "x-sentry-rate-limit-")
    return {name: value for name, value in headers.items() if not name.startswith(changing)}


def test_options_needs_no_token(ask: Ask) -> None:
    """A browser asks before it sends a token, also about organizations that are not there."""
    for path in ("/api/0/organizations/no-such-organization/stats/", "/api/0/organizations/1/stats"):
        answer = ask(path=path, method="OPTIONS", token=None, headers={"Origin": "https://example.org"})
        assert answer.status_code == 200
        allowed = EVERY_ANSWER["Access-Control-Allow-Headers"] + ", Content-Encoding, sentry-trace, baggage"
        expected = {**EVERY_ANSWER, "Access-Control-Allow-Headers": allowed}
        assert {name: answer.headers.get(name) for name in EVERY_ANSWER} == expected
        assert answer.headers["Access-Control-Max-Age"] == "3600"


def test_long_answer_is_gzipped_if_accepted(ask: Ask) -> None:
    """The same series with a weak ETag that gives a 304; others, and short answers, are as they were."""
    params = {"since": 1_584_900_000, "until": 1_584_910_000, "resolution": "10s"}
    plain = ask(params, headers={"Accept-Encoding": "gzip;q=0, *;q=0"})
    small = ask(params, headers={"Accept-Encoding": "br, gzip"})
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == EVERY_ANSWER["Vary"]
    assert small.headers["Content-Encoding"] == "gzip"
    assert small.headers["Vary"] == "Accept-Language, Cookie, Accept-Encoding"
    assert small.headers["ETag"] == "W/" + plain.headers["ETag"]
    assert int(small.headers["Content-Length"]) < len(plain.content) / 4
    assert small.content == plain.content
    for known in (small, plain):
        for coding, as_before in (("gzip", small), ("identity", plain)):
            again = ask(params, headers={"If-None-Match": known.headers["ETag"], "Accept-Encoding": coding})
            assert again.status_code == 304
            assert [again.headers[name] for name in ("ETag", "Vary")] == [
                as_before.headers[name] for name in ("ETag", "Vary")
            ]
    assert "Content-Encoding" not in ask({"until": 1_584_907_200}, headers={"Accept-Encoding": "gzip"}).headers


def test_etag_match_returns_304(ask: Ask) -> None:
    """If-None-Match with the ETag, alone, weak or in a list, gives 304 without a body."""
    params = {"until": 1_584_907_200}
    etag = ask(params).headers["ETag"]
    for condition in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = ask(params, headers={"If-None-Match": condition})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == etag
        assert {name: answer.headers.get(name) for name in EVERY_ANSWER} == EVERY_ANSWER


def test_etag_mismatch_returns_200(ask: Ask) -> None:
    """The ETag of other numbers, or of other buckets, does not match."""
    params = {"until": 1_584_907_200}
    etag = ask({"until": 1_584_907_200 + 3600}).headers["ETag"]
    assert ask(params, headers={"If-None-Match": etag}).status_code == 200
    assert ask(params, headers={"If-None-Match": '"x"'}).status_code == 200


def test_if_none_match_still_needs_a_token(ask: Ask) -> None:
    """Nobody learns with a 304 what they may not read."""
    etag = ask().headers["ETag"]
    assert ask(token=None, headers={"If-None-Match": etag}).status_code == 401


def test_cache_control_by_status(ask: Ask) -> None:
    """A series may be kept by its reader, who has to ask again; errors may not be kept."""
    assert ask().headers["Cache-Control"] == "private, no-cache"
    assert ask({"stat": "x"}).headers["Cache-Control"] == "no-store"


def test_complete_until_header(ask: Ask, own: Target) -> None:
    """Whole seconds, of what the consumers have written."""
    assert ask().headers["X-Stats-Complete-Until"] == str(COMPLETE_UNTIL)


def test_retained_since_header(ask: Ask, own: Target) -> None:
    """The retention of 90 days, counted from now."""
    since = int(ask().headers["X-Stats-Retained-Since"])
    assert since == pytest.approx(time.time() - 90 * 86_400, abs=30)
