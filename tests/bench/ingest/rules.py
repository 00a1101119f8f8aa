"""Fifty rules of every kind, in force since before the topic's first record."""

from datetime import UTC, datetime
from typing import Final

from orgstats.clickhouse.connect import connect
from orgstats.consumer.counting.rules import parse

COUNT: Final = 50


def toml() -> str:
    """Conditions that few events meet, so that nearly every event is held against all of them."""
    kinds = (
        'remote_addr = ["203.0.113.{n}/32", "2001:db8:{n}::/48"]',
        'user_agent = ["*crawler-{n}*", "bot-{n}/*"]',
        'release = ["app@0.{n}.*"]',
        'error_message = ["*out of memory {n}*"]',
        'url = ["http://host-{n}.example/*"]',
    )
    rules = (
        f'[[rule]]\noutcome = "filtered"\nreason = "rule-{n}"\n{kinds[n % len(kinds)].format(n=n)}\n'
        for n in range(COUNT)
    )
    return "\n".join(rules)


def put_in_force(url: str) -> None:
    """Write them into the history as if they had been published long ago, which publishing refuses to do."""
    text = toml()
    parse(text)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    row = ("bench", 1, long_ago, text, "bench", long_ago, "", datetime.fromtimestamp(0, UTC))
    with connect(url, client_name="bench") as client:
        client.execute(
            "INSERT INTO rules (entry_id, version, effective_from, toml, published_by, published_at, note, voided_at) "
            "VALUES",
            [row],
        )
