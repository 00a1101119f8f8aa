"""The measured figures and choices that the model stands on, in one file with their sources."""

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from orgstats.errors import ConfigurationError

FILE: Final = Path(__file__).with_name("figures.toml")


@dataclass(frozen=True)
class Figures:
    """Units are in the names; `figures.toml` says of each where it comes from."""

    count_us_per_record: float
    store_us_per_row: float
    record_bytes: float
    counts_bytes_per_row: float
    project_counts_bytes_per_row: float
    hour_counts_bytes_per_row: float
    server_us_per_row: float
    server_ms_per_insert: float
    query_ms: float
    query_ns_per_row: float
    consumer_base_mib: float
    consumer_prefetch_mib: float
    cell_bytes: float
    spare: float
    server_cores: float
    server_disk_gb: float
    parts_per_second: float


def load(other: Path | None = None) -> Figures:
    """The figures of this repository, with those of another file instead where it has some.

    Raises ConfigurationError naming what is wrong with that file.
    """
    figures = Figures(**_values(FILE))
    return replace(figures, **_values(other)) if other else figures


def sources() -> dict[str, str]:
    """Where each figure comes from."""
    return {name: str(entry["source"]) for name, entry in _read(FILE).items()}


def _values(path: Path) -> dict[str, float]:
    known = {field.name for field in fields(Figures)}
    found: dict[str, float] = {}
    for name, entry in _read(path).items():
        value = entry.get("value") if isinstance(entry, dict) else None
        if name not in known or not isinstance(value, (int, float)) or not value > 0:
            raise ConfigurationError(f"{path}: {name}: needs to be a figure of {FILE.name} with a value above 0")
        found[name] = float(value)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
