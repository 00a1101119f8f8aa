"""How far is stored and committed what this process counts, for the metrics and for who watches the logs."""

from collections.abc import Iterable

from orgstats.consumer import metrics
from orgstats.consumer.checkpoint import CheckpointItem, Position
from orgstats.consumer.kafka.group import TopicPartition


class Positions:
    """Position by partition, of those where anything is stored yet."""

    def __init__(self) -> None:
        self._positions: dict[TopicPartition, Position] = {}

    def copy(self) -> dict[TopicPartition, Position]:
        """As they are now; may be asked on any thread."""
        return self._positions.copy()

    def stored(self, item: CheckpointItem, position: Position) -> None:
        """A checkpoint has come so far."""
        self._positions[item.tp] = position
        metrics.next_offset.labels(*item.tp).set(position.next_offset)
        if position.complete_until:
            metrics.complete_until_timestamp_seconds.labels(*item.tp).set(position.complete_until)
        else:
            metrics.complete_until_timestamp_seconds.remove(*item.tp)
        for dead in item.changes.notes.dead_letters:
            metrics.dead_letters.labels(item.tp[0], dead.code).inc()

    def forget(self, tps: Iterable[TopicPartition]) -> None:
        """These are not counted here any more."""
        forgotten = set(tps)
        for tp in forgotten & self._positions.keys():
            del self._positions[tp]
        metrics.forget(forgotten)
