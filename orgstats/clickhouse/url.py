"""What `ORGSTATS_CLICKHOUSE_URL` may look like; a fault names the part and the remedy, never the text."""

import re
from typing import Annotated, Final, NamedTuple
from urllib.parse import unquote

from pydantic import AfterValidator, Field

FORM: Final = "clickhouse://user:password@host:9000/database"
_HOST: Final = re.compile(r"\[(?P<v6>[0-9A-Fa-f:.]+)\](?P<v6_port>:.*)?|(?P<name>[^\[\]:]*)(?P<port>:.*)?", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")


class Address(NamedTuple):
    """The parts of a URL, decoded."""

    host: str
    port: int
    user: str
    password: str
    database: str
    secure: bool


def parse(url: str) -> Address:
    """The parts of `clickhouse[s]://[user[:password]@]host[:port][/database]`; raises ValueError with a remedy.

    The password ends at the last `@`, so it may hold `/ ? # @ :` as they are; only a `%` before two hexadecimal
    digits has to be written `%25`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("clickhouse", "clickhouses"):
        raise ValueError("must begin with clickhouse:// or clickhouses:// (TLS)")
    login, _, place = rest.rpartition("@")
    user, _, password = login.partition(":")
    address, _, database = place.partition("/")
    if "," in address:
        raise ValueError("names several hosts; name one, or a balancer before them")
    host, port = _host_and_port(address, secure=scheme == "clickhouses")
    if re.search(r"[/?#\s]", database):
        raise ValueError("has something behind the database's name; take it away")
    return Address(
        host, port, unquote(user) or "default", unquote(password), unquote(database) or "default", scheme[-1] == "s"
    )


def _host_and_port(address: str, *, secure: bool) -> tuple[str, int]:
    found = _HOST.fullmatch(address)
    if found is None:
        raise ValueError("has a host that cannot be read; an IPv6 address stands in brackets, [::1]:9000")
    host = found["v6"] or found["name"] or ""
    if not found["v6"] and not _NAME.fullmatch(host):
        raise ValueError("has a host that cannot be read; name one host, a password stands before the last @")
    port = (found["v6_port"] or found["port"] or "")[1:]
    if not (found["v6_port"] or found["port"]):
        return host, 9440 if secure else 9000
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= 65_535):
        raise ValueError("has a port that is no number from 1 to 65535")
    return host, int(port)


def _checked(url: str) -> str:
    parse(url)
    return url


ClickHouseUrl = Annotated[str, AfterValidator(_checked), Field(description=FORM)]
"""A setting that holds a URL which `parse` can read."""
