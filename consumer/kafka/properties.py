"""librdkafka's properties: ours, which ones the guarantee needs, and what is wrong with those that were given."""

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer

from orgstats.settings import MASK, is_secret

VARIABLES: Final = {
    "bootstrap.servers": "ORGSTATS_BOOTSTRAP_SERVERS",
    "group.id": "ORGSTATS_GROUP",
    "group.instance.id": "ORGSTATS_INSTANCE_ID",
}
"""Properties with a setting of their own."""

CONSUMER_ONLY: Final = (
    "fetch.",
    "group.",
    "heartbeat.",
    "isolation.",
    "max.poll.",
    "partition.",
    "queued.",
    "session.",
)
"""Beginnings of properties that mean nothing to other clients, which warn about them."""

READ_COMMITTED: Final = "read_committed"
READ_UNCOMMITTED: Final = "read_uncommitted"

FETCH_BYTES: Final = 4 << 20
"""Of a broker's answer, still compressed: all of it is unpacked, however much waits already. librdkafka's is 50 MiB."""

DEFAULTS: Final[Mapping[str, Any]] = {
    "fetch.queue.backoff.ms": 1,  # the default, 1000, cuts catch-up 4 to 20 times; 10 cost a tenth
    # Of all that waits to be counted, of every partition: 20 ms at full speed, so that it is not used up before more is
    # fetched. Twice as much takes 5 % more processor time: memory that was just written is read faster.
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 8_192,
    "fetch.max.bytes": FETCH_BYTES,
    "fetch.wait.max.ms": 100,
    "session.timeout.ms": 30_000,
    "topic.metadata.refresh.interval.ms": 10_000,  # new partitions are noticed within this time
    "isolation.level": READ_COMMITTED,
    "partition.assignment.strategy": "range,roundrobin",
}

REFUSED_BY_CONSUMER_PROTOCOL: Final = (
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "group.protocol.type",
)
"""Where `group.protocol=consumer` (KIP-848), the broker decides these, and librdkafka refuses them."""

FIXED: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # a jump is a decision, made in consumer/counting/resume.py and listed in `gaps`
    "enable.partition.eof": True,  # tells the position behind control records, which are no records
}
"""Properties that the guarantee needs; settings refuse others."""

_SERVER: Final = re.compile(r"(?:\w+://)?(?:\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(?::(\d{1,5}))?")
_NAMED: Final = re.compile(r"\b[a-z]+(?:\.[a-z0-9]+)+\b")
_CREDENTIALS: Final = ("sasl.username", "sasl.password", "sasl.oauthbearer.client.")
_MECHANISMS: Final = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"


def variable_of(name: str) -> str:
    """The environment variable that sets a librdkafka property."""
    return VARIABLES.get(name, f"ORGSTATS_KAFKA__{name.upper().replace('.', '_')}")


def incremental(properties: Mapping[str, Any]) -> bool:
    """Whether partitions come and go one by one (KIP-848), not all at a time."""
    return str(properties.get("group.protocol", "")).lower() == "consumer"


def defaults(properties: Mapping[str, Any]) -> dict[str, Any]:
    """DEFAULTS, without what a client with these properties refuses."""
    left_out = REFUSED_BY_CONSUMER_PROTOCOL if incremental(properties) else ()
    own = {name: value for name, value in DEFAULTS.items() if name not in left_out}
    longest = str(properties.get("message.max.bytes", ""))
    if longest.isdecimal():  # librdkafka refuses less
        own["fetch.max.bytes"] = max(FETCH_BYTES, int(longest))
    return own


def without_consumer_only(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Properties for an admin client or a producer."""
    return {name: value for name, value in properties.items() if not name.startswith(CONSUMER_ONLY)}


def redacted(text: str, properties: Mapping[str, Any]) -> str:
    """A text of librdkafka's, on one line, without any secret that stands in the properties."""
    for name, value in properties.items():
        if is_secret(name) and value and not name.endswith(".url"):
            text = text.replace(str(value), MASK)
    return " ".join(text.split())


def faults(properties: Mapping[str, Any], kind: type[Consumer | Producer] = Consumer) -> list[str]:
    """Every fault that can be told without a server, each a line with its variable and remedy.

    librdkafka checks most of them only when a client is made, so one is made: without addresses, so that it
    connects to nobody, and thrown away.
    """
    found = [*_servers(str(properties.get("bootstrap.servers", ""))), *_files(properties), *_oauth(properties)]
    found += _unused_credentials(properties)
    if found:
        return found
    trial = {name: value for name, value in properties.items() if name != "bootstrap.servers"}
    if "oauth_cb" in trial:
        trial["oauth_cb"] = lambda _config: ("none", time.time() + 3600)  # it would be asked at once, too
    if "sasl.oauthbearer.token.endpoint.url" in trial:
        trial["sasl.oauthbearer.token.endpoint.url"] = "http://127.0.0.1:1/"  # a client asks for a token at once
    try:
        kind({**trial, "log_level": 0})
    except KafkaException as error:
        return [_told(error.args[0].str(), properties)]
    except (TypeError, ValueError) as error:  # the binding's own checks
        return [f"ORGSTATS_KAFKA__…: {redacted(str(error), properties)}"]
    return []


def _servers(text: str) -> Iterator[str]:
    for server in text.split(","):
        found = _SERVER.fullmatch(server.strip())
        if found is None or (found[1] and not 0 < int(found[1]) <= 65_535):
            yield f"{VARIABLES['bootstrap.servers']}: not of the form host:port[,host:port], with ports from 1 to 65535"
            return


def _files(properties: Mapping[str, Any]) -> Iterator[str]:
    for name, value in properties.items():
        if not name.endswith(".location") or value == "probe":
            continue
        try:
            path = Path(str(value))
            if not path.is_dir():  # a folder of certificates is fine
                path.open("rb").close()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no path"
            yield f"{variable_of(name)}: {value} cannot be read: {why}; name a file that is there"


def _oauth(properties: Mapping[str, Any]) -> Iterator[str]:
    """librdkafka takes this one and then waits for ever for a token that nobody gives it."""
    mechanism = str(properties.get("sasl.mechanism", properties.get("sasl.mechanisms", "")))
    unsecured = str(properties.get("enable.sasl.oauthbearer.unsecure.jwt", "false")).lower() == "true"
    if "oauth_cb" in properties:
        if mechanism != "OAUTHBEARER":
            yield "ORGSTATS_KAFKA__SASL_MECHANISM: ORGSTATS_MSK_REGION needs OAUTHBEARER; unset one of them"
        return
    if mechanism == "OAUTHBEARER" and properties.get("sasl.oauthbearer.method") != "oidc" and not unsecured:
        yield (
            "ORGSTATS_KAFKA__SASL_OAUTHBEARER_METHOD: OAUTHBEARER needs oidc here; set it, and "
            "ORGSTATS_KAFKA__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL with the client's id and secret; for MSK with IAM set "
            "ORGSTATS_MSK_REGION"
        )


def _unused_credentials(properties: Mapping[str, Any]) -> Iterator[str]:
    """librdkafka takes them in silence and connects without, which a broker answers by hanging up."""
    protocol = str(properties.get("security.protocol", "plaintext")).lower()
    given = sorted(name for name, value in properties.items() if value and name.startswith(_CREDENTIALS))
    if given and not protocol.startswith("sasl_"):
        yield (
            f"ORGSTATS_KAFKA__SECURITY_PROTOCOL: is {protocol}, which sends no {given[0]}; set it to sasl_ssl (or "
            f"sasl_plaintext), or unset {variable_of(given[0])}"
        )


def _told(text: str, properties: Mapping[str, Any]) -> str:
    why = redacted(
        text.removeprefix("Failed to create consumer: ").removeprefix("Failed to create producer: "), properties
    )
    if "No provider for SASL mechanism" in why:
        return f"ORGSTATS_KAFKA__SASL_MECHANISM: this client has no GSSAPI, the default; set it to {_MECHANISMS}"
    if why.startswith("Unsupported SASL mechanism"):
        return f"ORGSTATS_KAFKA__SASL_MECHANISM: {why}; use {_MECHANISMS}"
    names = _NAMED.findall(why)
    if why.startswith("No such configuration property") and names:
        return f"{variable_of(names[0])}: librdkafka has no property {names[0]}; correct the name or unset it"
    if names:
        also = "".join(f" and {variable_of(name)}" for name in names[1:2] if name != names[0])
        return f"{variable_of(names[0])}{also}: {why}; correct it or unset it"
    return f"ORGSTATS_KAFKA__…: {why}"
