"""`Client` and `AsyncClient` against real servers, compared with the same index in this process."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import DIM, Catalog
from servers import Server

import shortlist


@pytest.fixture(scope="session")
def folder(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("served") / "videos"
    shortlist.build(
        catalog.x,
        training_queries=catalog.training,
        ids=catalog.ids,
        attributes=catalog.attributes,
        embedding_model="towers-1",
        out=out,
    )
    return out


@pytest.fixture(scope="session")
def local(folder: Path) -> shortlist.Index:
    return shortlist.Index.open(folder)


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Server]:
    server = Server(folder).wait()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def client(server: Server) -> shortlist.Client:
    return shortlist.Client(server.address)


@pytest.fixture
def writable(tmp_path: Path) -> Iterator[shortlist.Client]:
    """A client of an index of its own, with 100 videos."""
    out = tmp_path / "videos"
    x = np.random.default_rng(3).standard_normal((100, DIM), np.float32)
    attributes = {
        "region": ["US", "IN"] * 50,
        "likes": np.arange(100),
        "tags": [["a"]] * 100,
        "published_at": np.full(100, np.datetime64("2026-01-01", "us")),
    }
    shortlist.build(x, attributes=attributes, out=out)
    server = Server(out).wait()
    yield shortlist.Client(server.address)
    server.stop()


def assert_same(found: shortlist.Candidates, expected: shortlist.Candidates) -> None:
    assert np.array_equal(found.ids, expected.ids)
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.counts, expected.counts)
    assert found.reasons == expected.reasons
    assert list(found.attributes) == list(expected.attributes)
    for name, column in expected.attributes.items():
        assert found.attributes.kind(name) == expected.attributes.kind(name)
        assert found.attributes[name].tolist() == column.tolist()
    for name in ("vectors", "interests", "reserved"):
        mine, other = getattr(found, name), getattr(expected, name)
        assert (mine is None) == (other is None)
        assert mine is None or np.array_equal(mine, other)
    assert found.unknown_seeds == expected.unknown_seeds


OPTIONS: list[dict[str, Any]] = [
    {},
    {"k": 3, "exact": True},
    {"k": 100, "ef_search": 300},
    {"k": 50, "filter": 'region = "US" and likes >= 500', "exact": True},
    {"k": 20, "caps": {"creator": 1}, "score_threshold": 10.5, "exact": True},
    {"k": 30, "offset": 30, "exact": True},
    {"k": 20, "fresh": shortlist.Fresh("published_at", timedelta(days=2), 5), "exact": True},
    {"k": 20, "reserve": ['5:region = "BR"', "10%:likes < 100"], "exact": True},
    {"k": 20, "reserve": ['5/100/7:region = "BR" and not likes between 5 and 9'], "exact": True},
    {"k": 20, "max_similarity": 0.503, "exact": True},
    {"k": 20, "mmr_lambda": 0.5, "max_similarity": 0.6, "exact": True},
    {"k": 10, "attributes": ["region", "likes", "tags", "published_at"], "exact": True},
    {"k": 10, "vectors": True, "embedding_model": "towers-1", "exact": True},
    {"k": 10, "filter": "video_id in (1, 2)", "exact": True},
]


@pytest.mark.parametrize("given", OPTIONS, ids=str)
def test_a_server_answers_as_the_index_does(
    catalog: Catalog, local: shortlist.Index, client: shortlist.Client, given: dict[str, Any]
) -> None:
    excluded = catalog.ids[:2000]
    for options in (given, {**given, "exclude": excluded}):
        user = catalog.users[0]
        assert_same(client.search(user, **options), local.search(user, **options))
        batch = client.search_batch(catalog.users, **options)
        assert_same(batch, local.search(catalog.users, **options))


def test_rows_may_have_filters_and_exclusions_of_their_own(
    catalog: Catalog, local: shortlist.Index, client: shortlist.Client
) -> None:
    n = len(catalog.users)
    filters = ['region = "US"' if row % 2 else None for row in range(n)]
    exclude = [catalog.ids[row * 10 : row * 10 + row] for row in range(n)]
    given: dict[str, Any] = {"filter": filters, "exclude": exclude, "exact": True}
    found = client.search(catalog.users, 20, **given)
    assert_same(found, local.search(catalog.users, 20, **given))


def test_interests_and_seeds(
    catalog: Catalog, local: shortlist.Index, client: shortlist.Client
) -> None:
    interests = shortlist.Interests(catalog.users[:3], [1.0, 0.5, 2.0], [0.2, 0.2, 0.1])
    for q in (
        interests,
        shortlist.Seeds(catalog.ids[:3], [1.0, -0.5, 2.0]),
        shortlist.Seeds([catalog.ids[0], 5]),
    ):
        assert_same(client.search(q, 20, exact=True), local.search(q, 20, exact=True))


def test_more_rows_than_a_call_has_come_in_their_order(
    catalog: Catalog, local: shortlist.Index, client: shortlist.Client
) -> None:
    users = np.random.default_rng(5).integers(-8, 9, (1100, DIM)).astype(np.float32)
    assert_same(client.search(users, 7, exact=True), local.search(users, 7, exact=True))
    empty = client.search(users[:0], 7)
    assert empty.ids.shape == (0, 7)


def test_stats_target_recall_and_explanations(
    catalog: Catalog, local: shortlist.Index, client: shortlist.Client
) -> None:
    user = catalog.users[0]
    found = client.search(user, 10, target_recall=0.9, stats=True)
    assert found.stats is not None
    assert found.stats[0].plan in {"graph", "code_scan"}
    video = int(found.ids[3])
    assert client.explain(user, video)._replace(stats=found.stats[0]) == local.explain(
        user, video
    )._replace(stats=found.stats[0])
    removed = client.explain(user, video, filter="likes < 0").removal
    assert removed is not None
    assert (removed.rule, removed.field) == ("filter", "filter")
    best = local.search(user, 10, exact=True).ids
    for given in (
        {"max_similarity": 0.3},
        {"mmr_lambda": 0.1},
        {"reserve": ['10:region = "BR"']},
    ):
        options: dict[str, Any] = {"k": 10, **given}
        expected = [local.explain(user, int(video), **options).removal for video in best]
        assert [client.explain(user, int(video), **options).removal for video in best] == expected
        assert any(removal is not None for removal in expected)


def test_a_stream_answers_in_order(
    catalog: Catalog, local: shortlist.Index, client: shortlist.Client
) -> None:
    answers = list(client.stream(iter(catalog.users), 5, exact=True, attributes=["region"]))
    assert len(answers) == len(catalog.users)
    for user, answer in zip(catalog.users, answers):
        assert_same(answer, local.search(user, 5, exact=True, attributes=["region"]))
    # A stream may be left early, and one bad search ends it.
    next(client.stream(catalog.users, 5))
    with pytest.raises(shortlist.InvalidArgument) as refused:
        list(client.stream([catalog.users[0], np.ones(3, np.float32)]))
    assert refused.value.field == "q"


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"k": 0}, "k", "expected 1 to 10000"),
        ({"filter": "region ="}, "filter", "line 1, column 9"),
        ({"filter": "color = 1"}, "filter", "no attribute"),
        ({"target_recall": 2.0}, "target_recall", "expected"),
        ({"attributes": ["color"]}, "attributes[0]", "expected"),
        ({"caps": {"color": 1}}, "caps[0].attribute", "expected"),
        ({"exact": True, "ef_search": 5}, "ef_search", "at most one"),
        ({"reserve": "5:likes > 1"}, "reserve", "a list of texts"),
        ({"reserve": ["5"]}, "reserve[0]", "no colon"),
        ({"reserve": ["5:likes > 1", "5:color = 1"]}, "reserve[1].filter", "no attribute"),
        ({"reserve": ["11:likes > 1"]}, "reserve[0].at_least", "expected at most 10"),
        ({"reserve": [f"{1 << 32}:likes > 1"]}, "reserve[0].at_least", "found 4294967296"),
        ({"reserve": ["5/0:likes > 1"]}, "reserve[0].sample.temperature", "above 0"),
        ({"max_similarity": 1.5}, "max_similarity", "at most 1"),
        ({"mmr_lambda": 2}, "mmr_lambda", "expected 0 to 1"),
        ({"timeout": 0.0}, "timeout", "above 0"),
    ],
)
def test_a_refusal_names_the_argument(
    catalog: Catalog, client: shortlist.Client, given: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(shortlist.InvalidArgument, match=reason) as refused:
        client.search(catalog.users[0], **given)
    assert refused.value.field == field
    if field in {"filter", "k"}:
        with pytest.raises(shortlist.InvalidArgument) as refused:
            client.search(catalog.users[:3], **given)
        assert (refused.value.field, refused.value.row) == (field, 0)


def test_other_errors_have_classes_of_their_own(client: shortlist.Client) -> None:
    with pytest.raises(shortlist.InvalidArgument, match="dimensions"):
        client.search([1.0, 2.0])
    with pytest.raises(shortlist.NotFound):
        client.search(np.ones(DIM), index="music")
    with pytest.raises(shortlist.NotFound):
        client.search(shortlist.Seeds([5]))
    with pytest.raises(shortlist.FailedPrecondition) as model:
        client.search(np.ones(DIM), embedding_model="towers-2")
    assert model.value.field == "embedding_model"
    with pytest.raises(shortlist.Unavailable, match="refused"):
        shortlist.Client("127.0.0.1:1").search(np.ones(DIM))
    with pytest.raises(shortlist.InvalidArgument, match="unencrypted"):
        shortlist.Client("10.0.0.1:1", token="secret")
    assert "secret" not in repr(shortlist.Client("127.0.0.1:1", token="secret"))


def test_every_kind_of_search_waits_for_a_write(writable: shortlist.Client) -> None:
    user = np.ones(DIM, np.float32)
    video = int(writable.search(user, 1).ids[0])
    last = writable.delete([]).sequence
    assert len(list(writable.stream([user], 1, min_sequence=last))) == 1
    # No server has seen a write that nobody made.
    for search in (
        lambda: writable.search(user, min_sequence=last + 1, timeout=1),
        lambda: writable.explain(user, video, min_sequence=last + 1, timeout=1),
        lambda: list(writable.stream([user], min_sequence=last + 1)),
    ):
        with pytest.raises(shortlist.Unavailable) as refused:
            search()
        assert refused.value.field == "min_sequence"
    with pytest.raises(shortlist.InvalidArgument, match="no timeout"):
        list(writable.stream([user], timeout=1))


def test_writes_are_seen_and_taken_back(writable: shortlist.Client) -> None:
    x = np.eye(DIM, dtype=np.float32)[:3] * 100
    written = writable.upsert(
        [1000, 1001, 1002],
        x,
        {"region": ["US", None, "BR"], "likes": [1, 2, None], "tags": [["a", "b"], [], None]},
        expires_at=[None, np.datetime64("2100-01-01"), None],
    )
    assert (written.written, written.errors) == (3, [])
    found = writable.search(x[1], 1, min_sequence=written.sequence)
    assert found.ids.tolist() == [1001]
    first, second, unknown = writable.get([1000, 1001, 7777], vectors=True)
    assert (first.state, first.attributes["tags"], first.expires_at) == ("found", ["a", "b"], None)
    assert second.expires_at == np.datetime64("2100-01-01", "us")
    assert second.vector is not None
    assert np.allclose(second.vector, x[1])
    assert unknown.state == "unknown"
    assert writable.takedown([1001]).written == 1
    assert writable.get([1001])[0].state == "taken_down"
    writable.restore([1001])
    assert writable.delete([1000]).written == 1
    assert [video.state for video in writable.get([1000, 1001])] == ["unknown", "found"]
    assert writable.status()["indexes"][0]["sequence"] > written.sequence


def test_an_alias_takes_embeddings_of_several_models(tmp_path: Path) -> None:
    index = tmp_path / "videos"
    rows = np.random.default_rng(3).standard_normal((100, DIM), np.float32)
    shortlist.build(rows, out=index, embedding_model="towers-1")
    server = Server(index, f'aliases = "{tmp_path / "aliases.json"}"').wait()
    client = shortlist.Client(server.address, index="current")
    assert client.set_alias("current", ["videos"]) == []
    assert client.aliases() == {"current": ["videos"]}
    x = np.ones((2, DIM), np.float32) * 100
    written = client.upsert([1000, 1001], {"towers-1": x, "towers-2": x[:, :2]})
    assert (written.written, written.errors) == (2, [])
    assert client.get([1000], embedding_model="towers-1")[0].state == "found"
    with pytest.raises(shortlist.FailedPrecondition):
        client.get([1000], embedding_model="towers-2")
    assert client.search(x[0], 2, embedding_model="towers-1").ids.tolist() == [1000, 1001]
    with pytest.raises(shortlist.InvalidArgument, match="expected an embedding of") as refused:
        client.upsert([1002], {"towers-3": x[:1]})
    assert (refused.value.row, refused.value.field) == (0, "vectors")
    with pytest.raises(shortlist.InvalidArgument, match="expected 2, one per video, found 1"):
        client.upsert([1, 2], {"towers-1": x[:1]})
    with pytest.raises(shortlist.InvalidArgument, match="at least one model"):
        client.upsert([1, 2], {})
    assert client.set_alias("current", []) == ["videos"]
    assert client.aliases() == {}
    server.stop()


@pytest.mark.parametrize("library", ["dict", "pandas", "polars", "arrow"])
def test_tables_are_upserted(writable: shortlist.Client, library: str) -> None:
    columns: dict[str, Any] = {
        "video_id": [2000, 2001],
        "embedding": [[100.0] * DIM, [-100.0] * DIM],
        "region": ["US", "DE"],
        "likes": [7, 8],
        "published_at": np.array(["2026-02-01", "2026-02-02"], "datetime64[us]"),
    }
    table: Any = columns
    if library == "pandas":
        table = pd.DataFrame(columns)
    elif library == "polars":
        table = pl.DataFrame(columns)
    elif library == "arrow":
        table = pa.table(columns)
    assert writable.upsert(table).written == 2
    found = writable.search(np.ones(DIM), 1, attributes="all")
    assert found.ids.tolist() == [2000]
    assert found.attributes["likes"].tolist() == [7]
    assert found.attributes["published_at"].data[0] == np.datetime64("2026-02-01", "us")


def test_a_write_that_does_not_fit_names_the_video(writable: shortlist.Client) -> None:
    x = np.ones((3, DIM), np.float32)
    with pytest.raises(shortlist.InvalidArgument) as refused:
        writable.upsert([1, 2, 3], x, {"color": [None, "red", None]})
    assert (refused.value.row, refused.value.field) == (1, 'attributes["color"]')
    x[2, 0] = np.nan
    with pytest.raises(shortlist.InvalidArgument) as refused:
        writable.upsert([1, 2, 3], x)
    assert (refused.value.row, refused.value.field) == (2, "vector")
    partial = writable.upsert([1, 2, 3], x, partial=True)
    assert (partial.written, [error.row for error in partial.errors]) == (2, [2])
    with pytest.raises(shortlist.InvalidArgument, match="expected 2, one per video, found 3"):
        writable.upsert([1, 2], x)
    with pytest.raises(shortlist.InvalidArgument, match="column 'embedding'"):
        writable.upsert({"video_id": [1]})


def test_generations_are_rebuilt_and_activated(writable: shortlist.Client) -> None:
    writable.upsert([5000], np.ones((1, DIM)))
    assert writable.rebuild()["state"] in {"STATE_RUNNING", "STATE_GATING", "STATE_DONE"}
    ended = time.monotonic() + 60
    while writable.status()["indexes"][0]["rebuild"]["state"] != "STATE_DONE":
        assert time.monotonic() < ended
    assert writable.status()["indexes"][0]["vectors"] == 101
    assert writable.activate(1, force=True)["index"]["generation"] == 1


def test_calls_of_asyncio_run_at_the_same_time(
    catalog: Catalog, local: shortlist.Index, server: Server
) -> None:
    async def main() -> None:
        client = shortlist.AsyncClient(server.address)
        calls = [client.search(user, 9, exact=True) for user in catalog.users]
        for user, found in zip(catalog.users, await asyncio.gather(*calls)):
            assert_same(found, local.search(user, 9, exact=True))
        rules: dict[str, Any] = {"reserve": ["20%/9/7:likes < 100"], "max_similarity": 0.6}
        ruled = await client.search_batch(catalog.users, 9, exact=True, **rules)
        assert_same(ruled, local.search(catalog.users, 9, exact=True, **rules))
        found = await client.search_batch(catalog.users, 9, exact=True)
        assert_same(found, local.search(catalog.users, 9, exact=True))
        streamed = [answer async for answer in client.stream(catalog.users, 9, exact=True)]
        assert len(streamed) == len(catalog.users)
        assert np.array_equal(streamed[7].ids, found.ids[7])
        assert (await client.explain(catalog.users[0], int(found.ids[0, 0]))).rank == 1
        assert (await client.get([5]))[0].state == "unknown"
        assert (await client.status())["indexes"][0]["name"] == "videos"
        with pytest.raises(shortlist.InvalidArgument):
            await client.search(catalog.users[0], 0)
        slow = asyncio.ensure_future(client.search(np.ones((20_000, DIM)), 100, exact=True))
        await asyncio.sleep(0.01)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow

    asyncio.run(main())


def test_other_threads_run_while_a_call_waits() -> None:
    import socket

    # It accepts connections and never answers.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        errors: list[BaseException] = []

        def call() -> None:
            try:
                shortlist.Client(address, timeout=0.5).search(np.ones(DIM))
            except shortlist.Error as error:
                errors.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        steps = 0
        while thread.is_alive():
            steps += 1
        thread.join()
    assert steps > 100
    assert isinstance(errors[0], shortlist.DeadlineExceeded)


def _in_child(client: shortlist.Client, user: npt.NDArray[np.float32]) -> list[int]:
    return [int(video) for video in client.search(user, 5, exact=True).ids]


_SHARED: list[Any] = []


def _child(queue: Any) -> None:
    queue.put(_in_child(*_SHARED))


def test_a_client_may_be_used_after_a_fork(catalog: Catalog, client: shortlist.Client) -> None:
    expected = _in_child(client, catalog.users[0])
    _SHARED[:] = [client, catalog.users[0]]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert queue.get() == expected
    assert _in_child(client, catalog.users[0]) == expected


def test_no_search_fails_while_one_of_two_servers_stops(folder: Path, catalog: Catalog) -> None:
    servers = [Server(folder).wait(), Server(folder).wait()]
    client = shortlist.Client([server.address for server in servers])
    failed: list[BaseException] = []
    counts = [0, 0]

    def call(at: int) -> None:
        try:
            for _ in range(200):
                client.search(catalog.users[0], 5)
                counts[at] += 1
        except shortlist.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=call, args=(at,)) for at in (0, 1)]
    for thread in threads:
        thread.start()
    while counts[0] < 20:
        time.sleep(0.001)
    servers[0].stop()
    for thread in threads:
        thread.join()
    servers[1].stop()
    assert (failed, counts) == ([], [200, 200])


def test_keys_are_sent(folder: Path, catalog: Catalog) -> None:
    digest = hashlib.sha256(b"reader").hexdigest()
    config = f'[[keys]]\nname = "reader"\nsha256 = "{digest}"\nroles = ["read", "admin"]\n'
    server = Server(folder, config).wait(token="reader")
    assert len(shortlist.Client(server.address, token="reader").search(catalog.users[0]).ids) == 10
    with pytest.raises(shortlist.Unauthenticated):
        shortlist.Client(server.address).search(catalog.users[0])
    with pytest.raises(shortlist.PermissionDenied):
        shortlist.Client(server.address, token="reader").takedown([1])
    server.stop()
