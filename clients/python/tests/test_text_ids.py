"""Ids that are text: in an index of this process, and over a server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from servers import Server

import shortlist

TEXTS = ["dQw4w9WgXcQ", "17", "ü/ 日本", "a=b", "last", "XgLFX3hmvCG"]
# Its SHA-256 begins as that of the last text.
COLLIDING = "LFUZaYll3_A"
X = np.eye(len(TEXTS), dtype=np.float32) + np.float32(0.1)
NUMBERS = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in TEXTS]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> shortlist.Index:
    return shortlist.build(X, ids=TEXTS, out=tmp_path_factory.mktemp("texts") / "videos")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[shortlist.Client]:
    shortlist.build(X, ids=TEXTS, out=tmp_path / "videos")
    server = Server(tmp_path / "videos").wait()
    yield shortlist.Client(server.address)
    server.stop()


def texts(found: shortlist.Candidates) -> list[Any]:
    assert found.text_ids is not None
    # Without the padding.
    return [text for text in found.text_ids.tolist() if text]


@pytest.mark.parametrize(
    "ids",
    [TEXTS, np.array(TEXTS), pd.Series(TEXTS), pl.Series(TEXTS), pa.array(TEXTS)],
    ids=["list", "numpy", "pandas", "polars", "arrow"],
)
def test_texts_of_every_library_are_ids(ids: Any) -> None:
    index = shortlist.build(X, ids=ids)
    for row, text in enumerate(TEXTS):
        found = index.search(X[row], 6, exact=True)
        assert texts(found)[0] == text
        assert found.ids[0] == NUMBERS[row]
    batch = index.search(X, 7, exact=True)
    assert batch.text_ids is not None
    assert batch.text_ids.shape == (6, 7)
    assert batch.text_ids[:, 0].tolist() == TEXTS
    assert batch.text_ids[:, 6].tolist() == [""] * 6
    assert batch.to_pandas()["text_id"].tolist()[0] == TEXTS[0]
    assert batch.to_arrow()["text_id"].to_pylist()[6] == TEXTS[1]


def test_an_index_of_numbers_has_no_texts() -> None:
    index = shortlist.build(X)
    assert index.search(X[0], 3).text_ids is None
    problem = "since the ids of the index are numbers"
    for given, field in [
        ({"q": X[0], "exclude": ["a"]}, "exclude"),
        ({"q": shortlist.Seeds(["a"])}, "q.video_ids"),
    ]:
        with pytest.raises(shortlist.InvalidArgument, match=problem) as caught:
            index.search(**given)
        assert caught.value.field == field
    with pytest.raises(shortlist.InvalidArgument, match=problem):
        index.explain(X[0], "a")


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([*TEXTS[:5], TEXTS[0]], "is already the id of row 0"),
        ([*TEXTS[:5], ""], "expected an id of 1 to 1024 bytes, found 0"),
        ([*TEXTS[:5], 7], "expected a text, found 7"),
        ([COLLIDING, *TEXTS[1:]], "cannot be in one index"),
        (TEXTS[:5], "expected 6, one per row of x, found 5"),
    ],
)
def test_texts_that_are_refused(ids: list[Any], reason: str) -> None:
    with pytest.raises(shortlist.InvalidArgument, match=reason) as caught:
        shortlist.build(X, ids=np.array(ids, dtype=object))
    assert caught.value.field == "ids"


def test_searches_name_videos_by_text(index: shortlist.Index, client: shortlist.Client) -> None:
    searches: list[Any] = [index.search, client.search]
    for search in searches:
        found = search(X[0], 6, exact=True, exclude=["dQw4w9WgXcQ", "17", "unknown"])
        assert sorted(texts(found)) == sorted(TEXTS[2:])
        rows = search(X[:2], 6, exact=True, exclude=[["dQw4w9WgXcQ"], ["17", "last"]])
        assert rows.counts.tolist() == [5, 4]
        found = search(shortlist.Seeds(["a=b", "unknown"]), 6, exact=True)
        assert "a=b" not in texts(found)
        unknown = int.from_bytes(hashlib.sha256(b"unknown").digest()[:8], "little")
        assert found.unknown_seeds == (unknown,)
        assert texts(search(X[0], 6, filter='video_id = "17"'))[:1] == ["17"]
    for explain in (index.explain, client.explain):
        explained = explain(X[0], "17", exclude=["17"])
        assert explained.removal is not None
        assert explained.removal.rule == "exclude"


def test_writes_name_videos_by_text(client: shortlist.Client) -> None:
    assert client.upsert(["new", "17"], X[:2]).written == 2
    assert client.takedown(["last"]).written == 1
    assert client.delete(["a=b"]).written == 1
    states = [(video.text_id, video.state) for video in client.get(["new", "17", "last", "a=b"])]
    expected = [("new", "found"), ("17", "found"), ("last", "taken_down"), ("a=b", "unknown")]
    assert states == expected
    client.restore(["last"])
    assert client.get(["last"])[0].state == "found"
    with pytest.raises(shortlist.InvalidArgument, match="expected the id as text"):
        client.upsert([7], X[:1])
    with pytest.raises(shortlist.InvalidArgument, match="which the index has"):
        client.upsert([COLLIDING], X[:1])
