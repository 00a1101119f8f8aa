"""The local tools: the servers on loopback, the generator and `up`."""
