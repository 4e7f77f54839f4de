"""The answer to one search, or to a batch of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas
    import pyarrow

Column = np.ma.MaskedArray[Any, np.dtype[Any]]


class SearchStats(NamedTuple):
    """The cost of a search.

    Attributes:
        plan: how the index was searched, such as ``graph``.
        ef_search: the length of the candidate list; 0 for an exact scan.
        measured_recall: the recall that was measured for this effort, if it was.
        expanded: nodes whose neighbors were read.
        distances: embeddings that were scored.
        seconds: time spent searching.
        matches: videos that match the filter; None without a filter.
    """

    plan: str
    ef_search: int
    measured_recall: float | None
    expanded: int
    distances: int
    seconds: float
    matches: int | None


class ColumnSource(Protocol):
    """Returned attributes before they are arrays."""

    def names(self) -> list[str]:
        """The names of the attributes."""

    def column(self, name: str) -> tuple[str, Any, npt.NDArray[np.bool_]] | None:
        """Kind, flat values and which of them are there."""


class Attributes(Mapping[str, Column]):
    """The returned attributes by name, each a masked array of the shape of the ids.

    Nulls and padding are masked. Words and lists of words are objects, times are ``datetime64[us]``
    in UTC. An array is made when it is first used.
    """

    def __init__(self, source: ColumnSource | None, shape: tuple[int, ...]) -> None:
        self._source = source
        self._shape = shape
        self._made: dict[str, tuple[str, Column]] = {}

    def __getitem__(self, name: str) -> Column:
        return self._column(name)[1]

    def kind(self, name: str) -> str:
        """The type of an attribute in the index, such as ``keyword_list``."""
        return self._column(name)[0]

    def _column(self, name: str) -> tuple[str, Column]:
        if name not in self._made:
            found = None if self._source is None else self._source.column(name)
            if found is None:
                raise KeyError(name)
            kind, values, valid = found
            if isinstance(values, list):
                values = np.fromiter(values, dtype=object, count=len(values))
            elif kind == "timestamp":
                values = values.view("datetime64[us]")
            column: Column = np.ma.MaskedArray(values, mask=~valid)
            self._made[name] = kind, column.reshape(self._shape)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter([] if self._source is None else self._source.names())

    def __len__(self) -> int:
        return 0 if self._source is None else len(self._source.names())

    def __repr__(self) -> str:
        return f"Attributes({', '.join(self)})"


class Candidates:
    """The candidates of one query, ``[k]``, or of n queries, ``[n, k]``, best first; equal scores
    by id. With `mmr_lambda`, they are in the order in which they were chosen.

    Unpacks as ``ids, scores``. A row with fewer than k candidates ends with id 0 and score minus
    infinity.

    Attributes:
        ids: uint64.
        scores: float32; larger is better for every metric.
        counts: int64, ``[]`` or ``[n]``: the valid entries of each row.
        reasons: one per query: why it has fewer than k candidates (``index_exhausted``,
            ``too_few_matches``, ``excluded``, ``caps_exhausted``, ``score_threshold``,
            ``too_similar``, ``deadline``), or None.
        attributes: the attributes that were asked for, by name.
        vectors: float32, ``[..., dim]``, zeros after the last candidate; None unless asked for.
        interests: int64: which interest each candidate is attributed to, -1 after the last; None
            without interests.
        stats: one per query; None unless asked for.
        unknown_seeds: ids of seeds that are not in the index.
        text_ids: the ids as text, of the shape of `ids`, empty after the last candidate; None if
            the ids of the index are numbers.
        terms: float32, ``[..., terms]``: what each score term adds to the score, zeros after the
            last candidate; None without score terms.
        reserved: bool, ``[..., reserves]``: whether the candidate holds a place of each reserve,
            False after the last candidate; None without reserves.
    """

    __slots__ = (
        "attributes",
        "counts",
        "ids",
        "interests",
        "reasons",
        "reserved",
        "scores",
        "stats",
        "terms",
        "text_ids",
        "unknown_seeds",
        "vectors",
    )

    def __init__(
        self,
        ids: npt.NDArray[np.uint64],
        scores: npt.NDArray[np.float32],
        counts: npt.NDArray[np.int64],
        reasons: tuple[str | None, ...],
        *,
        columns: ColumnSource | None = None,
        vectors: npt.NDArray[np.float32] | None = None,
        interests: npt.NDArray[np.int64] | None = None,
        stats: tuple[SearchStats, ...] | None = None,
        unknown_seeds: tuple[int, ...] = (),
        text_ids: npt.NDArray[np.object_] | None = None,
        terms: npt.NDArray[np.float32] | None = None,
        reserved: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.ids = ids
        self.scores = scores
        self.counts = counts
        self.reasons = reasons
        self.attributes = Attributes(columns, ids.shape)
        self.vectors = vectors
        self.interests = interests
        self.stats = stats
        self.unknown_seeds = unknown_seeds
        self.text_ids = text_ids
        self.terms = terms
        self.reserved = reserved

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return iter((self.ids, self.scores))

    def __repr__(self) -> str:
        short = sum(reason is not None for reason in self.reasons)
        attributes = f", attributes={list(self.attributes)}" if self.attributes else ""
        return f"Candidates(shape={self.ids.shape}, short={short}{attributes})"

    def _flat(self) -> dict[str, tuple[str, Any]]:
        """Columns of all candidates in one table with their kinds, padding left out."""
        k = self.ids.shape[-1]
        valid = np.arange(k) < np.atleast_1d(self.counts)[:, None]
        query, position = np.nonzero(valid)
        flat: dict[str, tuple[str, Any]] = {
            "query": ("array", query.astype(np.uint32)),
            "rank": ("array", (position + 1).astype(np.uint32)),
            "id": ("array", self.ids.reshape(valid.shape)[valid]),
            "score": ("array", self.scores.reshape(valid.shape)[valid]),
        }
        if self.text_ids is not None:
            texts = np.ma.MaskedArray(self.text_ids.reshape(valid.shape)[valid])
            flat["text_id"] = "keyword", texts
        if self.interests is not None:
            flat["interest"] = "array", self.interests.reshape(valid.shape)[valid]
        if self.vectors is not None:
            dim = self.vectors.shape[-1]
            flat["vector"] = "vectors", self.vectors.reshape(*valid.shape, dim)[valid]
        for name, column in self.attributes.items():
            # An attribute may have the name of another column.
            key = f"attribute_{name}" if name in flat else name
            flat[key] = self.attributes.kind(name), column.reshape(valid.shape)[valid]
        return flat

    def to_arrow(self) -> pyarrow.Table:
        """A row per candidate: query, rank from 1, id, score, attributes. Needs pyarrow."""
        import pyarrow as pa

        def array(kind: str, values: Any) -> Any:
            if kind == "array":
                return pa.array(values)
            if kind == "vectors":
                return pa.FixedSizeListArray.from_arrays(values.reshape(-1), values.shape[1])
            if kind == "keyword":
                return pa.array(values.filled(None).tolist(), type=pa.string())
            if kind == "keyword_list":
                return pa.array(values.filled(None).tolist(), type=pa.list_(pa.string()))
            time = pa.timestamp("us", "UTC") if kind == "timestamp" else None
            return pa.array(values.data, mask=np.ma.getmaskarray(values), type=time)

        return pa.table({name: array(*column) for name, column in self._flat().items()})

    def to_pandas(self) -> pandas.DataFrame:
        """As `to_arrow`, a DataFrame; integers and booleans are of nullable types. Needs pandas."""
        import pandas as pd

        def series(kind: str, values: Any) -> Any:
            if kind == "array":
                return values
            if kind == "vectors":
                return list(values)
            if kind in ("keyword", "keyword_list"):
                return pd.Series(values.filled(None), dtype=object)
            if kind == "timestamp":
                return pd.to_datetime(values.filled(np.datetime64("NaT")), utc=True)
            if kind == "double":
                return values.filled(np.nan)
            make = pd.arrays.BooleanArray if kind == "bool" else pd.arrays.IntegerArray
            return make(values.data.copy(), np.ma.getmaskarray(values).copy())

        return pd.DataFrame({name: series(*column) for name, column in self._flat().items()})
