#!/usr/bin/env python3
"""Upserts/s and search latency of hnswlib during writes, for comparison with `cargo bench --bench live -- writes`.

    python3 -m venv .peers && .peers/bin/pip install 'numpy>=2' hnswlib
    shortlist synth --videos 200000 --dim 128 --out DIR
    .peers/bin/python benches/live_peers.py --data DIR [--seconds 10]

The first half of DIR/videos.npy is built on all cores with M 16 and ef_construction 200. Then one thread adds batches of
videos of the second half, while another thread searches for users of DIR/users_test.npy back to back with k 100 and ef
200. Deletes and replacements are not measured.

Caveats: hnswlib does not write added videos to disk, and its reads and writes exclude each other only within Python. A
call from Python takes about 10 us longer than one from C++.
"""
import argparse, sys, threading, time

import numpy as np

K, EF, M, EF_CONSTRUCTION = 100, 200, 16, 200


def p99(times):
    return np.percentile(times, 99) * 1e6 if times else 0.0


def measure(index, users, news, batch, seconds):
    """Upserts/s, p99 of one in us, searches/s, p99 of one in us, searches that failed."""
    done, searches, failed = threading.Event(), [], []

    def search():
        turn = 0
        while not done.is_set():
            began = time.perf_counter()
            try:
                index.knn_query(users[turn % len(users)][None], k=K, num_threads=1)
                searches.append(time.perf_counter() - began)
            except RuntimeError:  # fewer than k were found
                failed.append(turn)
            turn += 1

    thread = threading.Thread(target=search)
    thread.start()
    began, adds, added = time.perf_counter(), [], 0
    while time.perf_counter() - began < seconds:
        if not batch:
            time.sleep(seconds)
            break
        first = index.get_current_count()
        rows = news[np.arange(added, added + batch) % len(news)]
        at = time.perf_counter()
        index.add_items(rows, np.arange(first, first + batch), num_threads=1)
        adds.append(time.perf_counter() - at)
        added += batch
        if first + 2 * batch > index.get_max_elements():
            break
    elapsed = time.perf_counter() - began
    done.set()
    thread.join()
    return added / elapsed, p99(adds), len(searches) / elapsed, p99(searches), len(failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder written by `shortlist synth`")
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    import hnswlib

    videos = np.load(f"{arguments.data}/videos.npy").astype(np.float32)
    users = np.load(f"{arguments.data}/users_test.npy").astype(np.float32)[:500]
    half = len(videos) // 2
    index = hnswlib.Index(space="ip", dim=videos.shape[1])
    index.init_index(max_elements=4 * half, M=M, ef_construction=EF_CONSTRUCTION)
    index.add_items(videos[:half], np.arange(half))
    index.set_ef(EF)
    print("| videos in a write | upserts/s | p99 of a write, us | searches/s | p99 of a search, us | failed |")
    print("|---|---|---|---|---|---|")
    for batch in [0, 1, 100]:
        row = measure(index, users, videos[half:], batch, arguments.seconds)
        print(f"| {batch} | " + " | ".join(f"{value:,.0f}" for value in row) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
