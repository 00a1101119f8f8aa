"""The daemon: Kafka records in, whole counts per cell into ClickHouse, commit last."""
