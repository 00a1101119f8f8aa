"""Questions to Kafka and ClickHouse while consumers count on: no order of their steps may look like a fault."""

from collections.abc import Callable, Collection, Iterable
from typing import Any, cast

import pytest

from orgstats.consumer.counting.grid import Grid
from orgstats.consumer.counting.resume import Progress, Registration
from orgstats.consumer.counting.source import Source
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.ops import doctor
from orgstats.consumer.ops.connections import Connections
from orgstats.consumer.ops.lag import lag
from orgstats.consumer.settings import ConsumerSettings
from orgstats.errors import Unavailable

PARTITIONS = 500


class Busy:
    """Broker and store of a healthy group: before each question 100 more are produced, stored and committed."""

    def __init__(self, *topics: str) -> None:
        self.topics = topics
        self.end = self.stored = self.commit = 1_000
        self.transaction = 1_000_000  # where one was begun that is not ended
        self.isolations = ["read_committed"]
        self.asked: list[str] = []

    def _go_on(self, question: str) -> None:
        self.asked.append(question)
        self.end += 100
        self.stored = self.commit = self.end

    def partitions(self, topic: str) -> int:
        return PARTITIONS if topic in self.topics else 0

    def describe(self, topics: Iterable[str]) -> dict[str, tuple[str, int]]:
        return {name: ("uuid", PARTITIONS) for name in topics if name in self.topics}

    def starts(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    def ends(self, tps: Collection[TopicPartition], isolation: str) -> dict[TopicPartition, int]:
        if tps:
            self._go_on(f"{isolation} ends")
        return dict.fromkeys(tps, min(self.end, self.transaction) if isolation == "read_committed" else self.end)

    def committed(self, _group: str, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        self._go_on("commits")
        return dict.fromkeys(tps, self.commit)

    def progress(self, sources: Iterable[Source]) -> dict[int, Progress]:
        self._go_on("progress")
        return {source.source_id: Progress(self.stored, "", 0, 0, 0) for source in sources}

    def registrations(self, sources: Iterable[Source]) -> dict[int, Any]:
        return {
            source.source_id: Registration(Grid(), self.isolations[source.partition % len(self.isolations)], 0)
            for source in sources
        }

    def grids(self, source_ids: Iterable[int]) -> dict[int, Grid]:
        return dict.fromkeys(source_ids, Grid())

    def group_members(self, _group: str) -> int:
        return 1

    def repairs(self, _sources: Iterable[Source]) -> dict[int, Any]:
        return {}

    def offsets_at(self, tps: Iterable[TopicPartition], _epoch_ms: int) -> dict[TopicPartition, int | None]:
        return dict.fromkeys(tps)

    def topic_settings(self, _topic: str) -> dict[str, str]:
        raise Unavailable("not asked here")

    def run(self, _call: Callable[..., Any]) -> list[Any]:
        return []


def site_of(busy: Busy, *topics: str) -> tuple[Connections, list[str]]:
    """Connections to these topics, and what it tells."""
    settings = ConsumerSettings(
        bootstrap_servers="127.0.0.1:1", topic=topics, clickhouse_url="clickhouse://nobody@127.0.0.1:1/nowhere"
    )
    told: list[str] = []
    servers = cast("Any", busy)
    return Connections(settings, servers, servers, servers, told.append), told


def test_a_commit_is_never_shown_ahead_of_what_healthy_consumers_store() -> None:
    """However the group goes on between questions: commit <= position <= end, and doctor has nothing to act on."""
    busy = Busy("busy")
    connections, _ = site_of(busy, "busy")
    for one in lag(connections, None):
        assert one.committed is not None
        assert one.position is not None
        assert one.committed <= one.position <= one.end
    assert [finding for finding in doctor._lag(connections) if finding.level == "act"] == []


@pytest.mark.parametrize(
    ("isolations", "expected"),
    [
        (["read_committed"], ["read_uncommitted ends", "read_committed ends"]),
        (["read_uncommitted"], ["read_uncommitted ends"]),
        (["read_committed", "read_uncommitted"], ["read_uncommitted ends", "read_committed ends"]),
    ],
)
def test_all_ends_are_one_question_for_each_isolation_after_the_progress(
    isolations: list[str], expected: list[str]
) -> None:
    """With a question for each of 500 partitions the last one would look 500 answers behind."""
    busy = Busy("busy")
    busy.isolations = isolations
    found = lag(site_of(busy, "busy")[0], None)
    assert busy.asked == ["commits", "progress", *expected]
    assert {one.behind for one in found} <= {100, 200}


def test_records_that_are_produced_meanwhile_are_not_hidden_by_a_transaction() -> None:
    """Nothing is hidden under load without an open transaction; with one all behind its first record is."""
    busy = Busy("busy")
    assert {one.open_transaction for one in lag(site_of(busy, "busy")[0], None)} == {0}
    busy.transaction = busy.end
    assert {one.open_transaction for one in lag(site_of(busy, "busy")[0], None)} == {300}


def test_a_topic_that_is_gone_does_not_keep_an_answer_about_the_others() -> None:
    """What is there is shown, and what is not there is told; none there at all is an error."""
    connections, told = site_of(Busy("busy"), "busy", "gone")
    assert {one.topic for one in lag(connections, None)} == {"busy"}
    assert told == ["topic gone does not exist: this answer is without it"]
    with pytest.raises(Unavailable, match="topic gone does not exist"):
        lag(site_of(Busy("busy"), "gone")[0], None)
