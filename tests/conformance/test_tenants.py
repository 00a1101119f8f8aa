"""Attempts to read another tenant's counts, and anything that might upset a server."""

from urllib.parse import quote

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.conftest import FOREIGN, OTHER_ID, Ask, Target

SECRET = "999999999"  # each of the foreign organization's counts
METACHARACTERS = [
    *("'", '"', "\\", "\\'", "`", ";", "--", "/*", "*/", "#", "%", "%%", "%s", "%(org)s", "{org}", "{org:UInt64}"),
    *("\x00", "\n", "\r\n", "\x1a", "' OR '1'='1", "1 OR 1=1", ") OR (1=1", "'; DROP TABLE counts; --", "é", "💥"),
    *("1 UNION ALL SELECT org_id, quantity FROM counts", "8", "other-org", "*", "..", "../other-org", "a" * 5000),
]


def test_no_parameter_reaches_another_tenant(ask: Ask, own: Target) -> None:
    """Whatever names the other organization in the query, the answer is the token's own."""
    expected = ask("until=1584907200").content
    for name in ("org", "org_id", "organization", "organization_id", "organization_slug", "orgId", "project", "tenant"):
        for value in (OTHER_ID, "other-org", f"{OTHER_ID} OR 1=1"):
            assert ask({"until": "1584907200", name: value}).content == expected


def test_no_filter_reaches_another_tenant(ask: Ask, own: Target) -> None:
    """Foreign ids in group, id and projectID give nothing of theirs."""
    for query in (
        f"id={OTHER_ID}",
        f"group=project&id={FOREIGN}",
        f"group=project&projectID={FOREIGN}",
        f"group=organization&projectID={FOREIGN}",
        f"group=project&projectID={FOREIGN}&id={FOREIGN}",
    ):
        assert SECRET not in ask(f"{query}&until=1584907200").text


def test_no_header_reaches_another_tenant(ask: Ask, own: Target) -> None:
    """Bare headers that a gateway might set are not believed."""
    headers = {
        "X-Orgstats-Gateway": "org=8",
        "X-Org-Id": str(OTHER_ID),
        "X-Forwarded-User": "admin",
        "X-Original-URL": "/api/0/organizations/other-org/stats/",
        "X-Sentry-Auth": "Sentry sentry_key=x",
        "X-Forwarded-For": "127.0.0.1",
    }
    assert ask(path="/api/0/organizations/other-org/stats/", headers=headers).status_code == 403
    assert ask(token=None, headers=headers).status_code == 401


def test_no_path_reaches_another_tenant(http: httpx.Client, own: Target) -> None:
    """Detours to the other organization's path end in a refusal or nowhere."""
    headers = {"Authorization": f"Bearer {own.token}"}
    for name in (
        "other-org",
        "8",
        "08",
        "+8",
        "8.0",
        "%38",
        "Other-Org",
        f"{own.slug}/../other-org",
        f"{own.slug}%2F..%2Fother-org",
        "other-org%00",
        "other-org%20",
        "other-org;",
        f"other-org,{own.slug}",
    ):
        answer = http.get(f"/api/0/organizations/{name}/stats/?until=1584907200", headers=headers)
        assert answer.status_code in (403, 404), name
        assert SECRET not in answer.text


def test_metacharacters_in_every_parameter_reach_no_other_tenant(ask: Ask, own: Target) -> None:
    """As slug, token, parameter and header each gives a plain refusal, and never another tenant's numbers."""
    for text in METACHARACTERS:
        encoded = quote(text, safe="")
        answers = [
            ask(path=f"/api/0/organizations/{encoded}/stats/", token=own.every_token),
            ask(path=f"/api/0/projects/{own.slug}/{encoded}/stats/"),
            *(
                ask(f"{name}={encoded}")
                for name in ("stat", "since", "until", "resolution", "group", "id", "projectID", encoded)
            ),
        ]
        if text.isascii() and text.isprintable():
            answers += [ask(token=text), ask(headers={"If-None-Match": text, "X-Orgstats-Gateway": text})]
        for answer in answers:
            assert answer.status_code in (200, 304, 400, 401, 403, 404), (text, answer.text)
        if text not in ("8", "other-org"):
            assert all(SECRET not in answer.text for answer in answers), text


names = st.sampled_from(["stat", "since", "until", "resolution", "group", "id", "projectID", "x"]) | st.text()
values = (
    st.text(max_size=50)
    | st.integers().map(str)
    | st.floats().map(repr)
    | st.sampled_from(["received", "rejected", "10s", "1h", "1d", "project", "1584907200", *METACHARACTERS])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(names, values), max_size=6))
def test_any_parameters_get_a_documented_status(pairs: list[tuple[str, str]], ask: Ask) -> None:
    """No query whatsoever is a 500; it is a series or a 400."""
    query = "&".join(f"{quote(name, errors='replace')}={quote(value, errors='replace')}" for name, value in pairs)
    answer = ask(query)
    assert answer.status_code in (200, 400, 414), (query, answer.text)
    assert answer.status_code == 200 or list(answer.json()) == ["detail"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(alphabet=st.characters(codec="ascii", exclude_characters="#"), max_size=80))
def test_any_query_string_gets_a_documented_status(query: str, ask: Ask) -> None:
    """Also one that is not well-formed."""
    raw = quote(query, safe="%&=+;?/:@!$'()*,~")
    assert ask(raw).status_code in (200, 400, 414), raw
