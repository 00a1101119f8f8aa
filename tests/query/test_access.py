"""Tokens: what is one, what is stored of it, and what it permits."""

import pytest

from orgstats.query.access import (
    Caller,
    Forbidden,
    NotFound,
    Organization,
    Token,
    Unauthenticated,
    bearer,
    caller_of,
    checked_digest,
    digest_of,
    new_token,
    permit,
)

ACME = Organization(7, "acme", "Acme")
READ = frozenset({"org:read"})


def stored(token: str, *, expires_at: float | None = None, revoked: bool = False) -> Token:
    return Token(digest_of(token), "abc", "test", 7, READ, expires_at, 0.0, revoked)


def test_tokens_are_long_and_differ() -> None:
    """Each token has a prefix for scanners and 256 random bits."""
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(token.startswith("ost_") and len(token) == 47 for token in tokens)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic eDp5", "bearerx", "ost_abc"])
def test_missing_or_malformed_credentials_are_unauthenticated(header: str | None) -> None:
    """No header, another scheme and a scheme without a token are no credentials."""
    with pytest.raises(Unauthenticated, match=r"Authentication credentials were not provided\."):
        bearer(header)


@pytest.mark.parametrize("header", ["Bearer x", "bearer x", "BEARER  x ", " Bearer x"])
def test_bearer_and_basic_headers_give_the_token(header: str) -> None:
    """The scheme is found in any case, blanks around are left out."""
    assert bearer(header) == "x"


@pytest.mark.parametrize("token", ["x", "ost_", "ost_" + "a" * 42, "ost_" + "a" * 44, "ost_" + "é" * 43, "a b"])
def test_what_cannot_be_a_token_is_not_looked_up(token: str) -> None:
    """Anything that is not of a token's form is refused without asking ClickHouse."""
    with pytest.raises(Unauthenticated, match="Invalid token"):
        checked_digest(token)


def test_a_stored_token_is_a_caller() -> None:
    """A valid token stands for its name, organization and scopes until the moment it expires."""
    token = new_token()
    digest = checked_digest(token)
    assert caller_of(stored(token, expires_at=10.0), digest, 9.9) == Caller("abc", 7, READ)


def test_unknown_expired_and_revoked_tokens_are_refused() -> None:
    """Unknown, expired, revoked and somebody else's tokens all give the same answer."""
    token = new_token()
    digest = digest_of(token)
    for found, now in (
        (None, 0.0),
        (stored(token, expires_at=10.0), 10.0),
        (stored(token, revoked=True), 0.0),
        (stored(new_token()), 0.0),
    ):
        with pytest.raises(Unauthenticated, match="Invalid token"):
            caller_of(found, digest, now)


def test_caller_may_read_its_organization() -> None:
    """Its own organization, or every one."""
    assert permit(Caller("a", 7, READ), ACME) == ACME
    assert permit(Caller("a", None, READ), ACME) == ACME


@pytest.mark.parametrize(
    ("caller", "organization"),
    [
        (Caller("a", 8, READ), ACME),
        (Caller("a", 7, frozenset()), ACME),
        (Caller("a", None, frozenset({"org:write"})), ACME),
        (Caller("a", 7, READ), None),
        (Caller("a", 0, READ), ACME),
    ],
)
def test_caller_may_not_read_other_organizations(caller: Caller, organization: Organization | None) -> None:
    """Another organization, any without the scope; and it is not told which organizations exist."""
    with pytest.raises(Forbidden, match=r"You do not have permission to perform this action\."):
        permit(caller, organization)


def test_caller_of_all_organizations_is_told_of_a_missing_one() -> None:
    """Only a caller for every organization learns that one does not exist."""
    with pytest.raises(NotFound, match="The requested resource does not exist"):
        permit(Caller("a", None, READ), None)
    with pytest.raises(Forbidden):
        permit(Caller("a", None, frozenset()), None)
