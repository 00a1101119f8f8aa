"""Histories that were written down: each once showed a hole, or shows what one guard is for."""

from pathlib import Path

from tests.sim.plan import Plan, from_lines


def every() -> dict[str, Plan]:
    """By name."""
    return {one.stem: from_lines(one.read_text()) for one in sorted(Path(__file__).parent.glob("*.jsonl"))}
