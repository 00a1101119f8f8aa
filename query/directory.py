"""Organizations, projects and tokens as operators manage them."""

import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Literal, NamedTuple

from orgstats.errors import OrgstatsError
from orgstats.query import sql
from orgstats.query.access import READ_SCOPE, Organization, Project, Token, digest_of, new_token, token_of
from orgstats.query.clickhouse import Database
from orgstats.schemas.tables import OrganizationRow, ProjectRow, TokenRow

LARGEST_ID: Final = 2**63 - 1
"""The largest id that an event can carry."""

_IDS_AT_ONCE: Final = 1_000
_REMOVED: Final = ""
"""The slug of an organization that was removed; the row stays, as the newest of its id."""
_SLUG: Final = re.compile(r"(?![0-9]+$)[a-z0-9][a-z0-9_-]{0,99}")


class InvalidArgument(OrgstatsError):
    """What was given names nothing that exists, or cannot be; the text says what would do."""

    exit_code = 2


Change = Literal["added", "renamed", "unchanged"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """An organization or a project as it should be."""

    slug: str
    name: str = ""  # empty: the one it has, or its slug
    key: int | None = None  # its id; None: the one that has this slug, or the next free without events
    rename: bool = False  # whether one that is there may get another slug or name


class Entry(NamedTuple):
    """An organization or a project as it is stored."""

    slug: str
    name: str
    updated_ms: int


class Directory:
    """Reads and changes who exists and who may read; every method may raise Unavailable.

    Failure semantics: a change is one row that replaces an older one, so asking again after a failure is
    safe, except for `create_token`, whose token is lost with its answer: make another, revoke by its name.
    What a change goes by is read after replicas have caught up, or a server of a cluster that is behind would give
    an id away twice, or not know a token that is to be revoked. ClickHouse has no unique keys: of two people who take
    one slug at the same moment both succeed, and the organization with the lower id answers to it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def organizations(self) -> list[Organization]:
        """Every organization, by id."""
        return [Organization(*row[:3]) for row in self._database.read(sql.organizations()) if row[1]]

    def organization(self, name: str) -> Organization:
        """The organization with this slug or numeric id; raises InvalidArgument when there is none."""
        return _only(name, self._database.read(sql.organization(name)))

    def organization_to_change(self, name: str) -> Organization:
        """The same for whoever goes on to change something of it."""
        return _only(name, self._database.read_caught_up(sql.organization(name)))

    def add_organization(self, wanted: Wanted, now: float) -> tuple[Organization, Change]:
        """Add an organization, or with `rename` give the one that is there another slug or name.

        Raises InvalidArgument when the slug is no slug or another organization's, and when the organization is there
        and differs from what is wanted without `rename`.
        """
        found = _entries(self._database.read_caught_up(sql.organizations()))
        free = self._free_id(found, sql.ids_with_events) if wanted.key is None else wanted.key
        entry, change = _changed(wanted, found, free)
        if self._database.read_caught_up(sql.erasures(entry[0])):
            raise InvalidArgument(f"organization {entry[0]} was erased, and its id is never used again")
        if change != "unchanged":
            self._database.insert("organizations", [OrganizationRow(*entry, _later(found, entry[0], now))])
        return Organization(*entry), change

    def remove_organization(self, name: str, now: float) -> tuple[Organization, int]:
        """Remove an organization and revoke its tokens, and say how many that were; raises InvalidArgument.

        Its counts and the names of its projects stay, and show again once it is added again by its id. The tokens are
        revoked first: asked again after a failure it does what is left.
        """
        removed = self.organization_to_change(name)
        stored = [token_of(row) for row in self._database.read_caught_up(sql.tokens())]
        tokens = [token for token in stored if token.org_id == removed.org_id and not token.revoked]
        for token in tokens:
            self.revoke(token.token_id, now)
        found = _entries(self._database.read_caught_up(sql.organizations()))
        row = OrganizationRow(removed.org_id, _REMOVED, removed.name, _later(found, removed.org_id, now))
        self._database.insert("organizations", [row])
        return removed, len(tokens)

    def projects(self, org_id: int) -> list[Project]:
        """The projects of an organization, by id."""
        return [Project(*row[:3]) for row in self._database.read(sql.projects(org_id))]

    def add_project(self, org_id: int, wanted: Wanted, now: float) -> tuple[Project, Change]:
        """Add or rename a project, as add_organization does an organization; slugs are free in each organization."""
        found = _entries(self._database.read_caught_up(sql.projects(org_id)))
        counted = partial(sql.projects_with_events, org_id)
        free = self._free_id(found, counted) if wanted.key is None else wanted.key
        entry, change = _changed(wanted, found, free)
        if change != "unchanged":
            self._database.insert("projects", [ProjectRow(org_id, *entry, _later(found, entry[0], now))])
        return Project(*entry), change

    def _free_id(self, taken: Collection[int], counted: Callable[[Sequence[int]], sql.Statement]) -> int:
        """The first id after all that are taken which has no events: whose they are nobody has said."""
        first = max(taken, default=0) + 1
        while True:
            ids = range(first, min(first + _IDS_AT_ONCE, LARGEST_ID + 1))
            if not ids:
                raise InvalidArgument("no id is left after the largest that is taken; give one with --id")
            used = {row[0] for row in self._database.read_caught_up(counted(ids))}
            if free := next((key for key in ids if key not in used), None):
                return free
            first += _IDS_AT_ONCE

    def create_token(
        self, *, org_id: int | None, name: str, expires_at: float | None, now: float, scope: str = READ_SCOPE
    ) -> tuple[str, Token]:
        """A new token, which is kept nowhere, and what is stored of it; `org_id` None for every organization."""
        secret = new_token()
        scopes = frozenset({scope})
        token = Token(digest_of(secret), secrets.token_hex(4), name, org_id, scopes, expires_at, now, revoked=False)
        self._store(token, _after(None, now))
        return secret, token

    def tokens(self) -> list[Token]:
        """What is stored of every token, oldest first."""
        return [token_of(row) for row in self._database.read(sql.tokens())]

    def revoke(self, token_id: str, now: float) -> Token:
        """Make a token invalid; serving processes notice within their revocation time (at most 30 s).

        Raises InvalidArgument when there is no such token.
        """
        for row in self._database.read_caught_up(sql.tokens()):
            token = token_of(row)
            if token.token_id == token_id:
                revoked = replace(token, revoked=True)
                self._store(revoked, _after(row[9], now))
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


def _only(name: str, rows: Sequence[tuple[int, str, str]]) -> Organization:
    if not rows:
        raise InvalidArgument(f"there is no organization {name!r}; `orgstats orgs ls` shows all")
    return Organization(*rows[0])


def _entries(rows: Iterable[tuple[int, str, str, int]]) -> dict[int, Entry]:
    return {key: Entry(slug, name, updated_ms) for key, slug, name, updated_ms in rows}


def _changed(wanted: Wanted, found: Mapping[int, Entry], free: int) -> tuple[tuple[int, str, str], Change]:
    """The (id, slug, name) to store, given what is there by id, and what that changes; raises InvalidArgument."""
    slug = wanted.slug
    if not _SLUG.fullmatch(slug):
        raise InvalidArgument(
            f"{slug!r} is not a slug: up to 100 of a-z, 0-9, - and _, beginning with a letter or digit, and not "
            "digits only, which would be an id"
        )
    owner = next((key for key, entry in found.items() if entry.slug == slug), None)
    key = owner if wanted.key is None and owner is not None else free
    if owner not in (None, key):
        raise InvalidArgument(f"the slug {slug!r} belongs to id {owner}")
    if not 0 <= key <= LARGEST_ID:
        raise InvalidArgument(f"an id must be between 0 and {LARGEST_ID}")
    there = found.get(key)
    if there is None or there.slug == _REMOVED:
        return (key, slug, wanted.name or slug), "added"
    name = wanted.name or (slug if there.name == there.slug else there.name)
    if (slug, name) == (there.slug, there.name):
        return (key, slug, name), "unchanged"
    if not wanted.rename:
        raise InvalidArgument(f"id {key} is {there.slug!r} ({there.name}) already; change it with --rename")
    return (key, slug, name), "renamed"


def _later(found: Mapping[int, Entry], key: int, now: float) -> datetime:
    return _after(found[key].updated_ms if key in found else None, now)


def _after(previous_ms: int | None, now: float) -> datetime:
    """When a row is changed: now, and in any case after its last change, or a slow clock would lose to it."""
    return _EPOCH + timedelta(milliseconds=max(int(now * 1000), (previous_ms or 0) + 1))


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(milliseconds=round(seconds * 1000))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
