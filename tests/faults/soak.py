"""`make soak MINUTES=60 SEED=7`: the seeded plan for as long as it is told; exit 1 on the first unequal cell."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from orgstats.deploy.local import apache_kafka, chdb_server
from tests.faults.campaigns import CAMPAIGNS
from tests.faults.plan import Plan
from tests.faults.proxy import Proxy
from tests.faults.round import BROKER_PROPERTIES, Site


def main() -> int:
    """Run the plan; counts of what was done on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", help="one kind of round, once; one of campaigns.py for all the minutes")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="orgstats-soak-"))
    broker = apache_kafka.start(directory / "kafka", properties=BROKER_PROPERTIES)
    clickhouse = chdb_server.start(directory / "clickhouse", password="test")
    proxy = Proxy(clickhouse.url, arguments.seed)
    done: Counter[str] = Counter()
    plan = Plan(Site(broker.bootstrap_servers, clickhouse.url, proxy, directory), broker, arguments.seed, done)
    began = time.monotonic()
    try:
        if arguments.only in CAMPAIGNS:
            CAMPAIGNS[arguments.only](plan, arguments.minutes * 60)
        elif arguments.only:
            plan.play(getattr(plan, arguments.only))
        else:
            plan.play_until(began + arguments.minutes * 60)
    except Exception as error:  # noqa: BLE001 - whatever it is, what it left has to be looked at
        print(f"seed {arguments.seed}: {type(error).__name__}: {error}\nkept in {directory}", file=sys.stderr)
        return 1
    finally:
        minutes = round((time.monotonic() - began) / 60, 1)
        print(json.dumps({"seed": arguments.seed, "minutes": minutes, **dict(sorted(done.items()))}, indent=1))
        proxy.close()
        clickhouse.stop()
        broker.kill()
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
