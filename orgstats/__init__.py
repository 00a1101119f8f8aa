"""Exact event counts per organization: Kafka in, ClickHouse counts, one endpoint.

`orgstats.query.client` is the client; `orgstats.query` the endpoint, as a module to import or an application to serve;
`orgstats.consumer` the daemon that counts, and what its operators do; `orgstats.schemas` the contracts.
"""


def __getattr__(name: str) -> str:
    """`__version__`, looked up when somebody asks: it costs more than all else of this package."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import version

    return version("orgstats")
