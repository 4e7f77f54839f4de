"""Searches against a naive oracle in NumPy."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import DIM, Catalog

import shortlist

K = 20


def oracle(
    catalog: Catalog,
    user: npt.NDArray[np.float32],
    k: int,
    *,
    may: npt.NDArray[np.bool_] | None = None,
    caps: dict[str, int] | None = None,
    offset: int = 0,
) -> list[int]:
    """Ids of the best videos that may be candidates under the caps, ties by id."""
    scores = catalog.x.astype(np.float64) @ user.astype(np.float64)
    best = np.lexsort((catalog.ids, -scores))
    taken: dict[tuple[str, str], int] = {}
    found: list[int] = []
    for row in best:
        if may is not None and not may[row]:
            continue
        values = {name: catalog.attributes[name][row] for name in caps or {}}
        keys = [(name, value) for name, value in values.items() if value is not None]
        if any(taken.get(key, 0) >= (caps or {})[key[0]] for key in keys):
            continue
        for key in keys:
            taken[key] = taken.get(key, 0) + 1
        found.append(int(catalog.ids[row]))
        if len(found) == offset + k:
            break
    return found[offset:]


def is_in(catalog: Catalog, region: str) -> npt.NDArray[np.bool_]:
    return np.array([value == region for value in catalog.region])


def test_exact_answers_are_those_of_the_oracle(catalog: Catalog, index: shortlist.Index) -> None:
    ids, scores = index.search(catalog.users, K, exact=True)
    assert ids.dtype == np.uint64 and scores.dtype == np.float32
    assert ids.shape == scores.shape == (len(catalog.users), K)
    for user, row, row_scores in zip(catalog.users, ids, scores):
        assert row.tolist() == oracle(catalog, user, K)
        place = {int(video): at for at, video in enumerate(catalog.ids)}
        expected = [catalog.x[place[int(video)]] @ user for video in row]
        assert row_scores.tolist() == expected


def test_one_query_is_a_row_of_a_batch(catalog: Catalog, index: shortlist.Index) -> None:
    batch = index.search(catalog.users, K, stats=True)
    for at, user in enumerate(catalog.users):
        one = index.search(user, K, stats=True)
        assert one.ids.shape == one.scores.shape == (K,)
        assert one.counts.shape == () and int(one.counts) == K
        assert one.ids.tolist() == batch.ids[at].tolist()
        assert one.stats is not None and batch.stats is not None
        assert one.stats[0].distances == batch.stats[at].distances > 0
    none = np.empty((0, 3), np.uint64)
    assert index.search(catalog.users[:0], K, exclude=none).ids.shape == (0, K)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_rules_are_those_of_the_oracle(
    catalog: Catalog, index: shortlist.Index, threads: int
) -> None:
    excluded = catalog.ids[::3]
    caps = {"creator": 2, "region": 9}
    found = index.search(
        catalog.users,
        K,
        exact=True,
        filter='region = "US" or region = "IN"',
        exclude=excluded,
        caps=caps,
        offset=3,
        threads=threads,
    )
    may = (is_in(catalog, "US") | is_in(catalog, "IN")) & ~np.isin(catalog.ids, excluded)
    for user, row, count in zip(catalog.users, found.ids, found.counts):
        expected = oracle(catalog, user, K, may=may, caps=caps, offset=3)
        assert row[:count].tolist() == expected
        assert not row[count:].any()


def test_filters_and_exclusions_may_differ_by_row(catalog: Catalog, index: shortlist.Index) -> None:
    filters = [None, 'region = "US"', 'region = "BR"'] * 4
    excluded: list[Any] = [catalog.ids[: 100 * row] if row else [] for row in range(12)]
    users = catalog.users[:12]
    found = index.search(users, K, exact=True, filter=filters, exclude=excluded)
    sets: list[Any] = [set(np.atleast_1d(row).tolist()) for row in excluded]
    same = index.search(users, K, exact=True, filter=np.array(filters, object), exclude=sets)
    assert same.ids.tolist() == found.ids.tolist()
    table = index.search(users, K, exact=True, exclude=np.tile(catalog.ids[:50], (12, 1)))
    for row, user in enumerate(users):
        may = ~np.isin(catalog.ids, catalog.ids[: 100 * row])
        if row % 3:
            may &= is_in(catalog, "US" if row % 3 == 1 else "BR")
        assert found.ids[row].tolist() == oracle(catalog, user, K, may=may)
        may = ~np.isin(catalog.ids, catalog.ids[:50])
        assert table.ids[row].tolist() == oracle(catalog, user, K, may=may)


@pytest.mark.parametrize("target", [0.8, 0.95])
def test_a_target_recall_is_reached(
    taught: shortlist.Index, users: npt.NDArray[np.float32], target: float
) -> None:
    exact = taught.search(users, K, exact=True)
    found = taught.search(users, K, target_recall=target, stats=True)
    recall = (found.scores >= exact.scores[:, -1:]).mean()
    assert target - 0.04 < recall < 1
    assert found.stats is not None
    assert {stats.plan for stats in found.stats} == {"graph"}
    assert all((stats.measured_recall or 0) >= target for stats in found.stats)
    assert taught.calibration is not None
    assert (taught.calibration.source, taught.calibration.queries) == ("held_out", 300)
    assert taught.calibration.curves[10][-1][1] > 0.95


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_other_metrics(catalog: Catalog, metric: Any) -> None:
    index = shortlist.build(catalog.x, metric=metric)
    x, users = catalog.x.astype(np.float64), catalog.users.astype(np.float64)
    scores = -((users[:, None] - x[None]) ** 2).sum(axis=2)
    if metric == "cosine":
        norms = np.linalg.norm(users, axis=1)[:, None] * np.linalg.norm(x, axis=1)[None]
        scores = users @ x.T / norms
    found = index.search(catalog.users, K, exact=True)
    assert np.allclose(found.scores, -np.sort(-scores, axis=1)[:, :K], rtol=1e-5)
    rows = np.take_along_axis(scores, found.ids.astype(np.int64), axis=1)
    assert np.allclose(found.scores, rows, rtol=1e-5)


def test_answers_say_why_they_are_short(catalog: Catalog, index: shortlist.Index) -> None:
    user = catalog.users[:2]
    few = index.search(user, K, exclude=catalog.ids[5:], exact=True)
    assert few.counts.tolist() == [5, 5]
    assert few.reasons == ("excluded", "excluded")
    assert not few.ids[:, 5:].any() and np.isneginf(few.scores[:, 5:]).all()
    assert index.search(user[0], K, caps={"region": 1}, filter='region = "US"').reasons == (
        "caps_exhausted",
    )
    assert index.search(user[0], K, filter="likes > 5000").reasons == ("too_few_matches",)
    assert index.search(user[0], K, score_threshold=1e9).reasons == ("score_threshold",)
    assert index.search(user[0], 7000).reasons == ("index_exhausted",)
    assert index.search(user, K).reasons == (None, None)


def test_fresh_videos_keep_places(catalog: Catalog, index: shortlist.Index) -> None:
    fresh = shortlist.Fresh("published_at", timedelta(days=2), 8)
    found = index.search(catalog.users[0], 10, fresh=fresh, exact=True)
    recent = catalog.ids[catalog.published_at > np.datetime64("now", "us") - np.timedelta64(2, "D")]
    assert np.isin(found.ids, recent).sum() == 8
    ever = shortlist.Fresh("published_at", timedelta.max, 8)
    best = index.search(catalog.users[0], 10, exact=True)
    assert index.search(catalog.users[0], 10, fresh=ever, exact=True).ids.tolist() == (
        best.ids.tolist()
    )


def test_videos_that_match_a_filter_keep_places(catalog: Catalog, index: shortlist.Index) -> None:
    may = is_in(catalog, "BR")
    found = index.search(catalog.users, K, reserve=['40%:region = "BR"'], exact=True)
    assert found.reserved is not None
    assert found.reserved.dtype == np.bool_ and found.reserved.shape == (len(catalog.users), K, 1)
    for user, row, scores, reserved in zip(
        catalog.users, found.ids, found.scores, found.reserved[..., 0]
    ):
        kept = oracle(catalog, user, 8, may=may)
        others = oracle(catalog, user, K - 8, may=~np.isin(catalog.ids, kept))
        assert set(row.tolist()) == {*kept, *others}
        assert set(row[reserved].tolist()) == set(kept)
        assert (np.diff(scores) <= 0).all()
    texts = ["3:likes < 100", '2:region = "BR"']
    one = index.search(catalog.users[0], K, reserve=texts, exclude=catalog.ids[10:], exact=True)
    assert one.reserved is not None and one.reserved.shape == (K, 2)
    assert not one.reserved[10:].any()
    assert (one.reserved.sum(axis=0) <= [3, 2]).all()
    assert index.search(catalog.users[0], K).reserved is None


def test_kept_places_are_drawn_with_a_seed(catalog: Catalog, index: shortlist.Index) -> None:
    def drawn(seed: int, temperature: float = 100.0) -> list[int]:
        reserve = [f'8/{temperature}/{seed}:region = "BR"']
        found = index.search(catalog.users[0], K, reserve=reserve, exact=True)
        assert found.reserved is not None and found.reserved.sum() == 8
        return sorted(found.ids[found.reserved[:, 0]].tolist())

    brazilian = is_in(catalog, "BR")
    assert np.isin(drawn(1), catalog.ids[brazilian]).all()
    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1, 1e-3) == sorted(oracle(catalog, catalog.users[0], 8, may=brazilian))


def cosines(catalog: Catalog, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Of each pair of videos, ``[n, n]``."""
    place = {int(video): at for at, video in enumerate(catalog.ids)}
    rows = catalog.x[[place[int(video)] for video in ids]].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def test_candidates_are_not_too_similar(catalog: Catalog, index: shortlist.Index) -> None:
    most = 0.503
    found = index.search(catalog.users[:5], K, max_similarity=most, exact=True)
    for user, row in zip(catalog.users, found.ids):
        best = np.array(oracle(catalog, user, 500), np.uint64)
        similar = cosines(catalog, best)
        chosen: list[int] = []
        for at in range(len(best)):
            if len(chosen) < K and (similar[at, chosen] <= most).all():
                chosen.append(at)
        assert chosen != list(range(K))
        assert row.tolist() == best[chosen].tolist()
    user = catalog.users[0]
    left_out = next(video for video in oracle(catalog, user, K) if video not in found.ids[0])
    removal = index.explain(user, left_out, K, max_similarity=most).removal
    assert removal is not None
    assert (removal.rule, removal.field) == ("diversity", "max_similarity")
    same = shortlist.build(np.ones((50, DIM), np.float32))
    assert same.search(user, K, max_similarity=0.9).reasons == ("too_similar",)


def test_candidates_are_chosen_by_marginal_relevance(
    catalog: Catalog, index: shortlist.Index
) -> None:
    plain = index.search(catalog.users, K, exact=True)
    scores_only = index.search(catalog.users, K, mmr_lambda=1, exact=True)
    assert scores_only.ids.tolist() == plain.ids.tolist()
    for weight in (0.0, 0.5):
        found = index.search(catalog.users[:10], K, mmr_lambda=weight, exact=True)
        for user, row in zip(catalog.users, found.ids):
            best = index.search(user, 3 * K, exact=True)
            relevance = (best.scores - best.scores[-1]) / (best.scores[0] - best.scores[-1])
            similar = cosines(catalog, best.ids)
            chosen = [0]
            while len(chosen) < K:
                value = weight * relevance - (1 - weight) * similar[:, chosen].max(axis=1)
                value[chosen] = -np.inf
                chosen.append(int(value.argmax()))
            assert row.tolist() == best.ids[chosen].tolist()
    together = index.search(catalog.users[0], K, mmr_lambda=0.5, max_similarity=0.4, exact=True)
    similar = cosines(catalog, together.ids)
    assert (similar[~np.eye(K, dtype=bool)] <= 0.4 + 1e-6).all()


def test_interests_and_seeds(catalog: Catalog, index: shortlist.Index) -> None:
    interests = shortlist.Interests(catalog.users[:2], weights=[1, 2], min_shares=[0.4, 0])
    found = index.search(interests, K, exact=True)
    scores = catalog.x @ catalog.users[:2].T * np.array([1, 2], np.float32)
    place = {int(video): at for at, video in enumerate(catalog.ids)}
    assert found.interests is not None
    for video, score, interest in zip(found.ids, found.scores, found.interests):
        assert score == scores[place[int(video)], interest] == scores[place[int(video)]].max()
    assert (found.interests == 0).sum() >= 8

    seeds = catalog.ids[[3, 4]]
    likes = index.search(shortlist.Seeds([*seeds, 5], weights=[1, -0.5, 1]), K, exact=True)
    assert likes.unknown_seeds == (5,)
    query = catalog.x[3] - 0.5 * catalog.x[4]
    expected = oracle(catalog, query, K, may=~np.isin(catalog.ids, seeds))
    assert likes.ids.tolist() == expected


def test_attributes_and_vectors_are_returned(catalog: Catalog, index: shortlist.Index) -> None:
    place = {int(video): at for at, video in enumerate(catalog.ids)}
    few = catalog.ids[: 6000 - K + 5]
    found = index.search(catalog.users[:3], K, attributes="all", vectors=True, exclude=few)
    assert found.counts.tolist() == [K - 5] * 3
    assert set(found.attributes) == set(catalog.attributes) == set(index.attributes)
    assert found.vectors is not None and found.vectors.shape == (3, K, DIM)
    for row in range(3):
        for at in range(K):
            video = place.get(int(found.ids[row, at]))
            for name, column in found.attributes.items():
                value = None if np.ma.getmaskarray(column)[row, at] else column.data[row, at]
                assert value == (None if video is None else catalog.attributes[name][video])
            expected = np.zeros(DIM) if video is None else catalog.x[video]
            assert found.vectors[row, at].tolist() == expected.tolist()
    one = index.search(catalog.users[0], K, attributes=["likes"])
    assert list(one.attributes) == ["likes"] and one.attributes["likes"].shape == (K,)
    with pytest.raises(KeyError):
        one.attributes["region"]


def test_tables_have_a_row_per_candidate(catalog: Catalog, index: shortlist.Index) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    few = catalog.ids[: 6000 - 5]
    found = index.search(catalog.users[:3], K, attributes="all", vectors=True, exclude=few)
    frame, table = found.to_pandas(), found.to_arrow()
    assert len(frame) == table.num_rows == 15
    assert frame["query"].tolist() == [row for row in range(3) for _ in range(5)]
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5] * 3
    assert frame["id"].tolist() == table["id"].to_pylist() == found.ids[:, :5].ravel().tolist()
    assert table["score"].to_pylist() == found.scores[:, :5].ravel().tolist()
    place = {int(video): at for at, video in enumerate(catalog.ids)}
    for name, values in catalog.attributes.items():
        expected = [values[place[video]] for video in frame["id"].tolist()]
        if name == "published_at":
            assert (
                frame[name].dt.tz_localize(None).to_numpy().tolist()
                == (
                    np.array(expected).astype(frame[name].dt.tz_localize(None).to_numpy().dtype)
                ).tolist()
            )
            found_times = [time.replace(tzinfo=None) for time in table[name].to_pylist()]
            assert found_times == [time.astype(object) for time in expected]
        else:
            assert table[name].to_pylist() == expected
            shown = [None if value is pandas.NA else value for value in frame[name]]
            assert shown == expected
    assert str(frame["likes"].dtype) == "Int64"
    assert np.array_equal(np.stack(frame["vector"]), np.array(table["vector"].to_pylist()))
    assert index.search(catalog.users[0], 2).to_pandas().columns.tolist() == [
        "query",
        "rank",
        "id",
        "score",
    ]


def test_explain_says_what_keeps_a_video_out(catalog: Catalog, index: shortlist.Index) -> None:
    user = catalog.users[0]
    best = oracle(catalog, user, K)
    first = index.explain(user, best[0], K)
    assert (first.exact_rank, first.in_exact_answer, first.removal) == (1, True, None)
    second = index.explain(user, best[1], K, exclude=[best[1]])
    assert second.removal is not None
    assert (second.removal.rule, second.removal.field) == ("exclude", "exclude")
    row = catalog.region.index("BR")
    other = index.explain(user, int(catalog.ids[row]), K, filter='region = "US"')
    assert other.removal is not None and other.removal.rule == "filter"
    # The last of the best, whose place a video of Brazil has.
    reserve = [f'{K}:region = "BR"']
    last = next(video for video in best[::-1] if video not in catalog.ids[is_in(catalog, "BR")])
    displaced = index.explain(user, last, K, reserve=reserve)
    assert displaced.removal is not None
    assert (displaced.removal.rule, displaced.removal.field) == ("kept_place", "reserve[0]")
    with pytest.raises(shortlist.NotFound) as caught:
        index.explain(user, 3, K)
    assert isinstance(caught.value, KeyError) and caught.value.field == "video_id"


def test_an_index_describes_itself(index: shortlist.Index) -> None:
    assert len(index) == 6000
    assert (index.dim, index.metric, index.generation) == (DIM, "ip", 0)
    assert index.embedding_model == "towers-1"
    assert index.attributes == {
        "region": "keyword",
        "creator": "keyword",
        "likes": "int64",
        "tags": "keyword_list",
        "published_at": "timestamp",
    }
    assert repr(index) == "Index(6000 videos, dim=16, metric='ip')"


@pytest.mark.parametrize(
    ("kind", "field", "reason", "arguments"),
    [
        (shortlist.InvalidArgument, "k", "expected 1 to 10000, found 0", {"k": 0}),
        (shortlist.InvalidArgument, "k", "expected an integer, found float", {"k": 1.5}),
        (shortlist.InvalidArgument, "k", "at least 0, found -1", {"k": -1}),
        (shortlist.InvalidArgument, "k", "found 1000000000000", {"k": 10**12}),
        (shortlist.InvalidArgument, "ef_search", "found 0", {"ef_search": 0}),
        (shortlist.InvalidArgument, "ef_search", "at most one", {"ef_search": 9, "exact": True}),
        (shortlist.InvalidArgument, "target_recall", "found 1.5", {"target_recall": 1.5}),
        (shortlist.InvalidArgument, "target_recall", "found 'x'", {"target_recall": "x"}),
        (
            shortlist.FailedPrecondition,
            "target_recall",
            "up to k = 500",
            {"k": 900, "target_recall": 0.9},
        ),
        (shortlist.InvalidArgument, "filter", "line", {"filter": "region ="}),
        (shortlist.InvalidArgument, "filter", "no attribute", {"filter": "x = 1"}),
        (shortlist.InvalidArgument, "filter", "expected a text", {"filter": 5}),
        (shortlist.InvalidArgument, "filter", "expected a text", {"filter": ["likes > 1"]}),
        (shortlist.InvalidArgument, "exclude", "found -1", {"exclude": [3, -1]}),
        (shortlist.InvalidArgument, "exclude", "found dtype float64", {"exclude": [0.5]}),
        (shortlist.InvalidArgument, "exclude", "one array", {"exclude": [[1], [2]]}),
        (shortlist.InvalidArgument, "offset", "found 9995", {"offset": 9995}),
        (shortlist.InvalidArgument, "caps", "expected a dict", {"caps": [1]}),
        (shortlist.InvalidArgument, 'caps["creator"]', "found -2", {"caps": {"creator": -2}}),
        (shortlist.InvalidArgument, "caps[0].attribute", "no attribute", {"caps": {"x": 1}}),
        (shortlist.InvalidArgument, "fresh", "Fresh", {"fresh": 3}),
        (
            shortlist.InvalidArgument,
            "fresh.within",
            "expected a positive duration, found 0:00:00",
            {"fresh": shortlist.Fresh("published_at", timedelta(0), 1)},
        ),
        (shortlist.InvalidArgument, "reserve", "a list of texts", {"reserve": "5:likes > 1"}),
        (shortlist.InvalidArgument, "reserve[0]", "no colon", {"reserve": ["5"]}),
        (
            shortlist.InvalidArgument,
            "reserve[1]",
            "line 1",
            {"reserve": ["5:likes > 1", "5:likes >"]},
        ),
        (shortlist.InvalidArgument, "reserve[0].filter", "no attribute", {"reserve": ["5:x > 1"]}),
        (shortlist.InvalidArgument, "reserve[0].at_least", "11", {"reserve": ["11:likes > 1"]}),
        (shortlist.InvalidArgument, "reserve[0].share", "1.5", {"reserve": ["150%:likes > 1"]}),
        (
            shortlist.InvalidArgument,
            "reserve[0].sample.temperature",
            "above 0",
            {"reserve": ["5/0:likes > 1"]},
        ),
        (shortlist.InvalidArgument, "max_similarity", "found 1.5", {"max_similarity": 1.5}),
        (shortlist.InvalidArgument, "max_similarity", "found 'x'", {"max_similarity": "x"}),
        (shortlist.InvalidArgument, "mmr_lambda", "found -1", {"mmr_lambda": -1}),
        (shortlist.InvalidArgument, "mmr_lambda", "NaN", {"mmr_lambda": float("nan")}),
        (shortlist.InvalidArgument, "attributes[0]", "no attribute", {"attributes": ["x"]}),
        (shortlist.InvalidArgument, "attributes", '"all"', {"attributes": "likes"}),
        (shortlist.InvalidArgument, "score_threshold", "NaN", {"score_threshold": float("nan")}),
        (shortlist.FailedPrecondition, "embedding_model", "towers-1", {"embedding_model": "x"}),
    ],
)
def test_errors_name_the_argument(
    catalog: Catalog,
    index: shortlist.Index,
    kind: type[shortlist.Error],
    field: str,
    reason: str,
    arguments: dict[str, Any],
) -> None:
    with pytest.raises(kind) as caught:
        index.search(catalog.users[0], **arguments)
    assert caught.value.field is not None and caught.value.field.startswith(field)
    assert reason in caught.value.reason
    assert str(caught.value).startswith(caught.value.field)
    if kind is shortlist.InvalidArgument:
        assert isinstance(caught.value, ValueError)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (kind, str(caught.value))


@pytest.mark.parametrize(
    ("q", "reason"),
    [
        (np.zeros(5, np.float32), "found shape (5,)"),
        (np.zeros((2, 5), np.float32), "found shape (2, 5)"),
        (np.zeros((2, 2, 16), np.float32), "found shape (2, 2, 16)"),
        (["a"] * 16, "found dtype"),
        ([[1.0], [1.0, 2.0]], "expected an array"),
        (np.full(16, 1e300), "column 0: expected a number in single precision, found 1e+300"),
        (np.zeros(16, complex), "found dtype complex128"),
        (np.full(16, np.nan, np.float32), "found NaN"),
    ],
)
def test_errors_name_the_query(index: shortlist.Index, q: Any, reason: str) -> None:
    with pytest.raises(shortlist.InvalidArgument) as caught:
        index.search(q, 5)
    assert caught.value.field == "q" and reason in caught.value.reason


def test_threads_are_limited(catalog: Catalog, index: shortlist.Index) -> None:
    for threads in (-1, 1025, 1 << 62):
        with pytest.raises(shortlist.InvalidArgument) as caught:
            index.search(catalog.users, 5, threads=threads)
        assert caught.value.field == "threads" and str(threads) in caught.value.reason


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_name_the_row(catalog: Catalog, index: shortlist.Index, threads: int) -> None:
    users = catalog.users.copy()
    users[7, 3] = np.inf
    users[30, 3] = np.inf
    with pytest.raises(shortlist.InvalidArgument) as caught:
        index.search(users, 5, threads=threads)
    assert (caught.value.field, caught.value.row) == ("q", 7)
    assert str(caught.value).startswith("q, row 7: ")
    with pytest.raises(shortlist.InvalidArgument) as caught:
        index.search(users[:2], 5, filter=["likes > 1", "likes >"])
    assert (caught.value.field, caught.value.row) == ("filter", 1)


def test_a_target_recall_needs_training_queries(catalog: Catalog) -> None:
    index = shortlist.build(catalog.x)
    with pytest.raises(shortlist.FailedPrecondition) as caught:
        index.search(catalog.users, 5, target_recall=0.9)
    assert caught.value.field == "target_recall"
    # An index that is scanned finds everything.
    small = shortlist.build(catalog.x[:100])
    exact = small.search(catalog.users, 5, exact=True)
    assert small.search(catalog.users, 5, target_recall=0.9).ids.tolist() == exact.ids.tolist()


def test_unknown_seeds_are_not_found(index: shortlist.Index) -> None:
    with pytest.raises(shortlist.NotFound) as caught:
        index.search(shortlist.Seeds([1, 2]), 5)
    assert caught.value.field == "q"
