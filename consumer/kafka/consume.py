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


def consume(consumer: Consumer, most: int, seconds: float, enough: int | None = None) -> list[Message]:
    """Up to `most` messages, as many as come within `seconds`; callbacks run on this thread meanwhile.

    Once there are `enough` (by default `most`), it does not wait for more.

    A rebalance may take partitions away after some of their messages were gathered: these are still returned.
    """
    deadline = time.monotonic() + seconds
    enough = most if enough is None else enough
    messages = consumer.consume(most, 0)
    while len(messages) < enough and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(POLL_SECONDS, left))
        messages += consumer.consume(most - len(messages), 0)
    return messages
