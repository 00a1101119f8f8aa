"""Pure: what a record counts as, and what a partition has counted. No client, no clock, no log."""
