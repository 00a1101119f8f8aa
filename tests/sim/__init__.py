"""Kafka, ClickHouse, clock and thread in memory and in one thread, as the loop is given them (consumer/ports.py)."""
