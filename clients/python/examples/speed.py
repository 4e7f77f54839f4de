"""Speed of an index in this process, and what a call to a server costs its client.

``python speed.py --index FOLDER --queries users.npy`` prints queries per second of batches, for
comparison with ``shortlist bench --index FOLDER --queries users.npy --memory resident``. With
``--server HOST:PORT``, a server of the index, it also prints processor time per search.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np

import shortlist

ROUNDS = 5
CALLS = 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", required=True)
    parser.add_argument("--queries", required=True, help="a .npy file of users [n, dim]")
    parser.add_argument("--server")
    parser.add_argument("--memory", choices=["mapped", "resident"], default="resident")
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--ef-search", type=int, nargs="+", default=[100, 200, 400])
    given = parser.parse_args()
    users = np.load(given.queries)[:1000].astype(np.float32)
    index = shortlist.Index.open(given.index, memory=given.memory)
    for ef_search in given.ef_search:
        best = _best_seconds(partial(index.search, users, given.k, ef_search=ef_search))
        print(f"ef_search {ef_search}: {len(users) / best:.0f} queries/s, {len(users)} per batch")
    if not given.server:
        return
    client = shortlist.Client(given.server)
    search = partial(client.search, k=given.k, ef_search=given.ef_search[0])

    def one_by_one() -> None:
        for call in range(CALLS):
            search(users[call % len(users)])

    _print_cost("one search per call", CALLS, one_by_one)
    _print_cost("batches", len(users), partial(search, users))


def _best_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _print_cost(name: str, searches: int, work: Callable[[], object]) -> None:
    work()
    wall, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
    work()
    wall = time.perf_counter() - wall
    thread, process = time.thread_time() - thread, time.process_time() - process
    micros = 1e6 / searches
    print(
        f"{name}, us per search: {wall * micros:.0f} in all, processor time {thread * micros:.0f} "
        f"of the calling thread and {process * micros:.0f} of the process"
    )


if __name__ == "__main__":
    main()
