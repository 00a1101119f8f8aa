"""Topics before anything of them is counted: which there are, by which id, and which are refused."""

from collections.abc import Sequence

from orgstats.consumer import ports
from orgstats.errors import ConfigurationError, Refused, Unavailable

_NO_UUID = {"", "AAAAAAAAAAAAAAAAAAAAAA"}
"""What a broker without topic UUIDs answers: nothing, or sixteen zero bytes."""


def refuse_compacted(names: Sequence[str], topics: ports.Topics, harm: str) -> None:
    """Raise Refused for a compacted topic, saying what harm that would do.

    Who may not read a topic's settings may count it all the same; the doctor tells what could not be asked.
    """
    for name in names:
        if "compact" in topics.cleanup_policy(name):
            raise Refused(
                f"topic {name} is compacted (cleanup.policy): records vanish from its log, {harm}. "
                "Set it to delete: kafka-configs --alter --entity-type topics "
                f"--entity-name {name} --add-config cleanup.policy=delete; or set ORGSTATS_ALLOW_COMPACTION=true, "
                "after reading what is promised then (docs/reliability.md)"
            )


def topic_uuids(names: Sequence[str], topics: ports.Topics, topic_id: str | None) -> dict[str, str | None]:
    """UUID by topic; None when `topic_id` stands for it. Topics that do not exist are absent.

    Raises Unavailable when none exists.
    """
    found = uuids_of(names, topics, topic_id)
    if names and not found:
        raise Unavailable(f"topic {', '.join(names)} does not exist (yet)")
    return found


def uuids_of(names: Sequence[str], topics: ports.Topics, topic_id: str | None) -> dict[str, str | None]:
    """The same, where it may be that none exists. Raises ConfigurationError for a broker without UUIDs."""
    if topic_id:
        return dict.fromkeys(names)
    described = topics.describe(names)
    for name in described:
        if described[name][0] in _NO_UUID:
            raise ConfigurationError(
                f"the broker gives topic {name} no UUID (Kafka before 2.8?): name an id for it with "
                "ORGSTATS_TOPIC_ID, and change the name whenever the topic is made again"
            )
    return {name: uuid for name, (uuid, _) in described.items()}
