"""Options of a command as one frozen dataclass: typer reads its fields, the command gets the object."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each parameter that is a dataclass replaced by the dataclass's fields.

    Fields are annotated as parameters of a typer command are; they become options and arguments in their order, those
    of base classes first. So commands share options by sharing a base class.
    """
    bundles: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for name, hint in get_type_hints(command, include_extras=True).items():
        if is_dataclass(hint) and isinstance(hint, type):
            bundles[name] = hint
            hints = get_type_hints(hint, include_extras=True)
            parameters += [_parameter(field, hints[field.name]) for field in fields(hint)]

    @wraps(command)
    def run(**given: object) -> None:
        command(**{name: kind(**{f.name: given[f.name] for f in fields(kind)}) for name, kind in bundles.items()})

    del run.__wrapped__  # typer would look through to the bundle
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(field: "Field[Any]", hint: Any) -> inspect.Parameter:
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
