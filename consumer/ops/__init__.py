"""What operators do beside the daemon: replay, redrive, and find out; never in its group, never on its state."""
