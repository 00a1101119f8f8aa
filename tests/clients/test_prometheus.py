"""A Prometheus scrapes what organizations may see of themselves, by the shipped examples, and alerts on it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from orgstats.query.clickhouse import Database
from orgstats.query.directory import Directory, Wanted
from orgstats.schemas.outcomes import Outcome
from tests.query.seeding import Cell, Counted, insert_counts, insert_sources, make_token
from tests.query.serving import running_api
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.wait import wait_for

EXAMPLES: Final = Path(__file__).parents[2] / "deploy" / "prometheus"
ORGANIZATIONS: Final = {"loud": 1, "silent": 2, "calm": 3}
PROJECT: Final = 11
DUPLICATES: Final = "prometheus_target_scrapes_sample_duplicate_timestamp_total"


@dataclass
class Watched:
    """Who looks, at which API, and what it counts; `end` is when the last complete minute ended."""

    prometheus: Prometheus
    database: Database
    api: str
    tokens: dict[str, str]
    end: int
    position: int = 1

    def store(self, *cells: Cell, complete_until: int | None = None) -> None:
        """Counts, and then progress, as a flush does it."""
        insert_counts(self.database, cells)
        self.position += 1
        until = complete_until or self.end + 30
        insert_sources(self.database, [Counted(complete_until=until, next_offset=self.position)])

    def firing(self) -> dict[str, str]:
        """The alerts that fire, by organization and name, with their summaries."""
        return {
            f"{alert['labels']['organization']} {alert['labels']['alertname']}": alert["annotations"]["summary"]
            for alert in self.prometheus.firing()
        }

    def samples(self, organization: str) -> dict[str, list[list[Any]]]:
        """Each (time, value) of events of the last ten minutes by outcome."""
        data = self.prometheus.ask("query", query=f'orgstats_events{{organization="{organization}"}}[10m]')
        return {one["metric"]["outcome"]: one["values"] for one in data["result"]}

    def answer(self, organization: str) -> str:
        """What is scraped."""
        path = f"{self.api}/api/0/organizations/{organization}/metrics"
        return httpx.get(path, headers={"Authorization": f"Bearer {self.tokens[organization]}"}).text

    def minute(self, organization: str, **quantities: int) -> list[Cell]:
        """Cells of the last complete minute, by names of outcomes."""
        return [
            Cell(
                ORGANIZATIONS[organization], self.end - 60, quantity, Outcome[name], project_id=PROJECT, chunk=self.end
            )
            for name, quantity in quantities.items()
        ]


@pytest.fixture
def watched(clickhouse_url: str, prometheus: Path, tmp_path: Path) -> Iterator[Watched]:
    """Three organizations: too much of one is rejected, one has no accepted events, one is as it should be."""
    with ExitStack() as ending:
        database = ending.enter_context(Database(clickhouse_url, size=1))
        tokens = {}
        for slug, org_id in ORGANIZATIONS.items():
            Directory(database).add_organization(Wanted(slug, key=org_id), 1.0)
            tokens[slug] = make_token(database, org_id)
        Directory(database).add_project(1, Wanted("pump-station", key=PROJECT), 1.0)
        api = ending.enter_context(running_api(clickhouse_url, tmp_path))
        config = _config(tmp_path, urlsplit(api.url).netloc, tokens)
        running = ending.enter_context(running_prometheus(prometheus, tmp_path, config))
        one = Watched(running, database, api.url, tokens, end=int(time.time()) // 60 * 60 - 120)
        one.store(
            *one.minute("loud", accepted=60, rate_limited=40),
            *one.minute("silent", filtered=5),
            *one.minute("calm", accepted=90, rate_limited=10),
        )
        yield one


def _config(directory: Path, address: str, tokens: dict[str, str]) -> dict[str, Any]:
    """The shipped job once for each organization, and the shipped rules, which fire as soon as they hold."""
    config: dict[str, Any] = yaml.safe_load((EXAMPLES / "organization_scrape.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]
    config["scrape_configs"] = []
    for slug, token in tokens.items():
        (directory / f"token-{slug}").write_text(token)
        config["scrape_configs"].append(
            {
                **job,
                "job_name": f"{job['job_name']}-{slug}",
                "scheme": "http",
                "metrics_path": job["metrics_path"].replace("the-interstellar-jurisdiction", slug),
                "authorization": {"credentials_file": str(directory / f"token-{slug}")},
                "static_configs": [{"targets": [address]}],
            }
        )
    rules = yaml.safe_load((EXAMPLES / config["rule_files"][0]).read_text(encoding="utf-8"))
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
    (directory / "rules.yml").write_text(yaml.safe_dump(rules))
    return {**config, "rule_files": ["rules.yml"]}


def test_both_alerts_fire_and_silence_ends(watched: Watched) -> None:
    """Each for its organization; what was scraped is what is stored, at the end of its minute, with these labels."""
    fired = wait_for(lambda: len(found := watched.firing()) == 2 and found, 60, poll_seconds=0.2)
    assert fired == {
        "loud OrganizationRejectedShare": "loud: 40% of the received events are rejected",
        "silent OrganizationSilent": "silent: no accepted events for ten minutes",
    }
    assert watched.samples("loud") == {"accepted": [[watched.end, "60"]], "rate_limited": [[watched.end, "40"]]}
    assert watched.samples("calm") == {"accepted": [[watched.end, "90"]], "rate_limited": [[watched.end, "10"]]}
    (series,) = watched.prometheus.ask("series", **{"match[]": 'orgstats_events{organization="silent"}'})
    assert series.pop("instance") == urlsplit(watched.api).netloc
    assert series == {
        "__name__": "orgstats_events",
        "job": "orgstats-organization-silent",
        "organization": "silent",
        "project": "11",
        "outcome": "filtered",
        "category": "error",
    }

    watched.end += 60
    watched.store(*watched.minute("silent", accepted=3), *watched.minute("loud", accepted=100, rate_limited=40))
    wait_for(lambda: [*watched.firing()] == ["loud OrganizationRejectedShare"], 60, poll_seconds=0.2)
    both = [[watched.end - 60, "60"], [watched.end, "100"]]
    wait_for(lambda: watched.samples("loud")["accepted"] == both, 60, poll_seconds=0.2)  # each is scraped in its turn
    targets = watched.prometheus.ask("targets")["activeTargets"]
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")] * 3


def test_prometheus_keeps_the_first_value_of_a_minute(watched: Watched) -> None:
    """What comes late is in our next answer; Prometheus drops it, counts that, and takes all others of the scrape."""
    before = wait_for(lambda: watched.samples("loud"), 60, poll_seconds=0.2)
    watched.store(*(cell._replace(chunk=0) for cell in watched.minute("loud", accepted=5, invalid=7)))
    wait_for(lambda: _number(watched.prometheus, DUPLICATES) > 0, 60, poll_seconds=0.2)
    after = wait_for(lambda: "invalid" in (found := watched.samples("loud")) and found, 60, poll_seconds=0.2)
    assert after == {**before, "invalid": [[watched.end, "7"]]}
    assert f" 65 {watched.end}\n" in watched.answer("loud")
    targets = watched.prometheus.ask("targets")["activeTargets"]
    assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")] * 3


def test_a_minute_is_shown_ten_seconds_after_it_is_complete(watched: Watched) -> None:
    """Until then the minute before is: an event reaches Kafka some moments after it happened."""
    shown = watched.end
    for seconds, end in ((69, shown), (70, shown + 60)):
        cell = Cell(1, end - 60, 1000 + seconds, project_id=PROJECT, category=2, chunk=seconds)
        watched.store(cell, complete_until=shown + seconds)
        sample = f" {1000 + seconds} {end}\n"
        wait_for(partial(_shown, watched, sample), 30)


def _shown(watched: Watched, sample: str) -> bool:
    return sample in watched.answer("loud")


def _number(prometheus: Prometheus, name: str) -> float:
    """One of Prometheus' own metrics, 0 where it is not there yet."""
    lines = httpx.get(f"{prometheus.url}/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith(name))
