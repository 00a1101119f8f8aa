"""What Kafka's authorizer must allow whom, no more than is used.

Rights follow from the requests: https://kafka.apache.org/documentation/#operations_resources_and_protocols. Each is
needed, by test: without any one of them on a real broker something of what is named beside it fails.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

REDRIVE_PREFIX: Final = "orgstats-redrive-"
"""The transactional ids of redrives begin with it; the topic of the letters follows."""


class Acl(NamedTuple):
    """An operation that is allowed on the resource of this type and name; `use` says what for."""

    resource: str  # topic, group or transactional-id, as kafka-acls.sh spells its options
    name: str
    operation: str
    use: str


def needed(topics: Sequence[str], group: str, *, redrive_to: Iterable[str] | None = None) -> Iterator[Acl]:
    """What the consumers of a group and the commands that operators run beside them need.

    With `redrive_to`, topics that dead letters are sent to again, also what `orgstats dead-letters redrive` needs.
    """
    for topic in topics:
        yield Acl("topic", topic, "Read", "to count its records")
        yield Acl("topic", topic, "DescribeConfigs", "to see compaction, and when retention would delete records")
    yield Acl("group", group, "Read", "to join, and to commit what is stored")
    if redrive_to is None:
        return
    for target in redrive_to:
        yield Acl("topic", target, "Write", "to send dead letters again")
        if target not in topics:
            yield Acl("topic", target, "Read", "to look for what an interrupted redrive sent")
            yield Acl("topic", target, "DescribeConfigs", "to see whether retention would delete them at once")
    for topic in topics:
        yield Acl("transactional-id", REDRIVE_PREFIX + topic, "Write", "to send each once, whoever else tries")


def commands(acls: Iterable[Acl], principal: str) -> Iterator[str]:
    """The call of kafka-acls.sh for each; the caller sets $BOOTSTRAP, and $ADMIN to a file of client properties."""
    for acl in acls:
        yield (
            'kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --command-config "$ADMIN" --add'
            f" --allow-principal {_quoted(principal)} --operation {acl.operation} --{acl.resource} {_quoted(acl.name)}"
            f"  # {acl.use}"
        )


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
