"""Rows of the operators' page: what is read of each thing, how it is shown, and the command that acts on it.

Commands are ready for a shell: names in them are quoted, whatever somebody has called a topic.
"""

import shlex
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from orgstats.schemas.replay_options import replay_options

Json = dict[str, Any]

_OPTIONS: Final = (
    *("--topic", "--partitions", "--from-offset", "--to-offset", "--since", "--until", "--head"),
    *("--repair", "--rewind"),
)
"""Of a replay, in the order in which they are shown."""


class Counted(NamedTuple):
    """A partition: how far it is counted, and what was last seen of its log. Times in epoch ms, 0 for unknown."""

    topic: str
    partition: int
    position: int
    has_progress: bool
    complete_until: int
    written_at: int
    cut_at: int
    cut_to: int
    retired: bool
    consumer: str
    log_start: int
    log_end: int
    readable_end: int
    retention_deadline: int
    pause_reasons: Sequence[str]
    seen_at: int

    @property
    def name(self) -> str:
        """topic/partition."""
        return f"{self.topic}/{self.partition}"

    @property
    def on(self) -> str:
        """The option that names its topic."""
        return f"--topic {shlex.quote(self.topic)}"

    @property
    def lag(self) -> int | None:
        """Records behind the true end; None while nobody has told of the log."""
        return max(0, self.log_end - max(self.position, self.log_start)) if self.seen_at else None

    @property
    def hidden(self) -> int:
        """Of those the ones that are behind a transaction which is not ended."""
        return max(0, self.log_end - max(self.readable_end, self.position)) if self.seen_at else 0

    @property
    def is_cut(self) -> bool:
        """Whether chunks are still to be counted again since the log was cut back."""
        return self.position < self.cut_to

    def shown(self) -> Json:
        """As JSON."""
        unretire = f"orgstats topics unretire {shlex.quote(self.topic)}"
        return {
            **_times(self._asdict(), "complete_until", "written_at", "retention_deadline", "seen_at"),
            "lag": self.lag,
            "hidden": self.hidden,
            "is_cut": self.is_cut,
            "command": unretire if self.retired else f"orgstats lag {self.on}",
        }


class Gap(NamedTuple):
    """Offsets [first, end) that are lost. `all_gaps` and `all_offsets` are of all gaps together."""

    topic: str
    partition: int
    first: int
    end: int
    why: str
    seen_at: int
    all_gaps: int
    all_offsets: int

    @property
    def command(self) -> str:
        """Of what was skipped the log may still have something."""
        where = f"--topic {shlex.quote(self.topic)} --partitions {self.partition}"
        if self.why == "skip accepted":
            return f"orgstats replay plan {where} --from-offset {self.first} --to-offset {self.end}"
        return f"orgstats audit {where}"

    def shown(self) -> Json:
        """As JSON."""
        row = _times(self._asdict(), "seen_at")
        return {name: row[name] for name in self._fields[:6]} | {"command": self.command}


class Replay(NamedTuple):
    """A replay: step 0 is running, 1 done, 2 undone. `active_at` is when it last stored something."""

    replay_id: str
    action: str
    request: str
    by: str
    step: int
    at: int
    active_at: int
    chunks: int

    @property
    def command(self) -> str:
        """The same again goes on with one that is not done; one that is done can be undone where it took back."""
        if self.step == 0:
            return self._apply()
        return (
            f"orgstats replay undo {self.replay_id}"
            if self.step == 1 and self.action != "fill"
            else "orgstats replay ls"
        )

    def _apply(self) -> str:
        words = ["orgstats", "replay", "apply"]
        for option, value in sorted(replay_options(self.request), key=lambda one: _OPTIONS.index(one[0])):
            # What may begin with a minus is put behind an equals sign.
            words += (
                [option, value] if option in ("--topic", "--partitions") else [f"{option}={value}" if value else option]
            )
        return shlex.join(words)

    def shown(self) -> Json:
        """As JSON."""
        step = {0: "running", 1: "done", 2: "undone"}.get(self.step, str(self.step))
        return {**_times(self._asdict(), "at", "active_at"), "step": step, "command": self.command}


class Letters(NamedTuple):
    """Dead letters of a topic and reason, and how many of them were sent again; `newest` is one."""

    topic: str
    reason: str
    records: int
    sent: int
    newest: tuple[int, int]


class Letter(NamedTuple):
    """A dead letter with all that is stored of it."""

    source_id: int
    offset: int
    topic: str
    partition: int
    kafka_timestamp: int
    error: str
    key: str | bytes
    headers: Sequence[tuple[str | bytes, str | bytes]]
    payload: str | bytes
    payload_bytes: int

    @property
    def command(self) -> str:
        """It in full, in a terminal."""
        return f"orgstats dead-letters show {shlex.quote(f'{self.topic}/{self.partition}/{self.offset}')}"

    def shown(self) -> Json:
        """As JSON; bytes that are no text have escapes."""
        return {
            "place": f"{self.topic}/{self.partition}/{self.offset}",
            "kafka_timestamp": self.kafka_timestamp / 1000,
            "error": self.error,
            "key": _text(self.key),
            "headers": [[_text(name), _text(value)] for name, value in self.headers],
            "payload": _text(self.payload),
            "payload_bytes": self.payload_bytes,
        }


class Audit(NamedTuple):
    """What an audit found; places are topic/partition."""

    audit_id: str
    places: Sequence[str]
    recount: bool
    chunks: int
    compared: int
    differences: int
    first: str
    by: str
    at: int

    @property
    def command(self) -> str:
        """What a repair would change, or the same again."""
        words = ["replay", "plan", "--repair"] if self.differences else ["audit", *["--recount"] * self.recount]
        topics = sorted({place.rpartition("/")[0] for place in self.places})
        options = [word for topic in topics for word in ("--topic", topic)]
        if len(topics) == 1:
            partitions = sorted({int(place.rpartition("/")[2]) for place in self.places})
            options += ["--partitions", ",".join(map(str, partitions))]
        return shlex.join(["orgstats", *words, *options])

    def shown(self) -> Json:
        """As JSON."""
        return {**_times(self._asdict(), "at"), "command": self.command}


class Rules(NamedTuple):
    """An entry of the rules that is not void."""

    version: int
    entry_id: str
    effective_from: int
    toml: str
    published_by: str
    published_at: int
    note: str

    def shown(self, state: str) -> Json:
        """As JSON."""
        row = _times(self._asdict(), "effective_from", "published_at")
        return {**row, "state": state, "command": f"orgstats rules show {self.entry_id}"}


class Erasure(NamedTuple):
    """An erasure that is not done."""

    org_id: int
    by: str
    at: int


def _times(row: Json, *names: str) -> Json:
    """Milliseconds as seconds, 0 as None."""
    return row | {name: row[name] / 1000 if row[name] else None for name in names}


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
