"""The history of the rules in ClickHouse: append an entry, void one in a new edition, read it all.

Every time here is the server's own, taken by the statement that writes: publishers whose clocks differ cannot
shorten the 30 s that workers need to learn of an entry before it is in force.

Failure semantics: each write is one INSERT of one block, stored whole or not at all. After a lost answer the
same call may be made again: `publish` then finds its entry and does nothing, `void` finds it voided.
Two publishers at once both append; the later `effective_from` rules last, and `ls` shows both, perhaps under
one version number. Whoever publishes while an edition is made looks again and publishes into that too. Of two
who make an edition in the same moment, the second is told so and must void again.
"""

import getpass
import socket
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from clickhouse_driver import Client

from orgstats.clickhouse.cluster import read
from orgstats.clickhouse.connect import INSERT_SETTINGS
from orgstats.consumer.counting.rule_history import RuleHistory, RulesEntry
from orgstats.consumer.counting.rules import RulesError, parse
from orgstats.errors import ConfigurationError, Refused
from orgstats.schemas.tables import RulesRow, columns

LEAD_SECONDS: Final = 30
"""An entry comes into force at least this long after it was published; workers look every 10 s."""

_COLUMNS: Final = ", ".join(columns(RulesRow))
_EDITION: Final = "(SELECT max(edition) FROM rules)"
_compiled: Final = lru_cache(maxsize=1024)(parse)


class Period(NamedTuple):
    """Kafka timestamps [since, until) of the records that an entry classified; until None: it still does."""

    since: datetime
    until: datetime | None


def load_history(client: Client) -> RuleHistory:
    """The compiled history in its highest edition; raises Refused for an entry this program cannot read."""
    rows = history(client)
    try:
        entries = [
            RulesEntry(round(row.effective_from.timestamp() * 1000), row.version, _compiled(row.toml))
            for row in rows
            if not row.voided
        ]
    except RulesError as error:
        raise Refused(f"published rules need a newer orgstats: {error}") from None
    return RuleHistory(entries, max((row.edition for row in rows), default=0))


def history(client: Client, edition: int | None = None) -> list[RulesRow]:
    """Every entry of an edition (default: the highest), voided ones too, in the order they come into force."""
    rows = read(
        client,
        f"SELECT {_COLUMNS} FROM rules FINAL "
        f"WHERE edition = {_EDITION if edition is None else '%(edition)s'} "
        "ORDER BY effective_from, version, published_at",
        {"edition": edition},
    )
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
    """Append valid rules to the history, in force from `effective_from` (default: 30 s from now).

    Returns the new entry, or None when there is nothing new: the latest entry says the same, or the same text
    was voided and not `again` asked for. Raises Refused, storing nothing, when `effective_from` is too soon.
    """
    rows = history(client)
    known = {row.version for row in rows}
    if not is_new(rows, toml) and not (again and not _latest_is(rows, toml)):
        return None
    for _ in range(3):
        _append(client, toml, published_by, note, effective_from)
        # A new edition made meanwhile may or may not hold the entry: look there, and append again if not.
        found = [row for row in history(client) if row.version not in known and row.toml == toml]
        if found:
            return max(found, key=lambda row: row.published_at)
    raise Refused(
        f"{effective_from} is too soon: rules come into force at least {LEAD_SECONDS} s after they are published, "
        "so that every worker knows them in time"
    )


def is_new(rows: list[RulesRow], toml: str) -> bool:
    """Whether this text differs from the latest entry and from every voided one."""
    return not _latest_is(rows, toml) and not any(row.voided and row.toml == toml for row in rows)


def _latest_is(rows: list[RulesRow], toml: str) -> bool:
    valid = [row for row in rows if not row.voided]
    return bool(valid) and max(valid, key=lambda row: (row.version, row.published_at)).toml == toml


def _append(client: Client, toml: str, published_by: str, note: str, effective_from: datetime | None) -> None:
    """One statement that looks at the clock, numbers the entry and stores it, or stores nothing if too soon."""
    soonest = f"now64(3, 'UTC') + toIntervalSecond({LEAD_SECONDS})"
    milliseconds = round(effective_from.timestamp() * 1000) if effective_from else 0
    starts = "fromUnixTimestamp64Milli(toInt64(%(milliseconds)s), 'UTC')" if effective_from else soonest
    client.execute(
        f"INSERT INTO rules ({_COLUMNS}) "
        f"SELECT {_EDITION}, (SELECT max(version) + 1 FROM rules WHERE edition = {_EDITION}), {starts}, "
        f"%(toml)s, %(published_by)s, now64(3, 'UTC'), %(note)s, false WHERE {starts} >= {soonest}",
        {"toml": toml, "published_by": published_by, "note": note, "milliseconds": milliseconds},
        settings=INSERT_SETTINGS,
    )


def period(rows: list[RulesRow], version: int) -> Period:
    """When a version was in force, or would have been; raises ConfigurationError if there is none."""
    tps = [tp for tp, row in enumerate(rows) if row.version == version]
    if not tps:
        raise ConfigurationError(f"there is no version {version}; see orgstats rules ls")
    later = (row.effective_from for row in rows[tps[-1] + 1 :] if not row.voided)
    return Period(rows[tps[0]].effective_from, next(later, None))


def void(client: Client, version: int, *, note: str = "") -> int:
    """Make a new edition of the history in which `version` never was in force; returns the edition.

    Does nothing when it is voided already. Raises Refused when another edition was made in the same moment.
    """
    rows = history(client)
    period(rows, version)
    if all(row.voided for row in rows if row.version == version):
        return rows[0].edition
    old, highest = rows[0].edition, max(row.version for row in rows)
    client.execute(
        f"INSERT INTO rules ({_COLUMNS}) "
        "SELECT edition + 1, version, effective_from, toml, published_by, now64(3, 'UTC'), "
        "if(version = %(version)s, %(note)s, note), voided OR version = %(version)s "
        f"FROM rules FINAL WHERE edition = %(old)s AND {_EDITION} = %(old)s",
        {"version": version, "old": old, "note": note},
        settings=INSERT_SETTINGS,
    )
    copied = [row for row in history(client) if row.version <= highest]
    stamps = {row.published_at for row in copied}
    done = all(row.voided for row in copied if row.version == version)
    if copied[0].edition != old + 1 or len(stamps) != 1 or not done:
        raise Refused(
            "someone else made an edition in the same moment: see orgstats rules ls, and void again what is not voided"
        )
    return old + 1


def server_now(client: Client) -> datetime:
    """The server's clock, which all times of the history are by."""
    rows: list[tuple[Any, ...]] = client.execute("SELECT toUnixTimestamp64Milli(now64(3))")
    return datetime.fromtimestamp(rows[0][0] / 1000, UTC)
