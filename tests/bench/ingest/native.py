"""Consumers in C, Rust and Go: built from their registries where their compilers are, left out where they are not."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import confluent_kafka

from orgstats.deploy.local.paths import cache_dir
from tests.bench.usage import say

SOURCES: Final = Path(__file__).with_name("native")
LIBRDKAFKA, RUST, RUST_ARROYO, GO = "C on librdkafka, touching nothing", "Rust", "Rust, sentry_arroyo", "Go, franz-go"
NAMES: Final = {"cc": [LIBRDKAFKA], "cargo": [RUST, RUST_ARROYO], "go": [GO]}

Commands = Mapping[str, list[str]]
"""How to start each, by its name."""


def build() -> Commands:
    """Build what can be built, and say on stderr why the others are missing. They insert nothing."""
    commands: dict[str, list[str]] = {}
    for compiler, made_by in (("cc", _c), ("cargo", _rust), ("go", _go)):
        if shutil.which(compiler) is None:
            say(f"left out, since there is no {compiler}: {', '.join(NAMES[compiler])}")
            continue
        directory = cache_dir() / "other-consumers" / compiler
        try:
            commands |= made_by(directory)
        except (subprocess.CalledProcessError, LookupError) as error:
            why = getattr(error, "stderr", None) or error
            say(f"left out, since {compiler} failed: {', '.join(NAMES[compiler])}\n{str(why)[-2000:]}")
    return commands


def _c(directory: Path) -> Commands:
    """Uses the librdkafka that confluent-kafka brings, so that both read with the same one."""
    wheel = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    library = next(wheel.glob("librdkafka-*.so*"), None)
    if library is None:
        raise LookupError(f"no librdkafka in {wheel}")
    directory.mkdir(parents=True, exist_ok=True)
    program = str(directory / "touching")
    _run(["cc", "-O2", "-o", program, str(SOURCES / "touching.c"), "-ldl"], directory)
    return {LIBRDKAFKA: [program, str(library)]}


def _rust(directory: Path) -> Commands:
    shutil.copytree(SOURCES / "src", directory / "src", dirs_exist_ok=True)
    shutil.copy2(SOURCES / "Cargo.toml", directory)
    _run(["cargo", "build", "--release", "--quiet"], directory, RUSTFLAGS="-C target-cpu=native")
    made = directory / "target" / "release"
    return {RUST: [str(made / "rust")], RUST_ARROYO: [str(made / "rust_arroyo")]}


def _go(directory: Path) -> Commands:
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("go.mod", "go.sum", "main.go"):
        shutil.copy2(SOURCES / name, directory)
    program = str(directory / "franz")
    _run(["go", "build", "-o", program, "."], directory)
    return {GO: [program]}


def _run(command: list[str], directory: Path, **env: str) -> None:
    subprocess.run(command, cwd=directory, env={**os.environ, **env}, check=True, capture_output=True, text=True)


def properties(bootstrap_servers: str, group: str, fetching: Mapping[str, object]) -> str:
    """librdkafka's properties, one `name=value` a line: those that every program on it gets."""
    own = {"bootstrap.servers": bootstrap_servers, "group.id": group}
    given = {**fetching, **own, "enable.auto.commit": "false", "auto.offset.reset": "earliest"}
    return "\n".join(f"{name}={value}" for name, value in given.items())
