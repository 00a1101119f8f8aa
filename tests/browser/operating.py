"""A store in which something is amiss, for the operators' page to show."""

import time
from typing import Final

from orgstats.query.access import OPS_SCOPE
from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory
from orgstats.schemas.tables import AuditRow, GapRow, RulesRow, WatchedRow
from tests.query.seeding import Counted, insert_sources, moment

TOPIC: Final = "clicks"
PAYLOAD: Final = '{"timestamp": "yesterday", "org_id": 7, "note": "<b>'
RULES: Final = '[[rule]]\noutcome = "filtered"\nreason = "web-crawlers"\nuser_agent = ["*bot*", "*spider*"]\n'
WEEK: Final = 7 * 86_400


def insert_operating(database: Database) -> None:
    """Three partitions, one of them late and paused; and some of each of the other things that are shown."""
    now = time.time()
    counted = [(4_812_377, 3.0), (4_790_114, 2.0), (4_630_528, 620.0)]
    insert_sources(
        database,
        [
            Counted(11 + at, at, TOPIC, "clicks-1", complete_until=now - age, partitions=3, next_offset=offset)
            for at, (offset, age) in enumerate(counted)
        ],
    )
    insert_watched(database, late=184_203)
    database.insert("gaps", [GapRow(12, 1_204_410, 1_209_882, "retention", moment(now - 3 * 86_400))])
    database.insert(
        "dead_letters",
        [
            (
                *(11, 4_800_000 + at, TOPIC, 0, moment(now - 900 + at), "7"),
                [("trace", "b7ad6b71")],
                PAYLOAD,
                *(len(PAYLOAD), reason, f"{reason}: what is there is none", False, 4_800_000 + at),
            )
            for at, reason in enumerate(["not_json"] * 5 + ["invalid_timestamp"] * 2)
        ],
    )
    database.insert(
        "replays",
        [("75dbf191", "repair", '{"topics": ["clicks"]}', "f", [(12, 0, 131_072)], "kit@ops", 1, moment(now))],
    )
    database.insert("replay_chunks", [("75dbf191", 12, 0, 1, 40, 2, moment(now))])
    places = [f"{TOPIC}/{at}" for at in range(3)]
    database.insert(
        "audits",
        [
            AuditRow("a1", places, True, 108, 108, 0, "", "kit@ops", moment(now - 3_600)),
            AuditRow(f"{TOPIC}/1", [f"{TOPIC}/1"], True, 1, 1, 0, "", "consumer", moment(now - 45)),
        ],
    )
    never = moment(0)
    database.insert(
        "rules",
        [
            RulesRow("r1", 1, moment(now - WEEK), "", "kit@ops", moment(now - WEEK), "nothing yet", never),
            RulesRow("r2", 2, moment(now - 86_400), RULES, "kit@ops", moment(now - 86_400), "web crawlers", never),
        ],
    )


def insert_watched(database: Database, *, late: int) -> None:
    """What consumers have just seen of the logs; `late` records of the last partition are not counted."""
    now = time.time()
    ends = (4_812_391, 4_790_114, 4_630_528 + late)
    database.insert(
        "watched",
        [
            WatchedRow(
                *(TOPIC, at, f"counter-{at % 2}", 2_000_000, end, end, moment(now + WEEK - 600 * (at == 2))),
                *(["not stored"] if at == 2 else [], moment(now)),
            )
            for at, end in enumerate(ends)
        ],
    )


def operators_token(database: Database) -> str:
    """A token that sees the page, and no organization."""
    token, _ = Directory(database).create_token(
        org_id=None, name="ops", expires_at=None, now=time.time(), scope=OPS_SCOPE
    )
    return token
