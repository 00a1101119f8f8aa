"""What requests need from ClickHouse, for one event loop: asked once for all who wait, kept for seconds."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from orgstats.query import sql
from orgstats.query.access import Organization, Project, Token, token_of
from orgstats.query.batch import WindowBatch
from orgstats.query.cache import Cache, Together
from orgstats.query.clickhouse import Database
from orgstats.query.completeness import CountedState, SettledHistory, SourceState, counted_state
from orgstats.query.http import Body, body_of_json, body_of_projects, body_of_series
from orgstats.query.operating import read_operating
from orgstats.query.params import InvalidQuery, StatsQuery
from orgstats.query.stats import read_together
from orgstats.query.threads import Threads
from orgstats.query.usage import Usage, UsageQuery, without_slug
from orgstats.schemas.event import REASON_CHARACTERS
from orgstats.schemas.outcomes import Stat

FOUND_SECONDS: Final = 10.0
"""How long an organization that was found is remembered: for so long a renamed one answers to its old slug."""
MISSING_SECONDS: Final = 1.0
"""How long it is remembered that something does not exist: what was just made should work at once."""

OPERATING_SECONDS: Final = 2.0
SERIES_SECONDS: Final = 10.0
KEPT_BYTES: Final = 33_554_432
"""Of answers that are kept at a time, of each kind; what they weigh compressed, about a quarter, comes on top."""
KEPT_ROWS: Final = 100_000
BODY_BYTES: Final = 1_024
"""What an answer takes beside its bytes: its key, which names the progress of all sources, and its ETag."""

SeriesKey = tuple[StatsQuery, frozenset[tuple[int, int, int]]]
UsageKey = tuple[UsageQuery, frozenset[tuple[int, int, int]]]
WindowKey = tuple[range, frozenset[tuple[int, int, int]]]
"""A query, or a window, and the progress of all sources when it was asked."""


class Reader:
    """Organizations, tokens, completeness and series, for the one event loop that asks.

    Every method raises Unavailable when ClickHouse has not answered after `timeout_seconds`, and
    ConfigurationError when it answers that a person must do something first.
    """

    def __init__(
        self,
        database: Database,
        *,
        timeout_seconds: float,
        token_seconds: float,
        integers: bool = False,
        operating: Database | None = None,
    ) -> None:
        self._operating_database = operating or database
        self._integers = integers
        self.database = database
        self._threads = Threads(database.size, timeout_seconds)
        self._operating_thread = Threads(1, timeout_seconds)  # what operators look at keeps no request waiting
        self._organizations = Cache(
            self._load_organization, lambda _, found: FOUND_SECONDS if found else MISSING_SECONDS, size=10_000
        )
        self._every_organization = Cache(self._load_organizations, lambda *_: FOUND_SECONDS, size=1)
        self._usage = Cache(self._load_usage, _kept_seconds, KEPT_ROWS, weight=lambda found: len(found.rows) + 1)
        self._usage_bodies = Cache(self._load_usage_body, _kept_seconds, KEPT_BYTES, weight=_bytes_of)
        self._without_slug = Cache(self._load_without_slug, _kept_seconds, size=10)
        self._operating = Cache(self._load_operating, lambda *_: OPERATING_SECONDS, size=1)
        self._projects = Cache(self._load_projects, lambda *_: MISSING_SECONDS, size=1_000)
        self._filtered_for = Cache(
            self._load_filtered_for, lambda _, found: FOUND_SECONDS if found else MISSING_SECONDS, size=1_000
        )
        # Unknown ones stand apart, or whoever tries many would push the known ones out.
        self._tokens = Cache(self._load_token, lambda _, found: token_seconds if found else 0.0, size=10_000)
        self._unknown_tokens = Cache(
            Together(self._load_tokens).get, lambda _, found: 0.0 if found else MISSING_SECONDS, size=10_000
        )
        self._pings = Cache(self._ping, lambda *_: 1.0, size=1)
        self._states = Cache(self._load_state, lambda *_: 1.0, size=1)
        self._replicated = Cache(self._load_replicated, lambda *_: math.inf, size=1)  # a database keeps its form
        self._settled, self._settled_hourly = SettledHistory(), SettledHistory()
        self._series = Cache(self._load_series, _kept_seconds, KEPT_BYTES, weight=_bytes_of)
        self._batches = Cache(self._load_batch, lambda *_: 0.0, size=0)  # only while they are read
        self._waiting: dict[tuple[Stat, int], WindowBatch] = {}

    async def organization(self, name: str) -> Organization | None:
        """The organization with this slug or numeric id; at most 10 s old."""
        return await self._organizations.get(name)

    async def organizations(self, org_id: int | None) -> tuple[Organization, ...]:
        """Every organization by its slug, or the one with this id; at most 10 s old."""
        if org_id is None:
            return await self._every_organization.get(())
        found = await self.organization(str(org_id))
        return (found,) if found else ()

    async def projects(self, org_id: int) -> tuple[Project, ...]:
        """The projects of an organization; at most 1 s old."""
        return await self._projects.get(org_id)

    async def is_filtered_for(self, org_id: int, project_id: int, reason: str) -> bool:
        """Whether any stored event of a project was filtered for this reason; at most 10 s old."""
        return len(reason) <= REASON_CHARACTERS and await self._filtered_for.get((org_id, project_id, reason))

    async def token(self, digest: str) -> Token | None:
        """The token with this digest; at most `token_seconds` old, so that a revoked one stops working."""
        return await self._tokens.get(digest)

    async def state(self) -> CountedState:
        """How far everything is counted; at most 1 s old.

        On a cluster it is complete until what every replica that may answer has, see SettledHistory; unknown until
        this reader has looked for so long.
        """
        return await self._states.get(())

    async def is_replicated(self) -> bool:
        """Whether counts may be read from one of several replicas."""
        return await self._replicated.get(())

    async def series(self, query: StatsQuery, state: CountedState) -> Body:
        """The answer to a query, with every flush that was finished when `state` was read.

        A flush writes counts first and its progress after them. So as long as no progress changed, an answer
        read after `state` is served again without asking. What changes counts without a progress (a flush
        that died half-way, a replay, retention) shows after at most SERIES_SECONDS.
        """
        return await self._series.get((query, state.versions))

    async def usage(self, query: UsageQuery, state: CountedState) -> Usage:
        """Usage as fresh as a series is. Not read together with that of others: each has its own groups."""
        return await self._usage.get((query, state.versions))

    async def usage_body(self, query: UsageQuery, state: CountedState) -> Body:
        """The answer of `stats_v2`, as fresh; raises InvalidQuery when it would be too large."""
        return await self._usage_bodies.get((query, state.versions))

    async def without_slug(self, window: range, state: CountedState) -> Body:
        """What the organizations that have no slug received in a window, and before it; as fresh as a series."""
        return await self._without_slug.get((window, state.versions))

    async def operating(self) -> Body:
        """What the operators' page shows; at most 2 s old."""
        return await self._operating.get(())

    async def ping(self) -> None:
        """Raises OrgstatsError when ClickHouse is away or has no tables; asked once for all, a good answer kept 1 s."""
        await self._pings.get(())

    async def _ping(self, _: tuple[()]) -> None:
        await self._threads.call(self.database.read, sql.Statement("SELECT 1 FROM totals LIMIT 0"))

    def close(self) -> None:
        """Close the connections; what still waits for ClickHouse fails."""
        self._threads.close()
        self._operating_thread.close()
        self.database.close()
        self._operating_database.close()

    async def _load_organization(self, name: str) -> Organization | None:
        rows = await self._threads.call(self.database.read, sql.organization(name))
        return Organization(*rows[0]) if rows else None

    async def _load_organizations(self, _: tuple[()]) -> tuple[Organization, ...]:
        rows = await self._threads.call(self.database.read, sql.organizations())
        return tuple(sorted((Organization(*row) for row in rows if row[1]), key=lambda one: one.slug))

    async def _load_usage(self, key: UsageKey) -> Usage:
        return await self._threads.call(self._read_usage, key[0])

    def _read_usage(self, query: UsageQuery) -> Usage:
        found = Usage(query, self.database.read(sql.usage(query)))
        found.answer  # noqa: B018 - made here, not on the event loop
        return found

    async def _load_usage_body(self, key: UsageKey) -> Body:
        return await self._threads.call(lambda: body_of_json(self._read_usage(key[0]).answer))

    async def _load_without_slug(self, key: WindowKey) -> Body:
        rows = await self._threads.call(self.database.read, sql.without_slug(key[0]))
        return body_of_json(without_slug(key[0], rows))

    async def _load_operating(self, _: tuple[()]) -> Body:
        return await self._operating_thread.call(
            lambda: body_of_json(read_operating(self._operating_database).answer())
        )

    async def _load_projects(self, org_id: int) -> tuple[Project, ...]:
        rows = await self._threads.call(self.database.read, sql.projects(org_id))
        return tuple(Project(*row) for row in rows)

    async def _load_filtered_for(self, key: tuple[int, int, str]) -> bool:
        return bool(await self._threads.call(self.database.read, sql.filtered_for(*key)))

    async def _load_token(self, digest: str) -> Token | None:
        return await self._unknown_tokens.get(digest)

    async def _load_tokens(self, digests: Sequence[str]) -> dict[str, Token]:
        rows = await self._threads.call(self.database.read, sql.tokens_of(digests))
        return {token.digest: token for token in map(token_of, rows)}

    async def _load_state(self, _: tuple[()]) -> CountedState:
        rows = await self._threads.call(self.database.read, sql.sources())
        state = counted_state(SourceState(*row) for row in rows)
        if not await self.is_replicated():
            return state
        now = time.monotonic()
        return replace(
            state,
            complete_until=self._settled.complete_until(state.complete_until, now),
            hourly_until=self._settled_hourly.complete_until(state.hourly_until, now),
        )

    async def _load_replicated(self, _: tuple[()]) -> bool:
        return bool(await self._threads.call(self.database.read, sql.is_replicated()))

    async def _load_series(self, key: SeriesKey) -> Body:
        batch = self._joined(key[0])
        try:
            return (await self._batches.get(batch))[key[0]]
        except InvalidQuery:  # more rows than one request may read, which this one alone may not need
            if len(batch.queries) == 1:
                raise
            return (await self._batches.get(WindowBatch(key[0])))[key[0]]

    def _joined(self, query: StatsQuery) -> WindowBatch:
        """The batch that a query is read with: a waiting one of its kind, or one that others may join."""
        if query.projects is not None:
            return WindowBatch(query)
        kind = query.stat, query.buckets.width
        waiting = self._waiting.get(kind)
        if waiting is None or not waiting.join(query):
            waiting = self._waiting[kind] = WindowBatch(query)
        return waiting

    async def _load_batch(self, batch: WindowBatch) -> dict[StatsQuery, Body]:
        try:
            async with self._threads.idle():
                self._close(batch)
                return await self._threads.submit(self._read_bodies, batch.queries)
        finally:
            self._close(batch)

    def _close(self, batch: WindowBatch) -> None:
        """From here on nobody joins it."""
        self._waiting = {kind: waiting for kind, waiting in self._waiting.items() if waiting is not batch}

    def _read_bodies(self, queries: Sequence[StatsQuery]) -> dict[StatsQuery, Body]:
        read = read_together(self.database, queries)
        return {
            query: body_of_projects(series, integers=self._integers)
            if query.grouped
            else body_of_series(*series.values(), integers=self._integers)
            for query, series in read.items()
        }


def _kept_seconds(key: SeriesKey | UsageKey | WindowKey, _: Body | Usage) -> float:
    """Without any progress there is nothing that would tell of a change."""
    return SERIES_SECONDS if key[1] else 0.0


def _bytes_of(body: Body) -> int:
    return len(body.content) + BODY_BYTES
