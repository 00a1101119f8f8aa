"""Ingest: the daemon beside the floor of its client library and beside what else does its job."""
