"""Ready once something could be stored, live as long as the loop turns; both beside the metrics."""

from collections.abc import Iterator

import httpx
import pytest

from orgstats.consumer import health


class Clock:
    """Seconds that a test sets."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def served() -> Iterator[tuple[health.Health, Clock, str]]:
    """A process's health, its clock, and where it is asked for."""
    clock = Clock()
    of_process = health.Health(clock)
    server = health.serve("127.0.0.1", 0, of_process)
    yield of_process, clock, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_ready_is_latched_on_the_first_checkpoint(served: tuple[health.Health, Clock, str]) -> None:
    """503 until something is stored, 200 from then on, however long nothing more is."""
    of_process, clock, url = served
    assert httpx.get(url + "/healthz/ready").status_code == 503
    of_process.counts()
    clock.now += 10 * health.STUCK_SECONDS
    assert httpx.get(url + "/healthz/ready").status_code == 200


def test_live_while_the_loop_turns(served: tuple[health.Health, Clock, str]) -> None:
    """A loop that has not turned for as long as Kafka waits is dead; one that turns again is not."""
    of_process, clock, url = served
    clock.now += health.STUCK_SECONDS
    assert httpx.get(url + "/healthz/live").status_code == 200
    clock.now += 1
    answer = httpx.get(url + "/healthz/live")
    assert (answer.status_code, answer.text) == (503, "the loop turned 301.0 s ago\n")
    of_process.turned()
    assert httpx.get(url + "/healthz/live").status_code == 200


def test_metrics_are_beside_it(served: tuple[health.Health, Clock, str]) -> None:
    """What Prometheus scrapes stays where it was."""
    assert "orgstats_paused" in httpx.get(served[2] + "/metrics").text
