"""A pytest plugin for `make sanitize`: tests load the compiled code from ORGSTATS_SANITIZED, built with sanitizers."""

import importlib.util
import os
import sys
from pathlib import Path

MODULES = ("orgstats.consumer.counting.fast_path", "orgstats.consumer.kafka.batches")

os.environ.pop("LD_PRELOAD", None)  # for this process alone, not for the broker and the engine


def load(name: str, directory: Path) -> None:
    """Put the one module of this name below `directory` where imports find it first."""
    [path] = directory.glob(f"{name.replace('.', '/')}.*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    package, _, leaf = name.rpartition(".")
    setattr(importlib.import_module(package), leaf, module)


for _name in MODULES:
    load(_name, Path(os.environ["ORGSTATS_SANITIZED"]))
