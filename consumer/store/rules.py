"""The history of the rules in ClickHouse: append an entry, void one, read it all.

Every time here is the server's own, taken by the statement that writes: publishers whose clocks differ cannot
shorten the time that workers need to learn of an entry before it is in force.

An entry is one row under an id of its own, which no other entry ever has; a void is the same row again with the time
of voiding, the newer of the two. So in whatever order and by how many people entries are published and voided, none
is lost. What is voided makes the edition: the fingerprint of counting holds it.

Failure semantics: each write is one INSERT of one row, stored whole or not at all. An entry that could be seen too
late would be missed by who counts now and be applied by who counts again. So `publish` reads its entry back and looks
at the server's clock: with too little time left, or without an answer, it takes the entry back, which holds even
where the entry itself is seen only later. Where that has no answer either it names the entry, to be voided by hand.
`void` may be repeated. Two publishers at once both append; `ls` shows both, perhaps under one version number.
"""

import getpass
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, NamedTuple

from clickhouse_driver import Client
from clickhouse_driver import errors as driver_errors

from orgstats.clickhouse.cluster import read, write
from orgstats.clickhouse.connect import INSERT_SETTINGS, TIMEOUT_SECONDS, translate
from orgstats.consumer.counting.rule_history import ERASED, RuleHistory, RulesEntry
from orgstats.consumer.counting.rules import RulesError, parse
from orgstats.errors import ConfigurationError, Refused, Unavailable
from orgstats.schemas.tables import ErasureRow, RulesRow

STALE_SECONDS: Final = 25.0
"""Workers classify nothing by a copy of the rules that is older."""
CLOCK_SECONDS: Final = 5.0
"""Kafka's clocks may be this far from ClickHouse's."""
KNOWN_SECONDS: Final = STALE_SECONDS + CLOCK_SECONDS
"""An entry that can be seen this long before it comes into force is known to every worker in time."""
LEAD_SECONDS: Final = KNOWN_SECONDS + 2 * TIMEOUT_SECONDS
"""An entry comes into force this long after it was published: storing and reading back may take all their time."""

_COLUMNS: Final = ", ".join(RulesRow._fields)
_TAKEN_BACK: Final = "taken back: it could have been seen too late"
_compiled: Final = lru_cache(maxsize=1024)(parse)


class Period(NamedTuple):
    """Kafka timestamps [since, until) of the records that an entry classified; until None: it still does."""

    since: datetime
    until: datetime | None


def load_history(client: Client) -> RuleHistory:
    """The compiled history; raises Refused for an entry this program cannot read."""
    rows, erased = history(client), erasures(client)
    try:
        entries = [
            RulesEntry(round(row.effective_from.timestamp() * 1000), row.version, _compiled(row.toml))
            for row in rows
            if not row.voided
        ]
    except RulesError as error:
        raise Refused(f"published rules need a newer orgstats: {error}") from None
    return RuleHistory(entries, editions(rows, erased), [row.org_id for row in erased])


def erasures(client: Client) -> list[ErasureRow]:
    """Every organization that is erased."""
    rows = read(client, f"SELECT {', '.join(ErasureRow._fields)} FROM erasures FINAL ORDER BY at, org_id")
    return [ErasureRow(*row) for row in rows]


def editions(rows: Sequence[RulesRow], erased: Sequence[ErasureRow] = ()) -> tuple[str, ...]:
    """Every edition so far, the newest last: how many entries are voided, and which; and which organizations erased.

    Of two who void at once each may see the other's later, so what is voided counts, not how many are.
    """
    steps = [(row.voided_at, row.entry_id, 0) for row in rows if row.voided]
    steps += [(row.at, "", row.org_id) for row in erased]
    steps.sort()
    return tuple(_edition(steps[:many]) for many in range(len(steps) + 1))


def _edition(steps: Sequence[tuple[datetime, str, int]]) -> str:
    voided = sorted(entry_id for _, entry_id, _ in steps if entry_id)
    erased = sorted(org_id for _, entry_id, org_id in steps if not entry_id)
    edition = f"{len(voided)}-{_digest(voided)}" if voided else "0"
    return f"{edition}{ERASED}{_digest(erased)}" if erased else edition


def _digest(parts: Sequence[object]) -> str:
    return sha256(" ".join(map(str, parts)).encode()).hexdigest()[:8]


def history(client: Client) -> list[RulesRow]:
    """Every entry, voided ones too, in the order they come into force."""
    rows = read(client, f"SELECT {_COLUMNS} FROM rules FINAL ORDER BY effective_from, version, published_at, entry_id")
    return [RulesRow(*row) for row in rows]


def publish_file(
    client: Client, path: Path, *, note: str = "", effective_from: datetime | None = None, again: bool = False
) -> RulesRow | None:
    """Publish a rules file in this user's name, see `publish`; raises ConfigurationError if it is bad."""
    toml = read_file(path)
    return publish(client, toml, published_by=publisher(), note=note, effective_from=effective_from, again=again)


def read_file(path: Path) -> str:
    """The text of a valid rules file; raises ConfigurationError with every fault as `file:line: text`."""
    try:
        toml = path.read_text(encoding="utf-8")
        parse(toml)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    except RulesError as error:
        raise ConfigurationError("\n".join(f"{path}:{line}: {text}" for line, text in error.faults)) from None
    return toml


def publisher() -> str:
    """Who publishes, for the history: user@host."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def publish(
    client: Client,
    toml: str,
    *,
    published_by: str,
    note: str = "",
    effective_from: datetime | None = None,
    again: bool = False,
) -> RulesRow | None:
    """Append valid rules to the history, in force from `effective_from` (default: LEAD_SECONDS from now).

    Returns the new entry, or None when there is nothing new: the latest entry says the same, or the same text
    was voided and not `again` asked for. Raises Refused, storing nothing, when `effective_from` is too soon, and
    Unavailable when the entry was taken back.
    """
    rows = history(client)
    if not is_new(rows, toml) and not (again and not _latest_is(rows, toml)):
        return None
    entry_id, version = token_hex(8), max((row.version for row in rows), default=0) + 1
    try:
        _append(client, entry_id, toml, published_by, note, effective_from)
        found = next((row for row in history(client) if row.entry_id == entry_id), None)
        now = server_now(client)
    except (driver_errors.Error, OSError, EOFError) as error:
        ours = translate(error)
        if isinstance(ours, Unavailable):  # what was refused for good was not stored
            _take_back(client, entry_id, version, toml, published_by)
            raise Unavailable(f"the rules were taken back, publish them again: {ours}") from error
        raise
    if found is None:
        raise Refused(
            f"{effective_from} is too soon: rules come into force at least {LEAD_SECONDS:.0f} s after they are "
            "published, so that every worker knows them in time"
        )
    left = (found.effective_from - now).total_seconds()
    if left < KNOWN_SECONDS:
        _take_back(client, entry_id, found.version, toml, published_by)
        raise Unavailable(
            f"the rules were taken back: they could be seen only {left:.1f} s before they come into force, and workers "
            f"need {KNOWN_SECONDS:.0f} s. ClickHouse is slow; publish again"
        )
    return found


def is_new(rows: list[RulesRow], toml: str) -> bool:
    """Whether this text differs from the latest entry and from every one that somebody voided."""
    voided = any(row.voided and row.note != _TAKEN_BACK and row.toml == toml for row in rows)
    return not _latest_is(rows, toml) and not voided


def _latest_is(rows: list[RulesRow], toml: str) -> bool:
    valid = [row for row in rows if not row.voided]
    return bool(valid) and max(valid, key=lambda row: (row.version, row.published_at)).toml == toml


def _append(
    client: Client, entry_id: str, toml: str, published_by: str, note: str, effective_from: datetime | None
) -> None:
    """One statement that looks at the clock, numbers the entry and stores it, or stores nothing if too soon."""
    soonest = f"now64(3, 'UTC') + toIntervalSecond({LEAD_SECONDS:.0f})"
    milliseconds = round(effective_from.timestamp() * 1000) if effective_from else 0
    starts = "fromUnixTimestamp64Milli(toInt64(%(milliseconds)s), 'UTC')" if effective_from else soonest
    write(
        client,
        f"INSERT INTO rules ({_COLUMNS}) "
        f"SELECT %(entry_id)s, (SELECT max(version) + 1 FROM rules), {starts}, "
        f"%(toml)s, %(published_by)s, now64(3, 'UTC'), %(note)s, {_NEVER} WHERE {starts} >= {soonest}",
        {
            "entry_id": entry_id,
            "toml": toml,
            "published_by": published_by,
            "note": note,
            "milliseconds": milliseconds,
        },
    )


_NEVER: Final = "toDateTime64(0, 3, 'UTC')"


def _take_back(client: Client, entry_id: str, version: int, toml: str, published_by: str) -> None:
    """Void an entry that may be there, may come later, or may never; raises Unavailable when that is not known.

    It reads nothing, so it waits for no replica: time is short, and the entry's number is known or a good guess.
    """
    with suppress(driver_errors.Error, OSError, EOFError):
        client.execute(
            f"INSERT INTO rules ({_COLUMNS}) SELECT %(entry_id)s, %(version)s, now64(3, 'UTC'), "
            "%(toml)s, %(published_by)s, now64(3, 'UTC'), %(note)s, now64(3, 'UTC')",
            {
                "entry_id": entry_id,
                "version": version,
                "toml": toml,
                "published_by": published_by,
                "note": _TAKEN_BACK,
            },
            settings=INSERT_SETTINGS,
        )
        return
    raise Unavailable(
        f"ClickHouse does not say whether the rules were stored, as entry {entry_id}. Look at orgstats rules ls once "
        f"it answers, and if it is there orgstats rules void {entry_id} --execute"
    )


def find(rows: list[RulesRow], which: str) -> RulesRow:
    """The entry with a version, or an id; raises ConfigurationError for none, or for more than one."""
    found = [row for row in rows if which in (str(row.version), row.entry_id)]
    if not found:
        raise ConfigurationError(f"there is no version {which}; see orgstats rules ls")
    if len(found) > 1:
        ids = ", ".join(row.entry_id for row in found)
        raise ConfigurationError(f"several entries have version {which}, name one by its id: {ids}")
    return found[0]


def period(rows: list[RulesRow], entry: RulesRow) -> Period:
    """When an entry was in force, or would have been."""
    after = [row.entry_id for row in rows].index(entry.entry_id) + 1
    return Period(entry.effective_from, next((row.effective_from for row in rows[after:] if not row.voided), None))


def void(client: Client, which: str, *, note: str = "") -> str:
    """Let an entry, by version or id, never have been in force; returns the edition. Nothing if it is so already.

    Its own note stays, and `note` is written behind it.
    """
    entry = find(history(client), which)
    if not entry.voided:
        kept = "entry_id, version, effective_from, toml, published_by, published_at"
        write(
            client,
            f"INSERT INTO rules ({_COLUMNS}) SELECT {kept}, %(note)s, now64(3, 'UTC') FROM rules FINAL "
            "WHERE entry_id = %(entry_id)s",
            {"entry_id": entry.entry_id, "note": "; voided: ".join(filter(None, (entry.note, note)))},
        )
    return editions(history(client), erasures(client))[-1]


def server_now(client: Client) -> datetime:
    """The server's clock, which all times of the history are by."""
    rows: list[tuple[Any, ...]] = client.execute("SELECT toUnixTimestamp64Milli(now64(3))")
    return datetime.fromtimestamp(rows[0][0] / 1000, UTC)
