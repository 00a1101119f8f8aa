"""Callers that a gateway has authenticated already: a JWT that it signed with a key shared with this process."""

import re
from collections.abc import Sequence
from typing import Any, Final

import jwt

from orgstats.errors import ConfigurationError
from orgstats.query.access import Caller, Unauthenticated

AUDIENCE: Final = "orgstats"
ALGORITHM: Final = "HS256"
LEAST_KEY_BYTES: Final = 32
LONGEST_SECONDS: Final = 3_600
"""Nobody can revoke such a token, so none may be valid for longer."""
LONGEST_TOKEN: Final = 4_096

_ORG_ID: Final = re.compile(r"[0-9]{1,20}")


class Gateway:
    """Checks the gateway's tokens: HS256, audience `orgstats`, at most an hour long.

    Claims: `org` (an organization's id, or `*` for every one), `scope` (blank-separated), `iat`, `exp`, and
    `sub`, the name that logs and rate limits show. A token signed with any of the keys is good, so that a
    key can be changed without a break.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or any(len(key.encode()) < LEAST_KEY_BYTES for key in keys):
            raise ConfigurationError(
                f"each gateway key must have at least {LEAST_KEY_BYTES} bytes; make one with `openssl rand -hex 32`"
            )
        self._keys = tuple(keys)

    def caller(self, token: str, now: float) -> Caller:
        """The caller a token stands for at `now`; raises Unauthenticated, never saying why."""
        claims = self._claims(token, now)
        org, scope = str(claims["org"]), claims["scope"]
        if not isinstance(scope, str) or not (org == "*" or _ORG_ID.fullmatch(org)):
            raise Unauthenticated("Invalid token")
        org_id = None if org == "*" else int(org)
        return Caller(f"gateway:{claims['sub']}", org_id, frozenset(scope.split()))

    def _claims(self, token: str, now: float) -> dict[str, Any]:
        """The claims of a token that one of the keys signed and that is valid at `now`."""
        for key in self._keys if len(token) <= LONGEST_TOKEN else ():
            try:
                claims = jwt.decode(
                    token,
                    key,
                    algorithms=[ALGORITHM],
                    audience=AUDIENCE,
                    # The times are classified here, at a time that is an argument.
                    options={
                        "require": ["sub", "org", "scope", "iat", "exp", "aud"],
                        "verify_exp": False,
                        "verify_iat": False,
                        "verify_nbf": False,
                    },
                )
            except (jwt.InvalidTokenError, RecursionError):  # the header is JSON from a stranger
                continue
            if _in_time(claims, now):
                return claims
        raise Unauthenticated("Invalid token")


def _in_time(claims: dict[str, Any], now: float) -> bool:
    issued, expires = claims["iat"], claims["exp"]
    numbers = all(type(value) in (int, float) for value in (issued, expires))
    return numbers and now < expires <= issued + LONGEST_SECONDS and issued <= now + 60


def keys_of(text: str) -> list[str]:
    """The keys in a key file: one a line, blank lines and lines with # in front left out."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
