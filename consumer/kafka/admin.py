"""An admin client whose silence has a cause: what the error callback heard is told with the host, once."""

import re
import time
from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from orgstats.consumer.kafka.properties import redacted
from orgstats.errors import ConfigurationError, OrgstatsError, Unavailable

ANSWER_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.2
"""How long an answer is waited for before the error callback gets its turn."""

_TOKEN: Final = "Failed to acquire SASL OAUTHBEARER token: "  # noqa: S105 - what librdkafka calls it
_AWAY: Final = re.compile(
    r"failed to connect|could(?:n't| not) (?:connect|resolve)|timed out|timeout|reset by peer|broker transport failure"
    r"|disconnected|connection closed|empty reply|terminating",
    re.IGNORECASE,
)
"""What librdkafka also reports as failed authentication, and a later try may mend."""
_SILENT: Final = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)

Answer = TypeVar("Answer")


class Heard:
    """The error callback of a client: keeps why nobody answers, and whether the credentials are refused.

    A refusal counts only until the client was answered once: a broker that restarts may refuse for moments what
    it took before.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = properties
        self._answered = False
        self._refusal: OrgstatsError | None = None
        self._cause = ""

    def __call__(self, error: KafkaError) -> None:
        """Hear one error."""
        text = redacted(error.str(), self._properties)
        if error.code() == KafkaError._AUTHENTICATION:
            self._refusal = _refusal(text, self._properties)
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # says less than the one before it
            self._cause = text

    def answered(self) -> None:
        """The broker has taken the credentials."""
        self._answered, self._refusal, self._cause = True, None, ""

    def check(self, *, patient: bool = False) -> None:
        """Raise what a first answer need not be waited for: ConfigurationError, or Unavailable for a token endpoint.

        Who is `patient` waits for the endpoint, as for a broker: librdkafka asks it again every 10 s.
        """
        if self._refusal is None or self._answered or (patient and isinstance(self._refusal, Unavailable)):
            return
        raise self._refusal

    def silence(self, what: str) -> Unavailable:
        """Nobody answered in time: the addresses, and why as far as it was heard."""
        servers = self._properties.get("bootstrap.servers", "")
        cause = self._cause or f"{what} timed out"
        endpoint = self._properties.get("sasl.oauthbearer.token.endpoint.url")
        if endpoint and not self._cause and not self._answered:  # librdkafka retries a 5xx for long, and says nothing
            cause += f"; maybe the token endpoint {endpoint} gives no token"
        return Unavailable(f"Kafka does not answer at {servers}: {cause}")


class NoController(Unavailable):
    """The broker names no controller: it is being elected, or there never is one, as in librdkafka's mock cluster."""


class Admin:
    """One admin client, for any one thread."""

    def __init__(self, properties: Mapping[str, Any], heard: Heard | None = None) -> None:
        self.heard = heard or Heard(properties)
        own: dict[str, Any] = {"log_level": 2, **properties, "error_cb": self.heard}
        self.client = AdminClient(own)
        self._servers = properties.get("bootstrap.servers", "")
        self._controlled = False

    def need_controller(self) -> None:
        """Raise NoController at once where there is none, whom librdkafka asks about topics and would wait for."""
        if not self._controlled:
            try:
                cluster = self.metadata()
            except KafkaException:
                return  # the question itself tells what is refused
            if cluster.controller_id not in cluster.brokers:
                raise NoController(
                    f"Kafka at {self._servers} names no controller, so it tells neither UUIDs nor settings of topics: "
                    "where it never does, name an id for the topics with ORGSTATS_TOPIC_ID, and change it whenever "
                    "they are made again"
                )
            self._controlled = True

    def topic_settings(self, topic: str) -> dict[str, str]:
        """The topic's settings, the broker's defaults included. Raises NoController, KafkaException, or as `result`."""
        self.need_controller()
        resource = ConfigResource(ResourceType.TOPIC, topic)
        future = self.client.describe_configs([resource], request_timeout=ANSWER_SECONDS)[resource]
        return {name: str(entry.value) for name, entry in self.result(future, "describe configs").items()}

    def result(self, future: "Future[Answer]", what: str) -> Answer:
        """A future's answer. Raises KafkaException for a broker's refusal, else what `Heard` raises."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not wait([future], LOOK_SECONDS).done:
            self.client.poll(0)
            self.heard.check()
            if time.monotonic() > deadline:
                raise self.heard.silence(what)
        try:
            answer = future.result(0)
        except KafkaException as error:
            self.client.poll(0)
            self.heard.check()
            if error.args[0].code() in _SILENT:
                raise self.heard.silence(what) from error
            raise
        self.heard.answered()
        return answer

    def metadata(self, topic: str | None = None) -> Any:
        """What the cluster says of itself, or of one topic."""
        return metadata(self.client, self.heard, topic)


def metadata(client: AdminClient | Producer, heard: Heard, topic: str | None = None) -> Any:
    """The metadata that a client gets; `heard` is its error callback. Raises as `Admin.result` does."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            # Short looks: the call itself lets no callback run.
            found = client.list_topics(topic, timeout=1.0) if topic else client.list_topics(timeout=1.0)
        except KafkaException as error:
            client.poll(0)
            heard.check()
            if error.args[0].code() not in _SILENT:
                raise
            if time.monotonic() > deadline:
                raise heard.silence("metadata") from error
            time.sleep(0.1)
        else:
            heard.answered()
            return found


def _refusal(text: str, properties: Mapping[str, Any]) -> OrgstatsError | None:
    if text.startswith(_TOKEN):
        where = properties.get("sasl.oauthbearer.token.endpoint.url", "")
        why = text.removeprefix(_TOKEN)
        if _AWAY.search(why):
            return Unavailable(f"the token endpoint {where} does not answer: {why}")
        return ConfigurationError(
            f"the token endpoint {where} refuses the client: {why[:200]}: correct ORGSTATS_KAFKA__SASL_OAUTHBEARER_*"
        )
    if _AWAY.search(text):
        return None
    return ConfigurationError(f"Kafka: {text}: the broker refuses the credentials in ORGSTATS_KAFKA__SASL_*")
