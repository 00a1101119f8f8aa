"""Counting on a cluster while its parts are killed."""
