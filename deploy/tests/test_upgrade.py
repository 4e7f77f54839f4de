"""An upgrade and the way back, under load: no call fails.

    SHORTLIST_OTHER_BINARY   the binary of another commit. Without it, the test of two versions is skipped.
    UPGRADE_ROUNDS           how often to upgrade and go back; default: 1

Two servers, each with its own copy of the index. Searches go to both, writes to the first. Each server is replaced in
turn, first by the other version, then by the one before.
"""

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clients import Client, Load, ipv4, stubs, vector, wait_for_calls
from conftest import Server

# Ids that the catalog does not have.
FIRST_ID = 1


@pytest.fixture(scope="session")
def other() -> Path:
    """The binary of the other version."""
    named = os.environ.get("SHORTLIST_OTHER_BINARY")
    if not named:
        pytest.skip("no binary of another version: set SHORTLIST_OTHER_BINARY")
    path = Path(named).resolve()
    assert path.exists(), f"SHORTLIST_OTHER_BINARY: {path} does not exist"
    return path


class Writer:
    """Upserts one video after the other, and reads back those that were acknowledged."""

    def __init__(self, client: Client, embedding: np.ndarray) -> None:
        self.client, self.embedding = client, vector(embedding)
        self.next = itertools.count(FIRST_ID)
        self.written: list[int] = []

    def write(self) -> None:
        catalog = stubs().catalog
        video_id = next(self.next)
        video = catalog.Video(video_id=video_id, vector=self.embedding)
        answer = self.client.catalog.Upsert(catalog.UpsertRequest(videos=[video]))
        assert answer.written == 1, answer
        self.written.append(video_id)

    def read(self) -> None:
        self.check(self.written[-100:])

    def check(self, video_ids: list[int]) -> None:
        """Checks that the server has these videos."""
        catalog = stubs().catalog
        found = self.client.catalog.Get(catalog.GetRequest(video_ids=video_ids), wait_for_ready=True)
        lost = [result.video_id for result in found.results if result.state != catalog.Lookup.STATE_FOUND]
        assert not lost, f"acknowledged, but not found: {lost}"


def replace(server: Server, binary: Path, load: Load) -> None:
    """Replaces a server by another binary, as an operator does: the next one is replaced when this one gets calls."""
    server.stop()
    load.wait_for(200)
    server.shortlist = binary
    server.start()
    wait_for_calls(server)


def test_an_upgrade_and_the_way_back_fail_no_call(
    replica: Callable[[str], Server], shortlist: Path, other: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = np.load(catalog / "users_test.npy")
    servers = [replica("a"), replica("b")]
    # The other version may be one that refuses lists of addresses.
    with Client(ipv4(servers), default_authority="shortlist") as readers, Client(ipv4(servers[:1])) as writing:
        writer = Writer(writing, users[0])

        def search() -> None:
            assert len(readers.search(users[1]).candidates) == 10

        writer.write()
        with Load(search=search, write=writer.write, read=writer.read) as load:
            wait_for_calls(*servers)
            for binary in [other, shortlist] * int(os.environ.get("UPGRADE_ROUNDS", "1")):
                for server in servers:
                    replace(server, binary, load)
            load.wait_for(200)
        # The version before has the writes that the other version acknowledged.
        for batch in range(0, len(writer.written), 1000):
            writer.check(writer.written[batch : batch + 1000])
    with capsys.disabled():
        print(f"\n{dict(load.counts)}")
    load.check()


def test_calls_that_wait_bridge_the_restart_of_a_server_without_a_replica(
    replica: Callable[[str], Server], catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = np.load(catalog / "users_test.npy")
    server = replica("a")
    gaps = []
    with Client(ipv4([server])) as client:
        for _ in range(5):
            client.search(users[0], wait_for_ready=True)
            stopped = time.monotonic()
            server.stop()
            server.start()
            client.search(users[0], wait_for_ready=True)
            gaps.append(time.monotonic() - stopped)
    with capsys.disabled():
        print(f"\nseconds from SIGTERM to the first answer of the new process: {[f'{gap:.2f}' for gap in gaps]}")
