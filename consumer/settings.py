"""Settings of the daemon: flags over ORGSTATS_* over defaults, unsafe combinations refused at start."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from orgstats.clickhouse.url import ClickHouseUrl
from orgstats.consumer.counting.decode import AgeLimits
from orgstats.consumer.counting.grid import CHUNK_LENGTH, LONGEST, SHORTEST
from orgstats.consumer.counting.limits import DeadLetterLimits
from orgstats.consumer.kafka import msk, properties
from orgstats.consumer.kafka.properties import DEFAULTS, FIXED, REFUSED_BY_CONSUMER_PROTOCOL, defaults, incremental
from orgstats.settings import Settings


class ConsumerSettings(Settings):
    """Everything that `orgstats consume` can be told; each field's description is its help."""

    bootstrap_servers: Annotated[str, Field(description="Kafka's addresses, host:port[,host:port]")]
    topic: Annotated[tuple[str, ...], Field(min_length=1, description="the topics to count, separated by commas")]
    group: Annotated[str, Field(min_length=1, description="the consumer group")] = "orgstats"
    clickhouse_url: ClickHouseUrl
    instance_id: Annotated[
        str | None,
        Field(
            description="a name of this process that survives restarts, for static membership: a restart within "
            "session.timeout.ms then moves no partition. Each process needs its own"
        ),
    ] = None
    topic_id: Annotated[
        str | None,
        Field(
            description="stands for the topic's UUID where a broker has none; another whenever the topic is made again"
        ),
    ] = None
    flush_seconds: Annotated[float, Field(ge=1.0, le=60.0, description="seconds between inserts, 1 to 60")] = 1.0
    hourly_seconds: Annotated[
        float,
        Field(
            ge=1.0,
            le=600.0,
            description="seconds between inserts into the table of hours, 1 to 600; a chunk's end is one in any case",
        ),
    ] = 30.0
    chunk_length: Annotated[
        int,
        Field(
            ge=SHORTEST,
            le=LONGEST,
            description="offsets in a chunk of partitions that are counted for the first time, a power of two, "
            f"{SHORTEST} to {LONGEST}; the others keep theirs",
        ),
    ] = CHUNK_LENGTH
    reading: Annotated[
        Literal["batches", "messages"],
        Field(
            description="how records are read: batches, by compiled code where it works, or messages, an object each"
        ),
    ] = "batches"
    batch_size: Annotated[int, Field(ge=1, le=1_000_000, description="most records per read, 1 to 1000000")] = 10_000
    max_event_age_seconds: Annotated[
        int, Field(ge=0, description="an event older than its Kafka timestamp by more counts at that timestamp")
    ] = AgeLimits().max_age_seconds
    max_event_ahead_seconds: Annotated[
        int, Field(ge=0, description="an event ahead of its Kafka timestamp by more counts at that timestamp")
    ] = AgeLimits().max_ahead_seconds
    projects: Annotated[bool, Field(description="also count by project, and by key of a client")] = True
    accept_skip: Annotated[
        bool, Field(description="go on at a commit that is ahead of what ClickHouse holds, and list the gap")
    ] = False
    allow_compaction: Annotated[
        bool,
        Field(
            description="count topics with compact in their cleanup.policy, too: each record that was still there when "
            "it was reached; nothing is ever counted again"
        ),
    ] = False
    dead_letter_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="halt a partition when more than this share of its last 10000 records is bad; 0: off",
        ),
    ] = 0.2
    dead_letter_run: Annotated[
        int, Field(ge=0, description="halt a partition when so many of its records in a row are bad; 0: never")
    ] = 1_000
    rules: Annotated[Path | None, Field(description="a rules file to publish at start, if it differs")] = None
    audit_seconds: Annotated[
        float,
        Field(ge=0, description="seconds between two closed chunks that are counted again and compared; 0: never"),
    ] = 0.0
    revoke_seconds: Annotated[
        float, Field(ge=0, le=60, description="seconds that a last flush may take when partitions are taken away")
    ] = 10.0
    metrics_listen: Annotated[
        str | None, Field(pattern=r"^[^:]*:\d+$", description="host:port for Prometheus metrics, as :9108")
    ] = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="least severe log line")] = (
        "info"
    )
    msk_region: Annotated[
        str, Field(description="AWS region of an MSK cluster, to log in by IAM; needs the extra msk")
    ] = ""
    kafka: Annotated[
        dict[str, str], Field(description="any other librdkafka property: ORGSTATS_KAFKA__SASL_USERNAME=…")
    ] = {}

    @field_validator("chunk_length")
    @classmethod
    def _is_a_power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("it is not a power of two")
        return value

    @field_validator("metrics_listen")
    @classmethod
    def _has_a_port(cls, value: str | None) -> str | None:
        if value and not 0 <= int(value.rpartition(":")[2]) <= 65_535:
            raise ValueError("its port is not one of 0 to 65535")
        return value

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> "ConsumerSettings":
        faults = []
        for name, value in self.kafka.items():
            variable = f"ORGSTATS_KAFKA__{name.upper().replace('.', '_')}"
            if name in properties.VARIABLES:
                faults.append(f"{variable}: set {properties.VARIABLES[name]} instead")
            if name in FIXED:
                faults.append(f"{variable}: is fixed, exact counts depend on it; unset it")
            if name == "partition.assignment.strategy" and "cooperative" in value:
                faults.append(f"{variable}: the cooperative protocol is not supported; use range or roundrobin")
            if name in REFUSED_BY_CONSUMER_PROTOCOL and incremental(self.kafka):
                faults.append(f"{variable}: group.protocol=consumer leaves this to the broker; unset it")
            if name == "isolation.level" and value not in ("read_committed", "read_uncommitted"):
                faults.append(f"{variable}: must be read_committed or read_uncommitted")
        faults = faults or properties.faults({**defaults(self.kafka), **self.kafka_properties(), **FIXED})
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def limits(self) -> AgeLimits:
        """How far an event's time may be from its Kafka timestamp."""
        return AgeLimits(self.max_event_age_seconds, self.max_event_ahead_seconds)

    @property
    def dead_letter_limits(self) -> DeadLetterLimits:
        """From how many dead letters on the consumer halts."""
        return DeadLetterLimits(share=self.dead_letter_share, run=self.dead_letter_run)

    @property
    def isolation(self) -> str:
        """Kafka's isolation.level."""
        return self.kafka.get("isolation.level", str(DEFAULTS["isolation.level"]))

    def kafka_properties(self) -> dict[str, Any]:
        """librdkafka's properties of the consumer, without those that are fixed."""
        own: dict[str, Any] = {"bootstrap.servers": self.bootstrap_servers, "group.id": self.group}
        if self.instance_id:
            own["group.instance.id"] = self.instance_id
        return {**(msk.properties(self.msk_region) if self.msk_region else {}), **self.kafka, **own}
