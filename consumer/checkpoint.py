"""The end of the chain: what was counted is stored, then committed, in a fixed order.

1. The topics are still the ones that were assigned; asked after the last record was read, so that no record of
   a re-created topic is ever stored under the old one. A topic that is not is given up; the others are counted on.
2. ClickHouse still holds what it confirmed: restored from an older copy under running consumers, it would be left
   with a hole. Then the clocks, and after them the ends of the logs, which tell up to when the counts are complete.
   A partition whose end is not told, having no leader, is stored without a newer claim; it holds back no others.
3. ClickHouse: how far this goes, repairs and gaps, dead letters, cells, progress (`Store.write`).
4. The commit, by the worker (`commit`), once it has learned that all this is stored.

Failure semantics: each step may be repeated, and a failure in any of them leaves nothing that the next
checkpoint, here or in another process, does not make right. Before step 3 nothing has happened. Within it,
part of the counts may be stored: the next ones have higher versions. After it, only Kafka's lag tools are late.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from orgstats import tracing
from orgstats.consumer import metrics, ports
from orgstats.consumer.counting.completeness import Moment, SeenEnds
from orgstats.consumer.counting.partition import PartitionChanges
from orgstats.consumer.kafka.group import TopicPartition
from orgstats.consumer.store.rows import Flush, ProgressUpdate
from orgstats.errors import Unavailable
from orgstats.failpoints import failpoint

logger = structlog.get_logger("orgstats.consumer")


@dataclass(frozen=True, slots=True)
class Assigned:
    """What a partition was assigned as: its topic's UUID (None when the operator names its id).

    `counted` is the progress that was stored when it was opened, -1 for none, and `hourly` that of `hourly`;
    `chunk_length` the one it was registered with, 0 when that does not matter. `leans_on` is where the torn flush ends
    whose cells were loaded, 0 for none: what they hold is not stored again.
    """

    uuid: str | None
    topic_id: str
    rewinds: int
    counted: int = -1
    chunk_length: int = 0
    hourly: int = 0
    leans_on: int = 0


class Position(NamedTuple):
    """What is stored of a partition, and the moment up to which its counts are complete, epoch seconds; 0: unknown.

    `record_timestamp` is that of the last record before the position, epoch seconds; 0 while none was read.
    """

    next_offset: int
    complete_until: float
    record_timestamp: float = 0.0


class StoreWentBack(Exception):
    """The store holds less than it has confirmed to this process: it was restored from an older copy."""


class LogsCutBack(Exception):
    """Logs that end below what was read of them; nothing of this checkpoint is stored."""

    def __init__(self, tps: Collection[TopicPartition]) -> None:
        super().__init__(", ".join("{}/{}".format(*tp) for tp in tps))
        self.tps = tps


class TopicsGone(Exception):
    """Topics that were deleted while they were counted, perhaps made again; nothing of this checkpoint is stored."""

    def __init__(self, topics: Mapping[str, str]) -> None:
        super().__init__(" ".join(topics.values()))
        self.topics = topics
        """What to tell, by topic."""


@dataclass(frozen=True, slots=True)
class CheckpointItem:
    """One partition's part of a checkpoint; `stored_offset` and `stored_hourly` are confirmed, -1 and 0 at first."""

    tp: TopicPartition
    assigned: Assigned
    stored_offset: int
    stored_hourly: int
    changes: PartitionChanges
    last_timestamp_ms: int
    seen: SeenEnds
    seen_hourly: SeenEnds


class Checkpoints:
    """Runs steps 1 to 3, one checkpoint at a time; on a thread of its own, so that counting goes on meanwhile."""

    def __init__(self, topics: ports.Topics, store: ports.Store, clock: ports.Clock) -> None:
        self._topics = topics
        self._store = store
        self._clock = clock
        self._silent: set[TopicPartition] = set()

    def run(self, work: list[CheckpointItem], fingerprint: str) -> Mapping[TopicPartition, Position]:
        """Store; returns what is stored now.

        Raises Unavailable (again later), StoreWentBack or LogsCutBack (open the partitions again), or TopicsGone (go on
        with others).
        """
        with tracing.span("checkpoint", {"orgstats.partitions": len(work)}):
            return self._run(work, fingerprint)

    def _run(self, work: list[CheckpointItem], fingerprint: str) -> Mapping[TopicPartition, Position]:
        started = self._clock.monotonic()
        partitions = self._same_topics(work)
        self._still_there(work)
        self._see_ends(work)
        flush = Flush([one.changes for one in work], fingerprint, self._clock.epoch_ms())
        flush.progress = [
            ProgressUpdate(
                one.changes.source,
                one.changes.next_offset,
                one.changes.kafka_timestamp_ms,
                one.seen.complete_until_ms(one.changes.next_offset),
                partitions[one.tp[0]],
                one.assigned.rewinds,
                one.changes.fingerprint_before,
                one.changes.mark,
                one.changes.cut,
                one.changes.hourly_offset,
                one.seen_hourly.complete_until_ms(one.changes.hourly_offset),
            )
            for one in work
        ]
        failpoint("before_insert")
        with tracing.span("store"):
            written = self._store.write(flush)
        for table, rows in written.items():
            metrics.rows_written.labels(table).inc(rows)
        failpoint("after_insert")
        metrics.flush_seconds.observe(self._clock.monotonic() - started)
        metrics.last_flush_timestamp_seconds.set(self._clock.epoch_ms() / 1000)
        return {
            one.tp: Position(reached.next_offset, reached.complete_until_ms / 1000, one.last_timestamp_ms / 1000)
            for one, reached in zip(work, flush.progress, strict=True)
        }

    def _same_topics(self, work: list[CheckpointItem]) -> dict[str, int]:
        """Partitions by topic; TopicsGone when one of them is not there or not the one that was assigned."""
        partitions: dict[str, int] = {}
        uuids = {one.tp[0]: one.assigned.uuid for one in work}
        gone: dict[str, str] = {}
        described = self._topics.describe([topic for topic, uuid in uuids.items() if uuid is not None])
        for topic, uuid in uuids.items():
            if uuid is None:
                partitions[topic] = self._topics.partitions(topic)
                continue
            if topic not in described:
                gone[topic] = gone_topic(topic)
                continue
            now_uuid, partitions[topic] = described[topic]
            if now_uuid != uuid:
                gone[topic] = another_topic(topic, uuid, now_uuid)
        if gone:
            raise TopicsGone(gone)
        return partitions

    def _see_ends(self, work: list[CheckpointItem]) -> None:
        """The clocks come first: what is acknowledged after they were read may lie beyond the ends, but nothing before.

        The ends are the logs' true ones: an open transaction hides acknowledged records from who reads committed ones.

        A partition without a leader does not tell its end. What was read of it is stored and committed like the
        others', but nothing new is said of up to when it is complete: only looks at its log can tell. The guarantee
        allows to store it, since a log may be cut back right after any look. If the next leader has less than was
        read, the first look that is answered finds that, as after any cut: what vanished is taken back and listed.
        Kept in memory instead it could fill that, which would hold back all partitions, and hold up who stops.
        The same where none tells, since this one may be all that is due: Kafka has just answered about the topics.
        """
        now = earliest_clock(self._store, self._clock)
        ends, silent = self._topics.told_ends([one.tp for one in work], "read_uncommitted")
        self._tell_silent(ends, silent)
        told = [one for one in work if one.tp in ends]
        if shorter := [one.tp for one in told if ends[one.tp] < one.changes.next_offset]:
            raise LogsCutBack(shorter)
        for one in told:
            one.seen.saw(now, ends[one.tp])
            one.seen_hourly.saw(now, ends[one.tp])

    def _tell_silent(self, ends: Collection[TopicPartition], silent: Mapping[TopicPartition, Unavailable]) -> None:
        """Each is logged when it becomes silent and when it is not any more, not at every checkpoint."""
        for tp, error in silent.items():
            metrics.end_unknown.labels(*tp).set(1)
            if tp not in self._silent:
                logger.warning("end of the log unknown", topic=tp[0], partition=tp[1], error=str(error))
        for tp in self._silent.intersection(ends):
            metrics.end_unknown.remove(*tp)
            logger.info("end of the log known again", topic=tp[0], partition=tp[1])
        self._silent = (self._silent - set(ends)) | set(silent)

    def _still_there(self, work: list[CheckpointItem]) -> None:
        progress = self._store.progress([one.changes.source for one in work])
        unsure = []
        for one in work:
            found = progress.get(one.changes.source.source_id)
            if found is not None and found.rewinds > one.assigned.rewinds:
                raise StoreWentBack("{}/{}: set back by another process".format(*one.tp))
            confirmed = max(one.stored_offset, one.assigned.counted)
            if (found.next_offset if found else -1) < confirmed:
                held = found.next_offset if found else 0
                raise StoreWentBack("{}/{}: stored below {}, now below {}".format(*one.tp, confirmed, held))
            first = (one.assigned.counted, one.assigned.hourly)
            offset, hourly = first if one.stored_offset < 0 else (one.stored_offset, one.stored_hourly)
            if found is not None and found.next_offset == offset and found.hourly_offset < hourly:
                text = "{}/{}: hourly stored below {}, now below {}"
                raise StoreWentBack(text.format(*one.tp, hourly, found.hourly_offset))
            if found is None or found.next_offset > confirmed:
                unsure.append(one)  # nobody has stored anything yet, or another process has, perhaps after a restore
        registered = self._store.registrations([one.changes.source for one in unsure])
        for one in unsure:
            registration = registered.get(one.changes.source.source_id)
            if registration is None:
                raise StoreWentBack("{}/{}: it was registered, and is not any more".format(*one.tp))
            if one.assigned.chunk_length not in (0, registration.grid.length_at(0)):
                raise StoreWentBack("{}/{}: registered by another process with another length".format(*one.tp))
        self._torn_still_there([one for one in work if one.assigned.leans_on > max(one.stored_offset, 0)])

    def _torn_still_there(self, work: list[CheckpointItem]) -> None:
        """A copy may have the same progress and not the torn flush: nothing but `flushes` tells of that."""
        begun = self._store.begun([one.changes.source for one in work]) if work else {}
        for one in work:
            if begun.get(one.changes.source.source_id, (0, 0)) < (one.assigned.rewinds, one.assigned.leans_on):
                raise StoreWentBack("{}/{}: a torn flush was stored, and is not any more".format(*one.tp))


def earliest_clock(store: ports.Store, clock: ports.Clock) -> Moment:
    """Now, as `earliest_clock_ms` tells it."""
    asked = clock.monotonic()
    return Moment(earliest_clock_ms(store, clock.epoch_ms()), asked, clock.monotonic())


def earliest_clock_ms(store: ports.Store, here_ms: int) -> int:
    """Epoch milliseconds by this process's clock or ClickHouse's, whichever is behind: neither may be exceeded."""
    return min(store.clock_ms(), here_ms)


def gone_topic(topic: str) -> str:
    """What to tell about a topic that is no longer there."""
    return f"topic {topic} is gone: it was deleted while it was counted. What was counted of it stays."


def another_topic(topic: str, before: str | None, now: str | None) -> str:
    """What to tell about a topic whose UUID is not the one that was counted."""
    return (
        f"topic {topic} was deleted and made again (UUID {before}, now {now}). What was counted of the "
        "old one stays; start again to count the new one from its first record."
    )


def commit(log: ports.GroupConsumer, work: list[CheckpointItem], fingerprint: str, *, wait: bool) -> None:
    """Step 4. Raises Unavailable when it is known to have failed; the next commit makes up for it."""
    failpoint("before_commit")
    log.commit(
        {one.tp: one.changes.next_offset for one in work},
        {one.tp: commit_metadata(one.assigned.topic_id, fingerprint) for one in work},
        wait=wait,
    )
    failpoint("after_commit")


def commit_metadata(topic_id: str, fingerprint: str) -> str:
    """What stands beside a commit, for the next owner and for people with Kafka's tools."""
    return f"orgstats topic_id={topic_id} fingerprint={fingerprint}"


def committed_topic_id(metadata: str) -> str | None:
    """The topic id in a commit's metadata; None when the commit was made by another tool."""
    for part in metadata.split():
        name, _, value = part.partition("=")
        if name == "topic_id":
            return value
    return None
