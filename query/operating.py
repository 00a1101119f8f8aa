"""Reads what the operators' page shows."""

from orgstats.query import ops_sql
from orgstats.query.clickhouse import Database
from orgstats.query.ops import Operating
from orgstats.query.ops_rows import Audit, Counted, Erasure, Gap, Letter, Letters, Replay, Rules
from orgstats.query.sql import Statement


def read_operating(database: Database) -> Operating:
    """All of it, one statement after the other; raises what `Database.read` raises."""
    read = database.read
    ((now,),) = read(Statement("SELECT toUnixTimestamp64Milli(now64(3))", name="ops_now"))
    letters = [Letters(*row) for row in read(ops_sql.dead_letters())]
    found = read(ops_sql.letters_in_full([one.newest for one in letters])) if letters else []
    return Operating(
        now,
        [Counted(*row) for row in read(ops_sql.partitions())],
        [Gap(*row) for row in read(ops_sql.gaps())],
        [Replay(*row) for row in read(ops_sql.replays())],
        letters,
        {(one.source_id, one.offset): one for one in (Letter(*row) for row in found)},
        [Audit(*row) for row in read(ops_sql.audits())],
        [Rules(*row) for row in read(ops_sql.rules())],
        [Erasure(*row) for row in read(ops_sql.erasures())],
    )
