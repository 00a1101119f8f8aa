"""Topics that were ever counted, and those of them that nobody waits for any more.

Failure semantics: retiring is one row that replaces an older one, so asking again after a failure is safe.
"""

from datetime import datetime
from typing import NamedTuple

from orgstats.query import sql
from orgstats.query.clickhouse import Database
from orgstats.query.directory import InvalidArgument
from orgstats.schemas.tables import RetiredTopicRow


class Topic(NamedTuple):
    """A topic's newest id; `complete_until_ms` is 0 while unknown, `may_change_at` a time for the next row."""

    name: str
    partitions: int
    complete_until_ms: int
    counted_at: datetime
    retired: bool
    may_change_at: datetime
    is_counted: bool


def topics(database: Database) -> list[Topic]:
    """Every topic that was ever counted, by name."""
    return [Topic(*row) for row in database.read(sql.topics())]


def retire(database: Database, name: str) -> None:
    """Take a topic out of what completeness waits for; its counts stay.

    Raises InvalidArgument when it was never counted, or still is: then the mark would claim what it does not know.
    """
    topic = _named(database, name)
    if topic.is_counted:
        raise InvalidArgument(
            f"topic {name} was counted less than {sql.QUIET_SECONDS} s ago; stop its consumers, or take it out of "
            "their ORGSTATS_TOPIC, then retire it"
        )
    database.insert("retired_topics", [RetiredTopicRow(name, True, topic.may_change_at)])


def take_back(database: Database, name: str) -> None:
    """Wait for a topic again; raises InvalidArgument when it was never counted."""
    database.insert("retired_topics", [RetiredTopicRow(name, False, _named(database, name).may_change_at)])


def _named(database: Database, name: str) -> Topic:
    for row in database.read_caught_up(sql.topics()):
        if (topic := Topic(*row)).name == name:
            return topic
    raise InvalidArgument(f"topic {name!r} was never counted; `orgstats topics ls` shows all that were")
