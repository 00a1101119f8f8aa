"""ClickHouse's engine with a user that has the rights of one role and no others.

chDB has no storage to make users in, but reads them from a file: there the one user gets what `orgstats grants` prints
for a role, so that the engine itself says what the role may do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from orgstats.clickhouse.connect import connect
from orgstats.deploy.local import chdb_server
from orgstats.query.clickhouse import SENT_SETTINGS
from orgstats.schemas.grants import ROLES, Place, RoleName, privileges
from orgstats.schemas.migrate import migrate

DATABASE = "orgstats"
_OF_CHDB = frozenset(
    {"database", "log_comment", "implicit_select", "network_compression_method"}
)  # that its server sets for itself


def make_tables(directory: Path) -> None:
    """The tables, made by somebody who may do everything."""
    server = chdb_server.start(directory)
    migrate(_url(server), retention_days=0)
    server.stop()


@contextmanager
def running_as(directory: Path, role: RoleName, left_out: str = "") -> Iterator[str]:
    """The URL of a server on the directory, whose user has the role, until the block ends.

    A role that is read only may set what its program sends, but for `left_out`. chDB cannot be told of
    CHANGEABLE_IN_READONLY, so its user may set all (readonly = 2) but what is forbidden one by one.
    """
    grants = [f"GRANT {access} ON {on}" for access, on in privileges(role, Place(DATABASE))]
    grants.append(
        "GRANT SHOW DATABASES ON default.*"
    )  # chDB's server says USE where others are connected to a database
    # chDB's server learns the columns of what is inserted by reading; ClickHouse needs no right to read for that.
    grants += [f"GRANT SELECT ON {DATABASE}.{table}" for table in sorted(ROLES[role].inserts - ROLES[role].reads)]
    profile = ""
    if not ROLES[role].inserts:
        forbidden = _settings(directory) - ((SENT_SETTINGS - {left_out}) | _OF_CHDB)
        profile = "".join(f"<{name}><readonly/></{name}>" for name in sorted(forbidden))
        profile = f"<readonly>2</readonly><constraints>{profile}</constraints>"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "users.xml").write_text(
        f"<clickhouse><profiles><default>{profile}</default></profiles><quotas><default/></quotas>"
        "<users><default><password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
        f"<grants>{''.join(f'<query>{escape(grant)}</query>' for grant in grants)}</grants></default></users>"
        "</clickhouse>"
    )
    (directory / "config.xml").write_text(
        f"<clickhouse><users_config>{directory / 'users.xml'}</users_config></clickhouse>"
    )
    server = chdb_server.start(directory)
    try:
        yield _url(server)
    finally:
        server.kill()


def _settings(directory: Path) -> frozenset[str]:
    with unrestricted(directory) as url, connect(url, client_name="tests") as client:
        return frozenset(name for (name,) in client.execute("SELECT name FROM system.settings WHERE alias_for = ''"))


@contextmanager
def unrestricted(directory: Path) -> Iterator[str]:
    """The URL of a server on the directory whose user may do everything."""
    (directory / "config.xml").unlink(missing_ok=True)
    server = chdb_server.start(directory)
    try:
        yield _url(server)
    finally:
        server.kill()


def refused(url: str, statement: str) -> str:
    """ClickHouse's error to a statement; empty when there was none."""
    with connect(url, client_name="tests") as client:
        try:
            client.execute(statement)
        except Exception as error:  # noqa: BLE001 - the text is what is asserted
            return str(error)
    return ""


def _url(server: chdb_server.Running) -> str:
    return urlsplit(server.url)._replace(path=f"/{DATABASE}").geturl()
