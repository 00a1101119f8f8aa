"""The baseline: what confluent-kafka's `consume()` costs with nothing behind it, or with decoding alone behind it."""

import sys

from confluent_kafka import Consumer, Message

from orgstats.consumer.counting.batch import _decode_event
from orgstats.consumer.kafka.properties import DEFAULTS
from orgstats.consumer.settings import ConsumerSettings
from tests.bench.ingest.programs.job import Job


def main(*, decode: bool) -> None:
    """Read all records, in batches as the daemon reads them."""
    job = Job()
    size: int = ConsumerSettings.model_fields["batch_size"].default
    consumer = Consumer({**DEFAULTS, **job.properties()})
    consumer.subscribe([job.topic])
    finished = False
    while not finished:
        messages = consumer.consume(size, 0.1)
        if decode:
            for _ in map(_decode_event, map(Message.value, messages)):  # type: ignore[arg-type]
                pass
        finished = bool(messages) and job.take(len(messages))
    job.done()
    consumer.close()


if __name__ == "__main__":
    main(decode="--decode" in sys.argv)
