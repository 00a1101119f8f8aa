"""Clients of the original, each asking a running API as it would ask Sentry."""
