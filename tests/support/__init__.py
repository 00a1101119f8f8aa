"""What the tests share: servers, waiting, and the oracle."""
