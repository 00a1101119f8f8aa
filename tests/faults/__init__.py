"""Faults injected into real processes, and every cell compared afterwards."""
