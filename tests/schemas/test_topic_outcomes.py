"""The message contract: every example of the topic card, and Sentry's own, is classified as it says."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import sentry_kafka_schemas

import orgstats.schemas
from orgstats.consumer.counting.decode import MAX_RECORD_BYTES, AgeLimits, Undecodable, bucket_of, decode, event_second
from orgstats.consumer.counting.rule_history import RuleHistory
from orgstats.schemas.dead_letter_reasons import ReasonCode
from orgstats.schemas.outcomes import DEFAULT_CATEGORY

TOPIC = Path(orgstats.schemas.__file__).parent / "topics" / "outcomes"
EVENTS = sorted(
    path for path in (TOPIC / "examples/events").iterdir() if not path.name.endswith(".classification.json")
)
DEAD = sorted((TOPIC / "examples/dead").glob("*/*.json"))
SENTRY = sorted(sentry_kafka_schemas.iter_examples("outcomes"), key=lambda example: str(example.path))
IN_SCHEMA = ["not_an_object", "timestamp_missing", "timestamp_invalid", "outcome_invalid", "field_invalid"]


def fits(value: bytes) -> bool:
    """Whether a record fits the JSON schema."""
    schema = json.loads((TOPIC / "outcomes.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema).is_valid(json.loads(value))


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_an_example_event_is_counted_as_its_classification_says(path: Path) -> None:
    """Each example of an event has the bucket, the fields and the outcome that stand beside it."""
    classification: dict[str, Any] = json.loads(path.with_suffix(".classification.json").read_text())
    kafka_ms = classification.pop("kafka_timestamp_ms")
    event = decode(path.read_bytes())
    bucket, moved = bucket_of(event_second(event.timestamp), kafka_ms, AgeLimits())
    outcome, reason = RuleHistory().classify(event, kafka_ms)
    assert classification == {
        "org_id": event.org_id or 0,
        "project_id": event.project_id,
        "key_id": event.key_id,
        "category": DEFAULT_CATEGORY if event.category is None else event.category,
        "outcome": outcome,
        "reason": reason,
        "quantity": 1 if event.quantity is None else event.quantity,
        "bucket": bucket,
        "counted_at_kafka_time": moved,
    }


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_the_schema_lets_every_event_pass(path: Path) -> None:
    """A producer that validates against the schema is never told wrong."""
    assert fits(path.read_bytes())


@pytest.mark.parametrize("path", DEAD, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_example_of_a_dead_letter_has_its_code(path: Path) -> None:
    """Each example that does not count gets the code that its folder is named after."""
    with pytest.raises(Undecodable) as dead:
        event_second(decode(path.read_bytes()).timestamp)
    assert dead.value.code.value == path.parent.name


@pytest.mark.parametrize(
    "path", [p for p in DEAD if p.parent.name in IN_SCHEMA], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_the_schema_stops_what_it_can(path: Path) -> None:
    """A dead letter that is JSON fails the schema too, but for what no schema can say."""
    assert fits(path.read_bytes()) == path.stem.startswith("beyond-schema-")


def test_every_code_has_an_example() -> None:
    """No code is without a record that shows it; the one of 1 MiB is made here."""
    with pytest.raises(Undecodable) as dead:
        decode(b'{"timestamp":1584824405,"x":"' + b"x" * MAX_RECORD_BYTES + b'"}')
    assert dead.value.code is ReasonCode.too_large
    assert {path.parent.name for path in DEAD} | {"too_large"} == {code.value for code in ReasonCode}


def test_the_card_names_every_code_in_order() -> None:
    """The table of codes in the topic card is the list that the code goes through."""
    rows = [line.split("`")[1] for line in (TOPIC / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert rows == [code.value for code in ReasonCode]


@pytest.mark.parametrize("example", SENTRY, ids=lambda example: example.path.stem)
def test_sentrys_own_examples_are_read_as_they_are(example: sentry_kafka_schemas.types.Example) -> None:
    """Each record that Sentry publishes as an example of `outcomes` decodes to the same fields and second."""
    value = example.path.read_bytes()
    fields = json.loads(value)
    event = decode(value)
    told = ("timestamp", "org_id", "project_id", "key_id", "outcome", "reason", "category", "quantity")
    assert {name: getattr(event, name) for name in told} == {name: fields.get(name) for name in told}
    cut = fields["timestamp"][:19] + "+00:00"
    assert event_second(event.timestamp) == int(datetime.fromisoformat(cut).timestamp())
    assert fits(value)


def test_sentrys_examples_were_found() -> None:
    """The package still carries its examples."""
    assert len(SENTRY) >= 6
