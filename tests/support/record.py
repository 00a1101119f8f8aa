"""A Kafka record without a Kafka, as much of it as is counted (consumer/counting/batch.py, `Record`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """Where it lies, its bytes, its timestamp and the epoch that it was written in; no key."""

    at: int
    body: bytes | None
    when_ms: int
    epoch: int | None = 0
    kind: int = 1
    """Of timestamp: 1 is the producer's, 2 Kafka's."""
    pairs: tuple[tuple[str, bytes], ...] = ()
    """Its headers."""

    def offset(self) -> int:
        """Its place."""
        return self.at

    def value(self) -> bytes | None:
        """Its bytes."""
        return self.body

    def __len__(self) -> int:
        """Bytes of the value."""
        return len(self.body or b"")

    def key(self) -> bytes | None:
        """None."""
        return None

    def timestamp(self) -> tuple[int, int]:
        """Its kind, and epoch milliseconds."""
        return self.kind, self.when_ms

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """None where there are none."""
        return [*self.pairs] or None

    def leader_epoch(self) -> int | None:
        """None on a broker without epochs."""
        return self.epoch
