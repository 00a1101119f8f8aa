"""Waiting for records by the monotonic clock.

librdkafka's own waits end at a time of the wall clock (seen with 2.16.1 on Linux). While that is set back by an hour, a
wait of 0.1 s lasts an hour unless records come: nothing would be stored and no completeness told meanwhile. Without
a timeout it does not wait at all, so the waiting is done here.
"""

import time
from typing import Final

from confluent_kafka import Consumer, Message

POLL_SECONDS: Final = 0.01
"""Between two looks; none is needed while there are more records than are asked for."""


def consume(consumer: Consumer, most: int, seconds: float) -> list[Message]:
    """Up to `most` messages, as many as come within `seconds`; callbacks run on this thread meanwhile.

    A rebalance may take partitions away after some of their messages were gathered: these are still returned.
    """
    deadline = time.monotonic() + seconds
    messages = consumer.consume(most, 0)
    while len(messages) < most and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(POLL_SECONDS, left))
        messages += consumer.consume(most - len(messages), 0)
    return messages
