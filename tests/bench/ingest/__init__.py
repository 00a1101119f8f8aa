"""Ingest: the daemon beside the baseline of its client library and beside what else does its job."""
