"""Searches from several threads, and after a fork."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import DIM, Catalog

import shortlist


def test_other_threads_run_while_a_batch_is_searched(
    catalog: Catalog, index: shortlist.Index
) -> None:
    users = np.tile(catalog.users, (400, 1))
    turns, stop = [0], threading.Event()

    def take_turns() -> None:
        while not stop.is_set():
            turns[0] += 1
            time.sleep(0)  # Lets the other thread take the interpreter lock.

    thread = threading.Thread(target=take_turns)
    thread.start()
    try:
        before = turns[0]
        index.search(users, 10, exact=True)
        during = turns[0] - before
    finally:
        stop.set()
        thread.join()
    # With the lock held, there would be a turn before and one after.
    assert during > 100


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_share_an_index(catalog: Catalog, index: shortlist.Index, threads: int) -> None:
    expected = index.search(catalog.users, 10, filter="likes > 500").ids.tolist()

    def search(_: int) -> bool:
        found = index.search(catalog.users, 10, filter="likes > 500", threads=threads)
        return bool(found.ids.tolist() == expected)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(search, range(64)))


def in_child(index: shortlist.Index, folder: Path) -> None:
    users = np.ones((200, DIM), np.float32)
    one = index.search(users, 5, threads=1)
    assert index.search(users, 5, threads=2).ids.tolist() == one.ids.tolist()
    assert len(shortlist.Index.open(folder)) == 300
    assert len(shortlist.build(users)) == 200
    os._exit(17)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_child_has_threads_of_its_own(
    catalog: Catalog, index: shortlist.Index, tmp_path: Path
) -> None:
    # Every pool of the parent exists before the fork.
    shortlist.build(catalog.x[:300], out=tmp_path)
    index.search(catalog.users, 5, threads=2)
    shortlist.Index.open(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context("fork").Process(target=in_child, args=(index, tmp_path))
        child.start()
    child.join(120)
    if child.is_alive():
        child.kill()
    assert child.exitcode == 17
    assert index.search(catalog.users, 5, threads=2).ids.shape == (50, 5)
