"""The contracts that the consumer, the query side and the operators share: no I/O but `connect`, `cluster` and `migrate`."""
