"""The contracts that consumer, query side and operators share; I/O only in `connect`, `cluster` and `migrate`."""
