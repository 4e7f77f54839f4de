"""What an index in this process and a client share: arguments of a search, and its answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, NamedTuple, Union

import numpy as np
import numpy.typing as npt

from ._arrays import Ids, count, ids, number, optional_count, optional_number, queries
from ._candidates import Candidates, SearchStats
from ._errors import InvalidArgument
from ._queries import Fresh, Interests, Seeds

Query = Union[npt.ArrayLike, Interests, Seeds]

_MICROSECOND = timedelta(microseconds=1)


class Removal(NamedTuple):
    """What keeps a video out of the exact answer.

    Attributes:
        rule: ``seed``, ``filter``, ``exclude``, ``score_threshold``, ``cap``, ``kept_place`` or
            ``diversity``.
        field: the argument that has the rule.
        reason: why, in words.
    """

    rule: str
    field: str
    reason: str


class Explanation(NamedTuple):
    """Why a video is, or is not, in the answer to a search.

    Attributes:
        score: its score, with what the score terms add.
        interest: the interest that it is attributed to, if the query has interests.
        exact_rank: its rank among all videos that pass the rules, from 1; None if a rule keeps it
            out.
        in_exact_answer: whether the exact answer has it.
        rank: its rank in the answer that the search gets, from 1; None if it is not there.
        removal: the rule that keeps it out of the exact answer, if one does.
        loss: where the search lost it, if only the exact answer has it: ``not_reached``,
            ``not_rescored``, ``displaced``; or ``earlier_page``.
        stats: the cost of the search.
        terms: what each score term adds to its score.
    """

    score: float
    interest: int | None
    exact_rank: int | None
    in_exact_answer: bool
    rank: int | None
    removal: Removal | None
    loss: str | None
    stats: SearchStats
    terms: tuple[float, ...] = ()


# What the native module reads of a search: k; target_recall, ef_search and exact; filters; exclude;
# caps; fresh and reserves; score_threshold; offset; attributes and vectors; embedding_model; score
# terms; max_similarity and mmr_lambda.
Options = tuple[Any, ...]


def options(
    n: int | None,
    *,
    k: int,
    target_recall: float | None = None,
    ef_search: int | None = None,
    exact: bool = False,
    filter: str | Iterable[str | None] | None = None,
    exclude: npt.ArrayLike | Sequence[npt.ArrayLike] | None = None,
    caps: Mapping[str, int] | None = None,
    fresh: Fresh | None = None,
    score_threshold: float | None = None,
    offset: int = 0,
    attributes: Sequence[str] | Literal["all"] = (),
    vectors: bool = False,
    embedding_model: str | None = None,
    score_terms: Sequence[str] = (),
    reserve: Sequence[str] = (),
    max_similarity: float | None = None,
    mmr_lambda: float | None = None,
) -> Options:
    """The options of a search, checked as far as no index is needed. `n`: the rows of a batch."""
    return (
        count(k, "k"),
        (
            optional_number(target_recall, "target_recall"),
            optional_count(ef_search, "ef_search"),
            bool(exact),
        ),
        _filters(filter, n),
        None if exclude is None else _excluded(exclude, n),
        [] if caps is None else _caps(caps),
        (
            None if fresh is None else _fresh(fresh),
            _texts(reserve, "reserve", "20%:impressions < 1000"),
        ),
        optional_number(score_threshold, "score_threshold"),
        count(offset, "offset"),
        (_names(attributes), bool(vectors)),
        embedding_model,
        _texts(score_terms, "score_terms", "0.1*log1p(views)"),
        (
            optional_number(max_similarity, "max_similarity"),
            optional_number(mmr_lambda, "mmr_lambda"),
        ),
    )


def native_queries(q: Query, dim: int | None) -> tuple[Any, int | None]:
    """The query for the native module, and the number of rows of a batch. A server checks the
    dimension by itself.
    """
    if isinstance(q, Interests):
        vectors = queries(q.vectors, "q.vectors", dim)
        if vectors.ndim != 2:
            found = f"found shape {vectors.shape}"
            raise InvalidArgument(
                f"expected shape (n, {'dim' if dim is None else dim}), {found}", field="q.vectors"
            )
        weights = _factors(q.weights, len(vectors), 1.0, "q.weights")
        return (
            vectors,
            weights,
            _factors(q.min_shares, len(vectors), 0.0, "q.min_shares"),
        ), None
    if isinstance(q, Seeds):
        videos = ids(q.video_ids, "q.video_ids")
        return (videos, _factors(q.weights, len(videos), 1.0, "q.weights")), None
    vectors = queries(q, "q", dim)
    return (vectors, len(vectors)) if vectors.ndim == 2 else (vectors[np.newaxis], None)


def found(native: Any, is_batch: bool) -> Candidates:
    """The answer of the native module."""
    (
        ids,
        scores,
        counts,
        reasons,
        vectors,
        interests,
        columns,
        costs,
        unknown_seeds,
        texts,
        terms,
        reserved,
    ) = native
    if texts is not None:
        texts = np.fromiter(texts, dtype=object, count=len(texts)).reshape(ids.shape)
    if not is_batch:
        ids, scores, counts = ids[0], scores[0], counts[0]
        vectors = None if vectors is None else vectors[0]
        interests = None if interests is None else interests[0]
        texts = None if texts is None else texts[0]
        terms = None if terms is None else terms[0]
        reserved = None if reserved is None else reserved[0]
    return Candidates(
        ids,
        scores,
        counts,
        tuple(reasons),
        columns=columns,
        vectors=vectors,
        interests=interests,
        stats=None if costs is None else tuple(SearchStats(*cost) for cost in costs),
        unknown_seeds=tuple(unknown_seeds),
        text_ids=texts,
        terms=terms,
        reserved=reserved,
    )


def explanation(native: Any) -> Explanation:
    """The explanation of the native module."""
    return Explanation(
        native["score"],
        native["interest"],
        native["exact_rank"],
        native["in_exact_answer"],
        native["rank"],
        None if native["removal"] is None else Removal(*native["removal"]),
        native["loss"],
        SearchStats(*native["stats"]),
        tuple(native["terms"]),
    )


def _filters(filter: object, n: int | None) -> list[str | None]:
    if filter is None or isinstance(filter, str):
        return [filter]
    if n is None or not isinstance(filter, Iterable):
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


def _excluded(exclude: Any, n: int | None) -> tuple[Ids, list[int] | None] | None:
    is_table = isinstance(exclude, np.ndarray) and exclude.ndim == 2
    is_nested = isinstance(exclude, (list, tuple)) and any(
        row is None or isinstance(row, (set, frozenset)) or np.ndim(row) > 0 for row in exclude[:1]
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
    texts = [part for part in parts if isinstance(part, list)]
    numbers = [part for part in parts if not isinstance(part, list)]
    if not texts:
        return np.concatenate([np.empty(0, np.uint64), *numbers]), ends
    if any(len(part) > 0 for part in numbers):
        raise InvalidArgument("expected numbers or texts, found both", field="exclude")
    return [text for part in texts for text in part], ends


def _caps(caps: Mapping[str, int]) -> list[tuple[str, int]]:
    if not isinstance(caps, Mapping):
        raise InvalidArgument(f"expected a dict, found {type(caps).__name__}", field="caps")
    return [(str(name), count(most, f'caps["{name}"]')) for name, most in caps.items()]


def _texts(texts: Sequence[str], field: str, example: str) -> list[str]:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InvalidArgument(f"expected a list of texts, such as [{example!r}]", field=field)
    return list(texts)


def _fresh(fresh: Fresh) -> tuple[str, int, int]:
    if not isinstance(fresh, tuple) or len(fresh) != 3 or not isinstance(fresh[1], timedelta):
        raise InvalidArgument("expected Fresh(attribute, within, at_least)", field="fresh")
    attribute, within, at_least = fresh
    if within <= timedelta(0):
        raise InvalidArgument(f"expected a positive duration, found {within}", field="fresh.within")
    micros = min(within // _MICROSECOND, (1 << 63) - 1)
    return str(attribute), micros, count(at_least, "fresh.at_least")


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
