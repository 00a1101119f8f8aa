"""The settings of the query side."""

from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, field_validator, model_validator

from orgstats.clickhouse.url import ClickHouseUrl
from orgstats.errors import ConfigurationError
from orgstats.query.gateway import Gateway, keys_of
from orgstats.settings import Settings

LONGEST_REVOCATION_SECONDS: Final = 30.0


class QuerySettings(Settings):
    """What `orgstats serve` runs with; read with `QuerySettings.from_env`."""

    clickhouse_url: ClickHouseUrl
    ops_clickhouse_url: ClickHouseUrl | None = Field(
        None, description="ClickHouse's address for the page at /ops, with a user of its own; empty: clickhouse_url"
    )
    listen: str = Field("127.0.0.1:8000", description="host:port that the API listens on")
    metrics_listen: str = Field("", description="host:port for /metrics; empty: beside the API")
    retention_days: int = Field(90, ge=0, le=3650, description="days that counts are kept; 0 keeps them for ever")
    query_connections: int = Field(8, ge=1, le=256, description="most connections to ClickHouse")
    query_threads: int = Field(2, ge=1, le=64, description="threads that ClickHouse may use for one request")
    query_timeout_seconds: float = Field(10.0, gt=0, le=300, description="longest time for one request")
    query_max_rows: int = Field(0, ge=0, description="most rows that one request may read; 0: as many as it needs")
    revocation_seconds: float = Field(
        10.0, ge=0, le=LONGEST_REVOCATION_SECONDS, description="how long a revoked token may still work"
    )
    rate_limit: int = Field(1_000, ge=0, description="most requests per caller and window, per process; 0: no limit")
    rate_window_seconds: int = Field(1, ge=1, le=3600, description="length of the window of rate_limit")
    integer_timestamps: bool = Field(
        default=False, description="write timestamps without a fraction, for clients that decode integers"
    )
    gateway_key: SecretStr | None = Field(
        None, description="key of a gateway's signed header; better in a file, see ORGSTATS_GATEWAY_KEY_FILE"
    )
    gateway_key_file: Path | None = Field(None, description="file with the gateway's keys, one a line")
    drain_seconds: float = Field(
        1.0, ge=0, le=300, description="time between SIGTERM and the end of listening, for load balancers to notice"
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @model_validator(mode="after")
    def _gateway_keys_are_good(self) -> "QuerySettings":
        try:
            self.gateway()
        except (ConfigurationError, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"ORGSTATS_GATEWAY_KEY_FILE or ORGSTATS_GATEWAY_KEY: {error}") from None
        return self

    def gateway(self) -> Gateway | None:
        """What checks the gateway's signed header; None when no key is set, and then the header is ignored."""
        keys = [self.gateway_key.get_secret_value()] if self.gateway_key is not None else []
        if self.gateway_key_file is not None:
            keys += keys_of(self.gateway_key_file.read_text(encoding="utf-8"))
        return Gateway(keys) if keys or self.gateway_key_file else None


def split_address(text: str) -> tuple[str, int]:
    """`host:port` or `[v6 address]:port` in its parts; raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("not of the form host:port")
    return host.strip("[]"), int(port)
