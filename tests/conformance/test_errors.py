"""Every error of the contract: its status, its exact text, and who gets it."""

import base64
import json
from typing import Any

import pytest

from tests.conformance.conftest import Ask, Target

FORBIDDEN = "You do not have permission to perform this action."
UNKNOWN_TOKEN = "ost_" + "A" * 43


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        *(({"resolution": text}, "Invalid resolution") for text in ("1m", "x", "10", "1w", "0s", "-1h", "\uff11h")),
        *(
            ({"until": text}, "until must be a numeric timestamp.")
            for text in ("x", "nan", "inf", "-inf", "-1", "4294967296", "1e99", "2020-01-01", "1_0", "0x1", " ")
        ),
        *(
            ({"since": text}, "since must be a numeric timestamp")
            for text in ("x", "NaN", "Infinity", "-0.1", "4294967296", "٣", "1 2")
        ),
        ({"since": "11", "until": "10"}, "start must be before or equal to end"),
        ({"since": "10.1", "until": "10"}, "start must be before or equal to end"),
        *(
            ({"statsPeriod": text}, "Invalid statsPeriod; a whole number and one of s, m, h, d, w, as in 24h")
            for text in ("x", "24", "h", "-1h", "1.5h", "0d", "1y", "1h 1m")
        ),
        ({"group": "x"}, "Invalid group: x; organization or project"),
        *(({"stat": text}, f"Invalid stat: {text}") for text in ("x", "GENERATED", "RECEIVED", "'; --", "é💥", "a\tb")),
    ],
)
def test_invalid_parameter_returns_400_with_exact_text(params: dict[str, str], detail: str, ask: Ask) -> None:
    """Each wrong parameter gives the text that clients match on, and nothing else."""
    answer = ask(params)
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})


@pytest.mark.parametrize(
    ("params", "fitting"),
    [
        ({"since": "0", "until": "100000", "resolution": "10s"}, "1h"),
        ({"since": "0", "until": "1500000000", "resolution": "1h"}, None),
        ({"since": "0", "until": "40000000", "resolution": "1h"}, "1d"),
        ({"since": "0", "until": "4294967295"}, None),
    ],
)
def test_too_many_buckets_return_400(params: dict[str, str], fitting: str | None, ask: Ask) -> None:
    """A sentence with the limit and the finest resolution that would fit, if one does."""
    answer = ask(params)
    detail = answer.json()["detail"]
    assert answer.status_code == 400
    assert "10,000" in detail
    assert f"the finest resolution that would fit is {fitting}" in detail if fitting else "shorter range" in detail


@pytest.mark.parametrize(
    "credentials", [None, "", "Basic eDp5", "Basic", "Basic !", "Basic Og==", "Bearer", "Token abc"]
)
def test_missing_credentials_return_401(credentials: str | None, ask: Ask) -> None:
    """Nothing, nothing useful, and other schemes are no credentials."""
    answer = ask(token=None, headers={} if credentials is None else {"Authorization": credentials})
    assert (answer.status_code, answer.json()) == (401, {"detail": "Authentication credentials were not provided."})
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "token", ["x", UNKNOWN_TOKEN, "ost_", "' OR 1=1 --", UNKNOWN_TOKEN + " x", "a.b.c", "0" * 5000]
)
def test_unknown_token_returns_401(token: str, ask: Ask) -> None:
    """Whatever it looks like."""
    answer = ask(token=token)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid token"})
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_expired_and_revoked_tokens_return_401(ask: Ask, own: Target) -> None:
    """Expired and revoked tokens are as good as unknown ones."""
    for token in (own.expired_token, own.revoked_token):
        answer = ask(token=token)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid token"})


def test_basic_credentials_carry_the_token(ask: Ask, target: Target) -> None:
    """The token as the user with an empty password, as older clients send it, is as good as a bearer's."""
    good, unknown = (
        {"Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()}
        for user in (target.token, UNKNOWN_TOKEN)
    )
    assert ask(token=None, headers=good).status_code == 200
    answer = ask(token=None, headers=unknown)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid token"})
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_403_is_the_same_for_foreign_and_missing_organization(ask: Ask, target: Target) -> None:
    """Another organization and one that does not exist give the same answer."""
    names = ["no-such-organization", "999999999", *([target.other_org] if target.other_org else [])]
    bodies = set()
    for name in names:
        answer = ask(path=f"/api/0/organizations/{name}/stats/")
        assert (answer.status_code, answer.json()) == (403, {"detail": FORBIDDEN})
        bodies.add(answer.content)
    assert len(bodies) == 1


def test_403_is_decided_before_400(ask: Ask) -> None:
    """Who may not read learns nothing of the parameters."""
    assert ask({"stat": "x"}, path="/api/0/organizations/no-such-organization/stats/").status_code == 403


def test_404_only_for_token_of_all_organizations(ask: Ask, target: Target) -> None:
    """A token for every organization is told that one does not exist."""
    if target.every_token is None:
        pytest.skip("needs ORGSTATS_CONFORMANCE_EVERY_TOKEN")
    for name in ("no-such-organization", "999999999", str(2**64), "x" * 3000, "%27%20OR%201=1", "%F0%9F%92%A5", "%00"):
        answer = ask(path=f"/api/0/organizations/{name}/stats/", token=target.every_token)
        assert (answer.status_code, answer.json()) == (404, {"detail": "The requested resource does not exist"})


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.parametrize("with_token", [True, False])
def test_other_methods_return_405(method: str, with_token: bool, ask: Ask, target: Target) -> None:
    """Any method but GET, HEAD and OPTIONS, with the method's name, whoever asks."""
    answer = ask(method=method, token=target.token if with_token else None)
    assert (answer.status_code, answer.json()) == (405, {"detail": f'Method "{method}" not allowed.'})


def test_error_bodies_show_no_sql_trace_or_host(ask: Ask) -> None:
    """Neither SQL nor a trace nor a host's name, whatever was sent."""
    wrong: list[dict[str, Any]] = [{"stat": "SELEC"}, {"since": "'"}, {"resolution": "\\"}, {"group": "x"}, {"id": "'"}]
    for params in wrong:
        answer = ask(params)
        assert answer.status_code == 400
        assert list(answer.json()) == ["detail"]
        for inside in ("SELECT ", "Traceback", "FROM counts", "clickhouse", "127.0.0.1", "DB::Exception"):
            assert inside not in json.dumps(answer.json())
