"""Exact event counts per organization: Kafka in, ClickHouse counts, one endpoint."""
