"""An index in this process: build it or open it, and search it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Literal, NamedTuple

import numpy.typing as npt

from . import _native
from ._arrays import Ids, count, ids, one_id, optional_count, rows
from ._candidates import Candidates
from ._columns import native_columns
from ._errors import InvalidArgument
from ._queries import Fresh
from ._request import Explanation, Query, explanation, found, native_queries, options

Metric = Literal["ip", "cosine", "l2"]
Memory = Literal["mapped", "resident"]


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
    def open(cls, path: str | PathLike[str], *, memory: Memory = "mapped") -> Index:
        """Opens the newest sound generation of an index folder, maps it and compares its checksums.

        Args:
            path: the folder.
            memory: ``mapped`` to search the file, whose memory is shared by all processes that open
                it; ``resident`` to search a copy on huge pages, which takes less time.

        Raises:
            NotFound: there is no index.
            FailedPrecondition: no generation is sound.
        """
        if memory not in ("mapped", "resident"):
            raise InvalidArgument(f"expected mapped or resident, found {memory!r}", field="memory")
        native = _native.Index.open(path)
        if memory == "resident":
            native.make_resident()
        return cls(native)

    def search(
        self,
        q: Query,
        k: int = 10,
        *,
        target_recall: float | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        filter: str | Iterable[str | None] | None = None,
        exclude: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
        caps: Mapping[str, int] | None = None,
        fresh: Fresh | None = None,
        reserve: Sequence[str] = (),
        max_similarity: float | None = None,
        mmr_lambda: float | None = None,
        score_threshold: float | None = None,
        score_terms: Sequence[str] = (),
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
            reserve: places kept for the best videos that match a filter: a number or a share of k,
                such as ``10:language = "pt"`` or ``20%:impressions < 1000``. With a temperature and
                perhaps a seed, ``5/0.3/42:impressions < 1000``, the videos are drawn: the higher
                the temperature, the less their scores count.
            max_similarity: the largest cosine of two candidates, above 0 and at most 1: of two
                videos that are more similar, only the better one is a candidate.
            mmr_lambda: chooses candidates by maximal marginal relevance: with 1 only scores count,
                with 0 only how much candidates differ. They are in the order of the choice.
            score_threshold: the lowest score of a candidate.
            score_terms: what is added to scores for attributes: ``0.1*log1p(views)``,
                ``linear(a)``, ``clamp(a, 0, 9)``, ``decay(published_at, 7d)``,
                ``window(published_at, 7d)``, ``match(language, "en")``, each with a weight.
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
        native, n = native_queries(q, self.dim)
        sent = options(
            n,
            k=k,
            target_recall=target_recall,
            ef_search=ef_search,
            exact=exact,
            filter=filter,
            exclude=exclude,
            caps=caps,
            fresh=fresh,
            reserve=reserve,
            max_similarity=max_similarity,
            mmr_lambda=mmr_lambda,
            score_threshold=score_threshold,
            score_terms=score_terms,
            offset=offset,
            attributes=attributes,
            vectors=vectors,
            embedding_model=embedding_model,
        )
        return found(
            self._native.search(native, sent, stats, count(threads, "threads")), n is not None
        )

    def explain(
        self,
        q: Query,
        video_id: int | str,
        k: int = 10,
        *,
        target_recall: float | None = None,
        ef_search: int | None = None,
        filter: str | None = None,
        exclude: npt.ArrayLike | None = None,
        caps: Mapping[str, int] | None = None,
        fresh: Fresh | None = None,
        reserve: Sequence[str] = (),
        max_similarity: float | None = None,
        mmr_lambda: float | None = None,
        score_threshold: float | None = None,
        score_terms: Sequence[str] = (),
        offset: int = 0,
        embedding_model: str | None = None,
    ) -> Explanation:
        """Explains why a video is, or is not, in the answer to the same search. Scores every video.

        Raises:
            NotFound: the index does not have the video.
        """
        native, n = native_queries(q, self.dim)
        if n is not None:
            raise InvalidArgument("expected one query, found a batch", field="q")
        sent = options(
            n,
            k=k,
            target_recall=target_recall,
            ef_search=ef_search,
            filter=filter,
            exclude=exclude,
            caps=caps,
            fresh=fresh,
            reserve=reserve,
            max_similarity=max_similarity,
            mmr_lambda=mmr_lambda,
            score_threshold=score_threshold,
            score_terms=score_terms,
            offset=offset,
            embedding_model=embedding_model,
        )
        return explanation(self._native.explain(native, one_id(video_id, "video_id"), sent))

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


def _ids(value: npt.ArrayLike, expected: int) -> Ids:
    found = ids(value, "ids")
    if len(found) != expected:
        raise InvalidArgument(
            f"expected {expected}, one per row of x, found {len(found)}", field="ids"
        )
    return found
