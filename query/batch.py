"""Queries that wait for ClickHouse at the same time, as far as one statement may answer them together."""

from orgstats.query.params import MAX_BUCKETS, StatsQuery


class WindowBatch:
    """Queries of one stat and width, each of one organization: of all these the whole time between is read.

    That is at most as many buckets as one request may ask for, and at most twice as many as any of the queries
    asks for alone. So a batch costs no more than one request can, and nobody pays for windows far from their own.
    """

    def __init__(self, query: StatsQuery) -> None:
        self.queries = [query]

    def join(self, query: StatsQuery) -> bool:
        """Take another query of the same stat and width, unless the batch would become too large or too wide."""
        queries = [*self.queries, query]
        windows = [one.buckets for one in queries]
        first, last = min(window.first for window in windows), max(window.last for window in windows)
        length = (last - first) // query.buckets.width + 1
        fits = length <= 2 * min(window.length for window in windows)
        if fits and length * len({one.org_id for one in queries}) <= MAX_BUCKETS:
            self.queries = queries
            return True
        return False
