"""The base of every settings object: read once from a given mapping, all faults together, secrets masked."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PrivateAttr, SecretStr, ValidationError

from orgstats.clickhouse.url import ClickHouseUrl
from orgstats.errors import ConfigurationError

PREFIX: Final = "ORGSTATS_"
MASK: Final = "****"
Origin = Literal["flag", "environment", "default"]

_SECRET_KEY: Final = re.compile(
    r"password|passphrase|secret|token|credential|\.key$|\.pem$|jaas|oauthbearer\.config", re.IGNORECASE
)
_IN_FILES: Final = ("PASSWORD", "SECRET")
"""Ends of a dict's keys that may stand in a file; others that end in `.file` are properties themselves."""
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^:]*):.*(?=@)", re.DOTALL)
"""Up to the last `@`: a password may hold any character, also `/ ? # @`."""


class Settings(BaseModel):
    """Frozen settings; each field `x` is read from `ORGSTATS_X`, its description is the remedy in faults.

    A field that is a tuple or list reads a comma-separated text. A field that is a dict reads every variable
    `ORGSTATS_X__<KEY>`, its key in lower case with `.` for `_`. Where a secret should stand in no environment,
    `ORGSTATS_X_FILE` names a file that holds the text of `ORGSTATS_X`; keys ending in PASSWORD or SECRET too.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)

    @classmethod
    def from_env(cls, env: Mapping[str, str], **overrides: object) -> Self:
        """Settings from flags (`overrides`, None meaning not given) over `env` over defaults.

        An empty variable counts as absent. Raises ConfigurationError with every fault: variable and remedy.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        env, unread = cls._with_files(env)
        found = {name: value for name in cls.model_fields if (value := cls._read(name, env)) is not None}
        faults = list(unread.values())
        try:
            settings = cls.model_validate({**found, **given})
        except ValidationError as error:
            told = [cls._fault(fault["loc"], fault["msg"]) for fault in error.errors()]
            faults += [text for text in told if text.partition(":")[0] not in unread]
        if faults:
            raise ConfigurationError("\n".join(dict.fromkeys(faults)))
        settings._origins.update(dict.fromkeys(cls.model_fields, "default"))  # noqa: SLF001 - our own
        settings._origins.update(dict.fromkeys(found, "environment"))  # noqa: SLF001
        settings._origins.update(dict.fromkeys(given, "flag"))  # noqa: SLF001
        return settings

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Environment variable of each field; that of a dict ends in `__`."""
        return {name: cls._variable(name) for name in cls.model_fields}

    def origins(self) -> dict[str, Origin]:
        """Where each field's value came from."""
        return dict(self._origins)

    def masked(self) -> dict[str, Any]:
        """Every field's value as it may be shown: without passwords, secrets and tokens."""
        return {name: _masked(name, value) for name, value in self}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.masked().items())
        return f"{type(self).__name__}({shown})"

    __str__ = __repr__

    @classmethod
    def _variable(cls, name: str) -> str:
        return f"{PREFIX}{name.upper()}{'__' if _container(cls, name) is dict else ''}"

    @classmethod
    def _with_files(cls, env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """The environment with the texts of files under the variables' own names, and each unread one's fault."""
        texts, faults = dict(env), {}
        for variable in cls._in_files(env):
            path = texts.pop(f"{variable}_FILE")
            if texts.get(variable):
                continue
            try:
                texts[variable] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "not UTF-8"
                faults[variable] = f"{variable}_FILE: {path} cannot be read: {why}"
        return texts, faults

    @classmethod
    def _in_files(cls, env: Mapping[str, str]) -> list[str]:
        """The variables that a variable ending in _FILE stands for; one that is a field itself stands for itself."""
        named = [name.removesuffix("_FILE") for name in sorted(env) if name.endswith("_FILE") and env[name]]
        known = cls.variables()
        prefixes = tuple(variable for variable in known.values() if variable.endswith("__"))
        return [
            variable
            for variable in named
            if f"{variable}_FILE" not in known.values()
            and (variable in known.values() or (variable.startswith(prefixes) and variable.endswith(_IN_FILES)))
        ]

    @classmethod
    def _read(cls, name: str, env: Mapping[str, str]) -> Any:
        """The value of a field as the environment says it; None when it does not."""
        variable, container = cls._variable(name), _container(cls, name)
        if container is dict:
            keys = sorted(key for key in env if key.startswith(variable) and env[key])
            return {key[len(variable) :].lower().replace("_", "."): env[key] for key in keys} or None
        text = env.get(variable, "").strip()
        if container in (tuple, list) and text:
            return listed(text)
        return text or None

    @classmethod
    def _fault(cls, location: tuple[int | str, ...], message: str) -> str:
        """One line for one fault; values are not repeated, they may be secret."""
        text = message.removeprefix("Value error, ")
        if not location:
            return text
        field = cls.model_fields.get(str(location[0]))
        if field is None:
            return f"{location[0]}: no such setting"
        remedy = f"; {field.description}" if field.description else ""
        return f"{cls._variable(str(location[0])).removesuffix('__')}: {text}{remedy}"


class ClickHouseSettings(Settings):
    """What a command that talks to ClickHouse alone can be told."""

    clickhouse_url: ClickHouseUrl


def listed(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(part for item in text.split(",") if (part := item.strip()))


def mask_url(text: str) -> str:
    """A URL without its password."""
    return _URL_PASSWORD.sub(rf"\1:{MASK}", text)


def is_secret(name: str) -> bool:
    """Whether what goes by this name is never shown."""
    return _SECRET_KEY.search(name) is not None


def _masked(name: str, value: Any) -> Any:
    if value is None or value == "":
        return value
    if isinstance(value, SecretStr) or is_secret(name):
        return MASK
    if isinstance(value, dict):
        return {key: _masked(str(key), item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(_masked(name, item) for item in value)
    return mask_url(value) if isinstance(value, str) else value


def _container(model: type[BaseModel], name: str) -> Any:
    """The type a field is made with: tuple, list, dict, or the plain type, also when it may be None."""
    hint = model.model_fields[name].annotation
    for option in (hint, *get_args(hint)):
        if get_origin(option) in (tuple, list, dict):
            return get_origin(option)
    return hint
