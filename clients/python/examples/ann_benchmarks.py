"""Shortlist in the shape of an algorithm of ann-benchmarks and VIBE.

``python ann_benchmarks.py`` runs it on generated data and prints recall and queries per second.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import numpy as np
import numpy.typing as npt

import shortlist

Rows = npt.NDArray[np.float32]

METRICS: dict[str, shortlist.Metric] = {
    "angular": "cosine",
    "cosine": "cosine",
    "euclidean": "l2",
    "ip": "ip",
    "normalized": "ip",
}


class Shortlist:
    """One configuration of an index. Its groups of query arguments are values of ``ef_search``."""

    def __init__(
        self,
        metric: str,
        params: dict[str, Any] | None = None,
        training_queries: Rows | None = None,
    ) -> None:
        """Takes the name of a metric in either benchmark, and parameters of `shortlist.build`.

        Training queries are a sample of queries other than those that are measured.
        """
        if metric not in METRICS:
            raise NotImplementedError(f"Shortlist does not support the metric {metric}")
        self._metric = METRICS[metric]
        self._params = dict(params or {})
        self._training_queries = training_queries
        self._ef_search: int | None = None
        self._memory_before = 0.0
        self._index: shortlist.Index | None = None
        self._results: npt.NDArray[np.uint64] | None = None

    def fit(self, x: Rows) -> None:
        """Builds the index of ``x``, ``[n, dim]``; row numbers are the ids."""
        self._memory_before = self.get_memory_usage()
        self._index = shortlist.build(
            x, metric=self._metric, training_queries=self._training_queries, **self._params
        )

    def set_query_arguments(self, ef_search: int) -> None:
        """Sets the effort of the queries that follow."""
        self._ef_search = ef_search

    def query(self, q: Rows, n: int) -> npt.NDArray[np.uint64]:
        """The ids of the ``n`` nearest rows, best first."""
        found = self._fitted().search(q, n, ef_search=self._ef_search)
        return found.ids[: found.counts]

    def batch_query(self, x: Rows, n: int) -> None:
        """Answers one query per row on every core; `get_batch_results` returns the answers."""
        self._results = self._fitted().search(x, n, ef_search=self._ef_search, threads=0).ids

    def get_batch_results(self) -> npt.NDArray[np.uint64]:
        """The answers of the last batch, ``[queries, n]``."""
        if self._results is None:
            raise RuntimeError("no batch was queried")
        return self._results

    def get_memory_usage(self) -> float:
        """The memory of this process in KiB."""
        with open("/proc/self/statm") as statm:
            return float(statm.read().split()[1]) * resource.getpagesize() / 1024

    def get_additional(self) -> dict[str, Any]:
        """Nothing in addition to times and answers."""
        return {}

    def done(self) -> None:
        """Frees the index."""
        self._index = None

    def __str__(self) -> str:
        return f"Shortlist({self._params}, ef_search={self._ef_search})"

    def _fitted(self) -> shortlist.Index:
        if self._index is None:
            raise RuntimeError("fit was not called")
        return self._index


def main() -> None:
    """Prints recall and speed for several efforts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("-k", type=int, default=10)
    arguments = parser.parse_args()

    random = np.random.default_rng(1)
    x = random.standard_normal((arguments.rows, arguments.dim), np.float32)

    def users(count: int) -> Rows:
        # Users are not distributed like videos: here they use half of the components.
        sample = random.standard_normal((count, arguments.dim), np.float32)
        sample[:, ::2] *= 0.1
        return sample

    algorithm = Shortlist("ip", training_queries=users(4000))
    queries = users(arguments.queries)
    started = time.perf_counter()
    algorithm.fit(x)
    print(f"built in {time.perf_counter() - started:.1f} s")
    truth = np.argsort(-(queries @ x.T), axis=1)[:, : arguments.k]

    print(f"ef_search  recall@{arguments.k}  queries/s  queries/s in batches")
    recall = 0.0
    for ef_search in (10, 20, 50, 100, 200, 400):
        algorithm.set_query_arguments(ef_search)
        started = time.perf_counter()
        found = [algorithm.query(query, arguments.k) for query in queries]
        one = len(queries) / (time.perf_counter() - started)
        started = time.perf_counter()
        algorithm.batch_query(queries, arguments.k)
        batch = len(queries) / (time.perf_counter() - started)
        if not np.array_equal(found, algorithm.get_batch_results()):
            raise SystemExit("a batch has other answers than its queries")
        hits = [np.isin(ids, best).sum() for ids, best in zip(found, truth)]
        recall = float(np.sum(hits)) / truth.size
        print(f"{ef_search:9}  {recall:9.4f}  {one:9.0f}  {batch:9.0f}")
    if recall < 0.9:
        raise SystemExit(f"recall {recall} at the largest effort")


if __name__ == "__main__":
    main()
