"""Who may read which organization: tokens that are kept only as hashes, and what they permit."""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from orgstats.errors import OrgstatsError

READ_SCOPE: Final = "org:read"
OPS_SCOPE: Final = "ops"
"""Sees how counting goes on, and dead letters, which hold records of every organization: never one's own token."""
TOKEN_PREFIX: Final = "ost_"  # noqa: S105 - the public start of every token, for scanners to find leaked ones

_TOKEN: Final = re.compile(rf"{TOKEN_PREFIX}[A-Za-z0-9_-]{{43}}")


class Unauthenticated(OrgstatsError):
    """Nobody is known to be asking; the text is what the client is told (status 401)."""


class Forbidden(OrgstatsError):
    """The caller is known and may not do this (status 403)."""

    def __init__(self) -> None:
        super().__init__("You do not have permission to perform this action.")


class NotFound(OrgstatsError):
    """What is asked for does not exist, and the caller may know that (status 404)."""

    def __init__(self) -> None:
        super().__init__("The requested resource does not exist")


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization that exists; when it was last changed, epoch milliseconds."""

    org_id: int
    slug: str
    name: str
    changed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    """A project of an organization; when it was last changed, epoch milliseconds."""

    project_id: int
    slug: str
    name: str
    changed_ms: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """What is stored of a token; times in epoch seconds, `org_id` None for every organization."""

    digest: str
    token_id: str
    name: str
    org_id: int | None
    scopes: frozenset[str]
    expires_at: float | None
    created_at: float
    revoked: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: a name for logs and limits, and what may be read; `org_id` None for every organization."""

    name: str
    org_id: int | None
    scopes: frozenset[str]


def new_token() -> str:
    """A token of 256 random bits; it is shown once and stored only as its digest."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    """SHA-256 of a token in hexadecimal. Its 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header, of Basic the user beside an empty password; raises Unauthenticated.

    Another scheme, or none, is no credentials at all; so it is in the original.
    """
    scheme, _, token = (authorization or "").strip().partition(" ")
    if scheme.lower() == "basic":
        token = _user_without_password(token.strip())
    elif scheme.lower() != "bearer":
        token = ""
    if not token.strip():
        raise Unauthenticated("Authentication credentials were not provided.")
    return token.strip()


def _user_without_password(credentials: str) -> str:
    """The user of Basic credentials; empty when they are none, or have a password."""
    try:
        user, _, password = base64.b64decode(credentials, validate=True).decode("ascii").partition(":")
    except ValueError:
        return ""
    return "" if password else user


def checked_digest(token: str) -> str:
    """The digest to look up; raises Unauthenticated for what cannot be a token, without asking anyone."""
    if not _TOKEN.fullmatch(token):
        raise Unauthenticated("Invalid token")
    return digest_of(token)


def token_of(row: tuple[Any, ...]) -> Token:
    """The token in a row of `sql.token` or `sql.tokens`."""
    digest, token_id, name, org_id, all_orgs, scopes, expires_ms, created_ms, revoked, _ = row
    return Token(
        digest=digest,
        token_id=token_id,
        name=name,
        org_id=None if all_orgs else org_id,
        scopes=frozenset(scopes),
        expires_at=None if expires_ms is None else expires_ms / 1000,
        created_at=created_ms / 1000,
        revoked=bool(revoked),
    )


def caller_of(token: Token | None, digest: str, now: float) -> Caller:
    """The caller that a stored token stands for at `now`; raises Unauthenticated.

    Digests are compared in constant time. A timing of the lookup itself tells an attacker nothing: what is
    looked up is a hash that they cannot steer.
    """
    if token is None or not hmac.compare_digest(token.digest, digest) or not is_valid(token, now):
        raise Unauthenticated("Invalid token")
    return Caller(token.token_id, token.org_id, token.scopes)


def is_valid(token: Token, now: float) -> bool:
    """Whether a token is neither revoked nor expired at `now`."""
    return not token.revoked and (token.expires_at is None or now < token.expires_at)


def permit(caller: Caller, organization: Organization | None) -> Organization:
    """The organization, if the caller may read it; raises Forbidden, or NotFound to who may see all of them."""
    permit_listing(caller)
    if organization is None:
        raise NotFound if caller.org_id is None else Forbidden
    if caller.org_id not in (None, organization.org_id):
        raise Forbidden
    return organization


def permit_operating(caller: Caller) -> None:
    """Raises Forbidden for all but operators."""
    if OPS_SCOPE not in caller.scopes or caller.org_id is not None:
        raise Forbidden


def permit_listing(caller: Caller) -> None:
    """Raises Forbidden for who may read no organization."""
    if READ_SCOPE not in caller.scopes:
        raise Forbidden
