"""One API with the data of the conformance tests, for every client."""

from tests.conformance.conftest import own, target

__all__ = ["own", "target"]
