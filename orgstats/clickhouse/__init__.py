"""A connection to ClickHouse, and what a cluster needs of it."""
