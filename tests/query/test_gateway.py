"""A gateway's signed tokens: only its own, only for a short time, only what they say."""

from typing import Any

import jwt
import pytest

from orgstats.errors import ConfigurationError
from orgstats.query.access import Caller, Unauthenticated
from orgstats.query.gateway import Gateway, keys_of

KEY, OTHER_KEY = "k" * 32, "o" * 32
NOW = 1_700_000_000.0
CLAIMS: dict[str, Any] = {
    "sub": "billing",
    "org": 7,
    "scope": "org:read org:write",
    "aud": "orgstats",
    "iat": NOW,
    "exp": NOW + 300,
}


def signed(changes: dict[str, Any] | None = None, key: str = KEY, algorithm: str = "HS256") -> str:
    claims = {name: value for name, value in {**CLAIMS, **(changes or {})}.items() if value is not None}
    return jwt.encode(claims, key, algorithm)


def test_a_signed_token_is_a_caller() -> None:
    """The claims become the caller's name, organization and scopes."""
    expected = Caller("gateway:billing", 7, frozenset({"org:read", "org:write"}))
    assert Gateway([KEY]).caller(signed(), NOW) == expected
    assert Gateway([KEY]).caller(signed({"org": "7"}), NOW) == expected
    assert Gateway([KEY]).caller(signed({"org": "*"}), NOW).org_id is None


def test_any_configured_key_is_accepted() -> None:
    """While a key is being changed the old and the new one are good."""
    assert Gateway([OTHER_KEY, KEY]).caller(signed(), NOW).org_id == 7


@pytest.mark.parametrize("name", ["sub", "org", "scope", "aud", "iat", "exp"])
def test_every_claim_is_required(name: str) -> None:
    """A token that leaves one out is refused."""
    with pytest.raises(Unauthenticated, match="Invalid token"):
        Gateway([KEY]).caller(signed({name: None}), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW},
        {"exp": NOW + 3601},
        {"iat": NOW + 61, "exp": NOW + 100},
        {"exp": "9999999999"},
        {"iat": True},
        {"aud": "another"},
        {"org": ""},
        {"org": "7 OR 1=1"},
        {"org": -7},
        {"org": 7.5},
        {"org": ["*"]},
        {"org": "\u0667"},
        {"scope": ["org:read"]},
        {"sub": 5},
    ],
)
def test_wrong_claims_are_refused(changes: dict[str, Any]) -> None:
    """Expired, too long, from the future, for others, or of a wrong type: refused."""
    with pytest.raises(Unauthenticated, match="Invalid token"):
        Gateway([KEY]).caller(signed(changes), NOW)


def test_forged_tokens_are_refused() -> None:
    """Another key, no signature, another algorithm and rubbish are refused."""
    unsigned = jwt.encode(CLAIMS, "", "none")
    deep = "eyJhIjo" + "W1tb" * 900
    for token in (
        signed(key=OTHER_KEY),
        unsigned,
        signed(key="k" * 64, algorithm="HS512"),
        "",
        "a.b.c",
        deep,
        "x" * 100_000,
    ):
        with pytest.raises(Unauthenticated, match="Invalid token"):
            Gateway([KEY, "k" * 64]).caller(token, NOW)


def test_short_keys_are_refused() -> None:
    """A key that can be guessed does not start."""
    with pytest.raises(ConfigurationError, match="32 bytes"):
        Gateway(["k" * 31])
    with pytest.raises(ConfigurationError):
        Gateway([])


def test_a_key_file_has_one_key_a_line() -> None:
    """Blank lines and comments are left out."""
    assert keys_of("# new\nabc \n\n  def\n") == ["abc", "def"]
