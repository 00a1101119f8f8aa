"""The mistake of the demo lies where a replay finds it, whatever the time of day at which the demo is started."""

import inspect

from orgstats.cli.up import up as command
from orgstats.deploy.local.demo import MISTAKEN_HOURS_AGO
from orgstats.deploy.local.up import CHUNK_LENGTH, PARTITIONS
from orgstats.deploy.traffic import daily_seconds


def test_chunks_of_the_mistaken_hour_are_closed() -> None:
    """Since that hour each partition had more records than a chunk has, with half as many to spare."""
    rate = inspect.signature(command).parameters["rate"].default
    for now in range(0, 86_400, 600):
        records = rate * (daily_seconds(now) - daily_seconds(now - (MISTAKEN_HOURS_AGO - 1) * 3600)) / PARTITIONS
        assert records > 1.5 * CHUNK_LENGTH, f"at {now // 3600} o'clock"
