"""Organizations, projects and tokens as operators manage them."""

import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from orgstats.errors import OrgstatsError
from orgstats.query import sql
from orgstats.query.access import READ_SCOPE, Organization, Project, Token, digest_of, new_token, token_of
from orgstats.query.clickhouse import Database
from orgstats.schemas.tables import OrganizationRow, ProjectRow, TokenRow

LARGEST_ID: Final = 2**63 - 1
"""The largest id that an event can carry."""

_SLUG: Final = re.compile(r"(?![0-9]+$)[a-z0-9][a-z0-9_-]{0,99}")


class InvalidArgument(OrgstatsError):
    """What was given names nothing that exists, or cannot be; the text says what would do."""

    exit_code = 2


class Directory:
    """Reads and changes who exists and who may read; every method may raise Unavailable.

    Failure semantics: a change is one row that replaces an older one, so asking again after a failure is
    safe, except for `create_token`, whose token is lost with its answer: make another, revoke by its name.
    ClickHouse has no unique keys: of two people who take one slug at the same moment both succeed, and the
    organization with the lower id answers to it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def organizations(self) -> list[Organization]:
        """Every organization, by id."""
        return [Organization(*row[:3]) for row in self._database.read(sql.organizations())]

    def organization(self, name: str) -> Organization:
        """The organization with this slug or numeric id; raises InvalidArgument when there is none."""
        rows = self._database.read(sql.organization(name))
        if not rows:
            raise InvalidArgument(f"there is no organization {name!r}; `orgstats orgs ls` shows all")
        return Organization(*rows[0])

    def add_organization(self, slug: str, *, name: str = "", org_id: int | None = None, now: float) -> Organization:
        """Add an organization, or give the one with this id another slug and name.

        Without an id it is the one that has this slug, or the next free one. Raises InvalidArgument when
        the slug is no slug or another organization's.
        """
        rows = self._database.read(sql.organizations())
        added = _named(slug, name, org_id, {row[0]: row[1] for row in rows})
        updated = _later({row[0]: row[3] for row in rows}.get(added[0]), now)
        self._database.insert("organizations", [OrganizationRow(*added, updated)])
        return Organization(*added)

    def projects(self, org_id: int) -> list[Project]:
        """The projects of an organization, by id."""
        return [Project(*row[:3]) for row in self._database.read(sql.projects(org_id))]

    def add_project(
        self, org_id: int, slug: str, *, name: str = "", project_id: int | None = None, now: float
    ) -> Project:
        """Add a project, as add_organization does an organization; slugs are free in each organization."""
        rows = self._database.read(sql.projects(org_id))
        added = _named(slug, name, project_id, {row[0]: row[1] for row in rows})
        updated = _later({row[0]: row[3] for row in rows}.get(added[0]), now)
        self._database.insert("projects", [ProjectRow(org_id, *added, updated)])
        return Project(*added)

    def create_token(self, *, org_id: int | None, name: str, expires_at: float | None, now: float) -> tuple[str, Token]:
        """A new token, which is kept nowhere, and what is stored of it; `org_id` None for every organization."""
        secret = new_token()
        scopes = frozenset({READ_SCOPE})
        token = Token(digest_of(secret), secrets.token_hex(4), name, org_id, scopes, expires_at, now, revoked=False)
        self._store(token, _later(None, now))
        return secret, token

    def tokens(self) -> list[Token]:
        """What is stored of every token, oldest first."""
        return [token_of(row) for row in self._database.read(sql.tokens())]

    def revoke(self, token_id: str, now: float) -> Token:
        """Make a token invalid; serving processes notice within their revocation time (at most 30 s).

        Raises InvalidArgument when there is no such token.
        """
        for row in self._database.read(sql.tokens()):
            token = token_of(row)
            if token.token_id == token_id:
                revoked = replace(token, revoked=True)
                self._store(revoked, _later(row[9], now))
                return revoked
        raise InvalidArgument(f"there is no token {token_id!r}; `orgstats tokens ls` shows all")

    def _store(self, token: Token, updated_at: datetime) -> None:
        row = TokenRow(
            token_sha256=token.digest,
            token_id=token.token_id,
            name=token.name,
            org_id=token.org_id or 0,
            all_orgs=token.org_id is None,
            scopes=sorted(token.scopes),
            expires_at=None if token.expires_at is None else _moment(token.expires_at),
            created_at=_moment(token.created_at),
            revoked=token.revoked,
            updated_at=updated_at,
        )
        self._database.insert("tokens", [row])


def _named(slug: str, name: str, wanted_id: int | None, taken: dict[int, str]) -> tuple[int, str, str]:
    """The (id, slug, name) to store, given the ids and slugs that are there; raises InvalidArgument."""
    if not _SLUG.fullmatch(slug):
        raise InvalidArgument(
            f"{slug!r} is not a slug: up to 100 of a-z, 0-9, - and _, beginning with a letter or digit, and not "
            "digits only, which would be an id"
        )
    owner = next((key for key, owned in taken.items() if owned == slug), None)
    if wanted_id is None:
        wanted_id = max(taken, default=0) + 1 if owner is None else owner
    if owner not in (None, wanted_id):
        raise InvalidArgument(f"the slug {slug!r} belongs to id {owner}")
    if not 0 <= wanted_id <= LARGEST_ID:
        raise InvalidArgument(f"an id must be between 0 and {LARGEST_ID}")
    return wanted_id, slug, name or slug


def _later(previous_ms: int | None, now: float) -> datetime:
    """When a row is changed: now, and in any case after its last change, or a slow clock would lose to it."""
    return _EPOCH + timedelta(milliseconds=max(int(now * 1000), (previous_ms or 0) + 1))


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(milliseconds=round(seconds * 1000))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
