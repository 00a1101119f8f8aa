"""One API with the data of the conformance tests, for every client; and the Prometheus that is one of them."""

from tests.conformance.conftest import own, target
from tests.deploy.conftest import prometheus

__all__ = ["own", "prometheus", "target"]
