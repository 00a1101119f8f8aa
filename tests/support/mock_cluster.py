"""librdkafka's own mock cluster, for what one real broker cannot show: a partition that has no leader."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import cimpl

NOBODY = -1


class MockCluster:
    """Brokers in a thread of librdkafka's."""

    def __init__(self, library: ctypes.CDLL, cluster: ctypes.c_void_p) -> None:
        self._library = library
        self._cluster = cluster
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        self.bootstrap_servers: str = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()

    def create(self, topic: str, partitions: int) -> None:
        """A topic on all brokers."""
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 2) == 0

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Who leads a partition from now on, brokers being 1 and 2, or NOBODY."""
        assert self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, broker) == 0


@contextmanager
def mock_cluster() -> Iterator[MockCluster]:
    """Two brokers."""
    library = ctypes.CDLL(cimpl.__file__)  # the client's module: symbols are found in what it is linked to as well
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    text = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(conf, b"log_level", b"2", text, ctypes.c_size_t(len(text)))
    client = ctypes.c_void_p(library.rd_kafka_new(0, conf, text, ctypes.c_size_t(len(text))))
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(client, 2))
    try:
        yield MockCluster(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(client)
