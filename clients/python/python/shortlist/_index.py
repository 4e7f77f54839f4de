"""An index in this process: build it or open it, and search it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from os import PathLike
from typing import Any, Literal, NamedTuple, Union

import numpy as np
import numpy.typing as npt

from . import _native
from ._arrays import (
    count,
    ids,
    number,
    optional_count,
    optional_number,
    queries,
    rows,
)
from ._candidates import Candidates, SearchStats
from ._columns import native_columns
from ._errors import InvalidArgument
from ._queries import Fresh, Interests, Seeds

Query = Union[npt.ArrayLike, Interests, Seeds]
Metric = Literal["ip", "cosine", "l2"]

_MICROSECOND = timedelta(microseconds=1)


class Removal(NamedTuple):
    """What keeps a video out of the exact answer.

    Attributes:
        rule: ``seed``, ``filter``, ``exclude``, ``score_threshold``, ``cap`` or ``kept_place``.
        field: the argument that has the rule.
        reason: why, in words.
    """

    rule: str
    field: str
    reason: str


class Explanation(NamedTuple):
    """Why a video is, or is not, in the answer to a search.

    Attributes:
        score: its score.
        interest: the interest that it is attributed to, if the query has interests.
        exact_rank: its rank among all videos that pass the rules, from 1; None if a rule keeps it
            out.
        in_exact_answer: whether the exact answer has it.
        rank: its rank in the answer that the search gets, from 1; None if it is not there.
        removal: the rule that keeps it out of the exact answer, if one does.
        loss: where the search lost it, if only the exact answer has it: ``not_reached``,
            ``not_rescored``, ``displaced``; or ``earlier_page``.
        stats: the cost of the search.
    """

    score: float
    interest: int | None
    exact_rank: int | None
    in_exact_answer: bool
    rank: int | None
    removal: Removal | None
    loss: str | None
    stats: SearchStats


class Calibration(NamedTuple):
    """The recall that was measured when the index was built.

    Attributes:
        source: the queries: ``held_out`` users, ``queries`` of a file, or ``guessed`` ones, which a
            target recall does not accept.
        queries: their number.
        curves: by k, pairs of ``ef_search`` and the recall that it reached.
    """

    source: str
    queries: int
    curves: dict[int, list[tuple[int, float]]]


@dataclass
class _Options:
    """What the native module reads of a search."""

    k: int
    target_recall: float | None
    ef_search: int | None
    exact: bool
    filters: list[str | None]
    exclude: tuple[npt.NDArray[np.uint64], list[int] | None] | None
    caps: list[tuple[str, int]]
    fresh: tuple[str, int, int] | None
    score_threshold: float | None
    offset: int
    attributes: list[str] | None
    vectors: bool
    embedding_model: str | None


class Index:
    """A read-only index in this process. Any number of threads may search it at the same time.

    Made by `build` or `Index.open`. A folder that gets a newer generation is opened again to see
    it.
    """

    __slots__ = ("_native",)

    def __init__(self, native: _native.Index) -> None:
        """Wraps an index of the native module: use `build` or `Index.open`."""
        self._native = native

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Index:
        """Opens the newest sound generation of an index folder, maps it and compares its checksums.

        Raises:
            NotFound: there is no index.
            FailedPrecondition: no generation is sound.
        """
        return cls(_native.Index.open(path))

    def search(
        self,
        q: Query,
        k: int = 10,
        *,
        target_recall: float | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        filter: str | Sequence[str | None] | None = None,
        exclude: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
        caps: Mapping[str, int] | None = None,
        fresh: Fresh | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        attributes: Sequence[str] | Literal["all"] = (),
        vectors: bool = False,
        stats: bool = False,
        embedding_model: str | None = None,
        threads: int = 1,
    ) -> Candidates:
        """Finds the best videos for one query or for many.

        Args:
            q: one user embedding ``[dim]``, or one per row ``[n, dim]``; `Interests` of one user;
                or `Seeds`.
            k: the number of candidates.
            target_recall: takes the least effort that reached this recall of the true best k when
                the index was built, above 0 and at most 1.
            ef_search: the length of the candidate list, in place of a target recall.
            exact: scores every video.
            filter: which videos may be candidates, such as ``region = "US"``; one text, or one per
                row.
            exclude: ids that must not be candidates: one array, or one per row.
            caps: the most candidates with the same value of an attribute, by attribute.
            fresh: places kept for recent videos.
            score_threshold: the lowest score of a candidate.
            offset: the number of candidates to skip: those of earlier pages.
            attributes: names of attributes to return, or ``"all"``.
            vectors: whether to return embeddings.
            stats: whether to return the cost of each search.
            embedding_model: the model that made `q`; an index of another model refuses.
            threads: threads for the rows of `q`; 0 for one per core. One row is searched by the
                calling thread.

        Raises:
            InvalidArgument: an argument has no valid value; `Error.field` names it.
            FailedPrecondition: the index cannot answer this: it has no calibration for a target
                recall, or another embedding model.
            NotFound: no seed is in the index.
        """
        native, n = self._queries(q)
        is_batch = n is not None
        options = _Options(
            k=count(k, "k"),
            target_recall=optional_number(target_recall, "target_recall"),
            ef_search=optional_count(ef_search, "ef_search"),
            exact=bool(exact),
            filters=_filters(filter, n),
            exclude=None if exclude is None else _excluded(exclude, n),
            caps=[] if caps is None else _caps(caps),
            fresh=None if fresh is None else _fresh(fresh),
            score_threshold=optional_number(score_threshold, "score_threshold"),
            offset=count(offset, "offset"),
            attributes=_names(attributes),
            vectors=bool(vectors),
            embedding_model=embedding_model,
        )
        found = self._native.search(native, options, stats, count(threads, "threads"))
        return Candidates(
            found["ids"] if is_batch else found["ids"][0],
            found["scores"] if is_batch else found["scores"][0],
            found["counts"] if is_batch else found["counts"][0],
            tuple(found["reasons"]),
            columns=found["columns"],
            vectors=_first(found["vectors"], is_batch),
            interests=None if found["interests"] is None else found["interests"][0],
            stats=_stats(found["stats"]),
            unknown_seeds=found["unknown_seeds"],
        )

    def explain(
        self,
        q: Query,
        video_id: int,
        k: int = 10,
        *,
        target_recall: float | None = None,
        ef_search: int | None = None,
        filter: str | None = None,
        exclude: npt.ArrayLike | None = None,
        caps: Mapping[str, int] | None = None,
        fresh: Fresh | None = None,
        score_threshold: float | None = None,
        offset: int = 0,
        embedding_model: str | None = None,
    ) -> Explanation:
        """Explains why a video is, or is not, in the answer to the same search. Scores every video.

        Raises:
            NotFound: the index does not have the video.
        """
        native, n = self._queries(q)
        if n is not None:
            raise InvalidArgument("expected one query, found a batch", field="q")
        options = _Options(
            k=count(k, "k"),
            target_recall=optional_number(target_recall, "target_recall"),
            ef_search=optional_count(ef_search, "ef_search"),
            exact=False,
            filters=_filters(filter, n),
            exclude=None if exclude is None else _excluded(exclude, n),
            caps=[] if caps is None else _caps(caps),
            fresh=None if fresh is None else _fresh(fresh),
            score_threshold=optional_number(score_threshold, "score_threshold"),
            offset=count(offset, "offset"),
            attributes=[],
            vectors=False,
            embedding_model=embedding_model,
        )
        found = self._native.explain(native, count(video_id, "video_id"), options)
        return Explanation(
            found["score"],
            found["interest"],
            found["exact_rank"],
            found["in_exact_answer"],
            found["rank"],
            None if found["removal"] is None else Removal(*found["removal"]),
            found["loss"],
            SearchStats(*found["stats"]),
        )

    def __len__(self) -> int:
        """The number of videos."""
        return len(self._native)

    @property
    def dim(self) -> int:
        """The number of components of an embedding."""
        return self._native.dim

    @property
    def metric(self) -> str:
        """``ip``, ``cosine`` or ``l2``."""
        return self._native.metric

    @property
    def attributes(self) -> dict[str, str]:
        """The type of each attribute, such as ``keyword``, by name."""
        return dict(self._native.attributes)

    @property
    def generation(self) -> int:
        """The number of the generation; 0 for an index in memory."""
        return self._native.generation

    @property
    def embedding_model(self) -> str | None:
        """The name of the model that made the embeddings, if the build was told."""
        return self._native.embedding_model

    @property
    def calibration(self) -> Calibration | None:
        """The recall that was measured when the index was built; None if it was not."""
        found = self._native.calibration
        return None if found is None else Calibration(found[0], found[1], dict(found[2]))

    def __repr__(self) -> str:
        place = f", generation={self.generation}" if self.generation else ""
        return f"Index({len(self)} videos, dim={self.dim}, metric={self.metric!r}{place})"

    def _queries(self, q: Query) -> tuple[Any, int | None]:
        """The query for the native module, and the number of rows of a batch."""
        if isinstance(q, Interests):
            vectors = queries(q.vectors, "q.vectors", self.dim)
            if vectors.ndim != 2:
                found = f"found shape {vectors.shape}"
                raise InvalidArgument(f"expected shape (n, {self.dim}), {found}", field="q.vectors")
            weights = _factors(q.weights, len(vectors), 1.0, "q.weights")
            return (
                vectors,
                weights,
                _factors(q.min_shares, len(vectors), 0.0, "q.min_shares"),
            ), None
        if isinstance(q, Seeds):
            videos = ids(q.video_ids, "q.video_ids")
            return (videos, _factors(q.weights, len(videos), 1.0, "q.weights")), None
        vectors = queries(q, "q", self.dim)
        return (vectors, len(vectors)) if vectors.ndim == 2 else (vectors[np.newaxis], None)


def build(
    x: npt.ArrayLike,
    *,
    training_queries: npt.ArrayLike | None = None,
    ids: npt.ArrayLike | None = None,
    attributes: object = None,
    metric: Metric = "ip",
    out: str | PathLike[str] | None = None,
    m: int | None = None,
    ef_construction: int | None = None,
    seed: int | None = None,
    threads: int = 0,
    embedding_model: str | None = None,
) -> Index:
    """Builds an index in memory, or publishes it to a folder and opens it from there. Ctrl-C
    cancels the build.

    Arrays of float32 or float16 in C order are read without a copy: do not write to them during the
    build.

    Args:
        x: embeddings of videos ``[n, dim]``.
        training_queries: a sample of user embeddings ``[users, dim]``, which teaches the graph how
            users reach videos. One user in ten is held out to measure recall, which `target_recall`
            of a search needs.
        ids: one id per row, integers of 0 to 2^64 - 1, unique; row numbers by default.
        attributes: a dict of columns by name, a data frame or an Arrow table: one value or null per
            row. Text, lists of text, integers, floats, booleans, dates and times; None, NaN and NaT
            are null. Times without a zone are UTC. A time named ``expires_at`` is also when a video
            expires.
        metric: ``ip`` for the inner product, ``cosine``, or ``l2`` for the squared distance,
            negated.
        out: the folder of the index; None to keep it in memory.
        m: neighbors chosen per node and layer, 2 to 1,024; 16 by default.
        ef_construction: the length of the candidate list of an insertion, 1 to 100,000; 200 by
            default.
        seed: of the layer draw; 42 by default.
        threads: build threads; 0 for one per core. One thread and the same seed build the same
            index.
        embedding_model: the name of the model that made `x`.

    Raises:
        InvalidArgument: an argument has no valid value; `Error.field` and `Error.row` name the
            place.
    """
    videos = rows(x, "x", keep_halves=True)
    users = None
    if training_queries is not None:
        users = rows(training_queries, "training_queries", keep_halves=True)
    columns = native_columns(attributes)
    for name, _, values, _ in columns:
        if len(values) != len(videos):
            found = f"found {len(values)}"
            raise InvalidArgument(
                f"expected {len(videos)} values, one per row of x, {found}",
                field=f'attributes["{name}"]',
            )
    native = _native.build(
        videos,
        users,
        None if ids is None else _ids(ids, len(videos)),
        columns,
        str(metric),
        out,
        optional_count(m, "m"),
        optional_count(ef_construction, "ef_construction"),
        optional_count(seed, "seed"),
        count(threads, "threads"),
        embedding_model,
    )
    return Index(native)


def _first(
    vectors: npt.NDArray[np.float32] | None, is_batch: bool
) -> npt.NDArray[np.float32] | None:
    return vectors if vectors is None or is_batch else vectors[0]


def _stats(rows: list[Any] | None) -> tuple[SearchStats, ...] | None:
    return None if rows is None else tuple(SearchStats(*row) for row in rows)


def _ids(value: npt.ArrayLike, expected: int) -> npt.NDArray[np.uint64]:
    found = ids(value, "ids")
    if len(found) != expected:
        raise InvalidArgument(
            f"expected {expected}, one per row of x, found {len(found)}", field="ids"
        )
    return found


def _filters(filter: object, n: int | None) -> list[str | None]:
    if filter is None or isinstance(filter, str):
        return [filter]
    if n is None or not isinstance(filter, (Sequence, np.ndarray)):
        expected = "a text" if n is None else "a text, or one per row of q"
        raise InvalidArgument(f"expected {expected}, found {type(filter).__name__}", field="filter")
    texts = list(filter)
    if len(texts) != n:
        raise InvalidArgument(f"expected {n}, one per row of q, found {len(texts)}", field="filter")
    for row, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            found = type(text).__name__
            raise InvalidArgument(
                f"expected a text or None, found {found}", field="filter", row=row
            )
    # One filter would count for all rows: of one row, it does.
    return texts or [None]


def _excluded(
    exclude: Any, n: int | None
) -> tuple[npt.NDArray[np.uint64], list[int] | None] | None:
    is_table = isinstance(exclude, np.ndarray) and exclude.ndim == 2
    is_nested = isinstance(exclude, (list, tuple)) and any(
        row is None or np.ndim(row) > 0 for row in exclude[:1]
    )
    if not is_table and not is_nested:
        return ids(exclude, "exclude"), None
    if n is None:
        raise InvalidArgument("expected one array of ids, found one per row", field="exclude")
    if len(exclude) != n:
        raise InvalidArgument(
            f"expected {n} arrays, one per row of q, found {len(exclude)}", field="exclude"
        )
    parts = [ids([] if row is None else row, f"exclude[{at}]") for at, row in enumerate(exclude)]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return np.concatenate(parts), ends


def _caps(caps: Mapping[str, int]) -> list[tuple[str, int]]:
    if not isinstance(caps, Mapping):
        raise InvalidArgument(f"expected a dict, found {type(caps).__name__}", field="caps")
    return [(str(name), count(most, f'caps["{name}"]')) for name, most in caps.items()]


def _fresh(fresh: Fresh) -> tuple[str, int, int]:
    if not isinstance(fresh, tuple) or len(fresh) != 3 or not isinstance(fresh[1], timedelta):
        raise InvalidArgument("expected Fresh(attribute, within, at_least)", field="fresh")
    attribute, within, at_least = fresh
    return str(attribute), within // _MICROSECOND, count(at_least, "fresh.at_least")


def _names(attributes: object) -> list[str] | None:
    if isinstance(attributes, str):
        if attributes == "all":
            return None
        raise InvalidArgument(
            f'expected a list of names or "all", found {attributes!r}', field="attributes"
        )
    if not isinstance(attributes, Sequence) or not all(
        isinstance(name, str) for name in attributes
    ):
        raise InvalidArgument("expected a list of names", field="attributes")
    return list(attributes)


def _factors(values: Any, expected: int, default: float, field: str) -> list[float]:
    if values is None:
        return [default] * expected
    factors = [number(value, f"{field}[{at}]") for at, value in enumerate(values)]
    if len(factors) != expected:
        raise InvalidArgument(f"expected {expected}, found {len(factors)}", field=field)
    return factors
