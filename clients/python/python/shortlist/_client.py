"""Clients of servers: `Client` waits for each call, `AsyncClient` has its calls for asyncio."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, Union

import numpy as np
import numpy.typing as npt

from . import _native
from ._arrays import count, ids, number, one_id, rows
from ._candidates import Candidates
from ._columns import native_columns
from ._errors import InvalidArgument
from ._queries import Fresh
from ._request import Explanation, Query, explanation, found, native_queries, options

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._request import Options

# Searches of a stream in flight: servers read no more by default.
_WINDOW = 16


@dataclass(frozen=True)
class Tls:
    """Certificates of encrypted connections, as paths or as the bytes of PEM.

    Attributes:
        ca: the authorities of the server; those of the system by default.
        certificate: of this client, for servers that require one.
        key: the private key of that certificate.
        domain: the name in the certificate of the server, if it is not the host of the address.
    """

    ca: str | PathLike[str] | bytes | None = None
    certificate: str | PathLike[str] | bytes | None = None
    key: str | PathLike[str] | bytes | None = None
    domain: str | None = None


class SearchOptions(TypedDict, total=False):
    """The options of a search, which are those of `Index.search`, and of a call.

    Attributes:
        target_recall: the share of the true best k to find, above 0 and at most 1.
        ef_search: the length of the candidate list, in place of a target recall.
        exact: scores every video.
        filter: which videos may be candidates, such as ``region = "US"``; one text, or one per row.
        exclude: ids that must not be candidates: one array, or one per row.
        caps: the most candidates with the same value of an attribute, by attribute.
        fresh: places kept for recent videos.
        reserve: places kept for videos that match a filter, such as ``20%:impressions < 1000``.
        max_similarity: the largest cosine of two candidates, above 0 and at most 1.
        mmr_lambda: chooses candidates by maximal marginal relevance: with 1 only scores count, with
            0 only how much candidates differ.
        score_threshold: the lowest score of a candidate.
        score_terms: what is added to scores for attributes, such as ``0.1*log1p(views)``.
        offset: the number of candidates to skip: those of earlier pages.
        attributes: names of attributes to return, or ``"all"``.
        vectors: whether to return embeddings.
        stats: whether to return the cost of each search.
        embedding_model: the model that made the query; an index of another model refuses.
        min_sequence: the answer includes every write up to this `Written.sequence`.
        index: the name of the index, in place of that of the client.
        timeout: seconds for a call with its retries, in place of those of the client.
    """

    target_recall: float | None
    ef_search: int | None
    exact: bool
    filter: str | Iterable[str | None] | None
    exclude: npt.ArrayLike | Sequence[npt.ArrayLike] | None
    caps: Mapping[str, int] | None
    fresh: Fresh | None
    reserve: Sequence[str]
    max_similarity: float | None
    mmr_lambda: float | None
    score_threshold: float | None
    score_terms: Sequence[str]
    offset: int
    attributes: Sequence[str] | Literal["all"]
    vectors: bool
    stats: bool
    embedding_model: str | None
    min_sequence: int
    index: str | None
    timeout: float | None


class WriteError(NamedTuple):
    """Why one item of a write was not written.

    Attributes:
        row: its position.
        code: the code of gRPC, such as ``INVALID_ARGUMENT``.
        reason: what is wrong.
    """

    row: int
    code: str
    reason: str


class Written(NamedTuple):
    """The result of a write.

    Attributes:
        sequence: of the last write: a search with this `min_sequence` sees it.
        written: the number of items written.
        errors: the items that were not.
    """

    sequence: int
    written: int
    errors: list[WriteError]


@dataclass(frozen=True)
class Video:
    """A video as searches see it.

    Attributes:
        video_id: its id.
        text_id: its id as text, if the index has text ids.
        state: ``found``, ``taken_down`` or ``unknown``.
        attributes: the values that it has, by name.
        vector: the embedding, if it was asked for.
        expires_at: when it expires, if it does.
    """

    video_id: int
    text_id: str | None
    state: str
    attributes: dict[str, Any]
    vector: npt.NDArray[np.float32] | None
    expires_at: np.datetime64 | None


class _Search(NamedTuple):
    """The arguments of one search, for the native module."""

    queries: Any
    options: Options
    stats: bool
    index_name: str
    min_sequence: int
    timeout: float | None
    is_batch: bool


Source = Union[str, PathLike[str], bytes, None]


class _Calls:
    """What both clients share: arguments become those of the native module."""

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        token: str | None = None,
        tls: bool | Tls = False,
        insecure: bool = False,
        index: str = "",
        timeout: float = 10.0,
    ) -> None:
        """Describes the servers. Connections are made by the first calls.

        Args:
            addresses: the servers, such as ``"10.0.0.1:50051,10.0.0.2:50051"`` or a list. Calls go
                to those that serve, in turn.
            token: a key or signed token.
            tls: True to encrypt, or certificates; addresses with ``https://`` are encrypted anyway.
            insecure: sends the token unencrypted to other machines, too.
            index: the name of the index; not needed if the servers have only one.
            timeout: seconds for a call with its retries.

        Raises:
            InvalidArgument: an address, the token or a certificate cannot be used.
        """
        joined = addresses if isinstance(addresses, str) else ",".join(addresses)
        certificates = _certificates(tls) if isinstance(tls, Tls) else None
        if tls is True:
            certificates = (None, None, None)
        self._addresses = joined
        self._index = index
        self._native = _native.Client(
            joined, token, insecure, certificates, number(timeout, "timeout")
        )

    def __repr__(self) -> str:
        index = f", index={self._index!r}" if self._index else ""
        return f"{type(self).__name__}({self._addresses!r}{index})"

    def _search_arguments(self, q: Query, given: Any) -> _Search:
        given = dict(given)
        index = given.pop("index", None)
        timeout = given.pop("timeout", None)
        stats = bool(given.pop("stats", False))
        min_sequence = count(given.pop("min_sequence", 0), "min_sequence")
        queries, n = native_queries(q, None)
        return _Search(
            queries,
            options(n, **given),
            stats,
            self._index if index is None else index,
            min_sequence,
            _seconds(timeout),
            n is not None,
        )

    def _call(self, index: str | None, timeout: float | None) -> tuple[str, float | None]:
        return self._index if index is None else index, _seconds(timeout)


class Client(_Calls):
    """A client of one or more servers. Any number of threads may use it at the same time.

    A call that another server, or the same one a little later, may answer is repeated, up to four
    times within the timeout. A client may be used after a fork.

    >>> client = shortlist.Client("127.0.0.1:50051")
    >>> ids, scores = client.search(user, k=100, target_recall=0.95, filter='region = "US"')
    """

    def search(self, q: Query, k: int = 10, **given: Unpack[SearchOptions]) -> Candidates:
        """Finds the best videos for one query ``[dim]``, for each row of ``[n, dim]``, for
        `Interests` or for `Seeds`. The options are those of `SearchOptions`.

        Raises:
            Error: the server refuses the search, or none answers; `Error.field` names the argument.
        """
        sent = self._search_arguments(q, {"k": k, **given})
        return found(self._native.search(*sent[:6], False), sent.is_batch)

    def search_batch(
        self, q: npt.ArrayLike, k: int = 10, **given: Unpack[SearchOptions]
    ) -> Candidates:
        """As `search` for rows ``[n, dim]``. They are sent in calls of at most 256 rows, four at a
        time.
        """
        return self.search(_batch(q), k, **given)

    def stream(
        self, queries: Iterable[Query], k: int = 10, **given: Unpack[SearchOptions]
    ) -> Iterator[Candidates]:
        """Searches for each query over one connection, and yields the answers in their order. Up to
        16 queries are taken ahead of the answer that is yielded next. There are no retries and no
        timeout.

        Raises:
            Error: the server refuses a search, or ends the stream.
        """
        stream = self._native.stream()
        waiting: deque[_Search] = deque()
        try:
            for q in queries:
                sent = self._search_arguments(q, {"k": k, **given})
                _check_streamed(sent)
                stream.send(*sent[:5])
                waiting.append(sent)
                if len(waiting) == _WINDOW:
                    yield _next(stream.next(*waiting.popleft()[:3], False))
            while waiting:
                yield _next(stream.next(*waiting.popleft()[:3], False))
        finally:
            stream.close()

    def explain(
        self, q: Query, video_id: int | str, k: int = 10, **given: Unpack[SearchOptions]
    ) -> Explanation:
        """Explains why a video is, or is not, in the answer to the same search. Scores every video.

        Raises:
            NotFound: the index does not have the video.
        """
        sent = self._search_arguments(q, {"k": k, **given})
        _check_one(sent)
        video = one_id(video_id, "video_id")
        return explanation(
            self._native.explain(sent.queries, video, sent.options, *sent[3:6], False)
        )

    def upsert(
        self,
        videos: object,
        vectors: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None,
        attributes: object = None,
        *,
        expires_at: object = None,
        embedding_model: str | None = None,
        partial: bool = False,
        index: str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Inserts or replaces videos. They are sent in calls of at most 1,000 videos, one after the
        other; what was written before an error stays.

        Args:
            videos: their ids; or a data frame or Arrow table with the columns ``video_id``,
                ``embedding``, perhaps ``expires_at``, and the attributes.
            vectors: ``[n, dim]``, unless `videos` is a table; or a dict of these by the model that
                made them, of which each index of an alias takes that of its model.
            attributes: a dict of columns by name, a data frame or an Arrow table; None, NaN and NaT
                are null.
            expires_at: when each video expires; None and NaT for never.
            embedding_model: the name of the model that made the embeddings, unless `vectors` does.
            partial: writes the valid videos and returns the errors of the others. Otherwise a call
                with an invalid video writes nothing and raises.

        Raises:
            InvalidArgument: a video is not valid; `Error.row` and `Error.field` name the place.
            FailedPrecondition: the index is read-only.
        """
        arguments = _videos(videos, vectors, attributes, expires_at)
        call = self._call(index, timeout)
        return _written(
            self._native.upsert(*arguments, embedding_model, bool(partial), *call, False)
        )

    def delete(
        self, video_ids: npt.ArrayLike, *, index: str | None = None, timeout: float | None = None
    ) -> Written:
        """Deletes videos, until an upsert or a later build brings them back."""
        call = self._call(index, timeout)
        return _written(self._native.write("delete", ids(video_ids, "video_ids"), *call, False))

    def takedown(
        self, video_ids: npt.ArrayLike, *, index: str | None = None, timeout: float | None = None
    ) -> Written:
        """Takes videos down: they are not returned, even after an upsert or a new build, until they
        are restored.
        """
        call = self._call(index, timeout)
        return _written(self._native.write("takedown", ids(video_ids, "video_ids"), *call, False))

    def restore(
        self, video_ids: npt.ArrayLike, *, index: str | None = None, timeout: float | None = None
    ) -> Written:
        """Restores videos that were taken down."""
        call = self._call(index, timeout)
        return _written(self._native.write("restore", ids(video_ids, "video_ids"), *call, False))

    def get(
        self,
        video_ids: npt.ArrayLike,
        *,
        attributes: Sequence[str] | Literal["all"] = "all",
        vectors: bool = False,
        embedding_model: str | None = None,
        index: str | None = None,
        timeout: float | None = None,
    ) -> list[Video]:
        """Looks videos up, in the order of the ids; of several indexes of an alias, in the one with
        this model.
        """
        arguments = _lookup(video_ids, attributes, vectors, embedding_model)
        call = self._call(index, timeout)
        return [_video(video) for video in self._native.get(*arguments, *call, False)]

    def status(self, *, index: str | None = None, timeout: float | None = None) -> dict[str, Any]:
        """Returns a ``GetStatusResponse`` of ``admin.proto`` as a dict: the state of the index, or
        of all if neither the client nor the call names one.
        """
        return dict(self._native.status(*self._call(index, timeout), False))

    def activate(
        self,
        generation: int,
        *,
        force: bool = False,
        index: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Makes a generation current, and returns an ``ActivateResponse`` as a dict."""
        call = self._call(index, timeout)
        wanted = count(generation, "generation")
        return dict(self._native.activate(wanted, bool(force), *call, False))

    def set_alias(
        self, alias: str, indexes: Sequence[str], *, timeout: float | None = None
    ) -> list[str]:
        """Lets an alias stand for other indexes, or removes it if there are none. Returns the
        indexes that it stood for before.
        """
        arguments = str(alias), _names(indexes), *self._call(None, timeout)[1:]
        return list(self._native.set_alias(*arguments, False))

    def aliases(self, *, timeout: float | None = None) -> dict[str, list[str]]:
        """Returns the indexes of each alias."""
        return dict(self._native.aliases(*self._call(None, timeout)[1:], False))

    def rebuild(
        self, *, cancel: bool = False, index: str | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """Starts to build the next generation, or cancels that; `status` has the progress. Returns
        a ``RebuildStatus`` as a dict.
        """
        return dict(self._native.rebuild(bool(cancel), *self._call(index, timeout), False))


class AsyncClient(_Calls):
    """As `Client`, for asyncio. Cancelling a task cancels its call."""

    async def search(self, q: Query, k: int = 10, **given: Unpack[SearchOptions]) -> Candidates:
        """As `Client.search`."""
        sent = self._search_arguments(q, {"k": k, **given})
        return found(await self._native.search(*sent[:6], True), sent.is_batch)

    async def search_batch(
        self, q: npt.ArrayLike, k: int = 10, **given: Unpack[SearchOptions]
    ) -> Candidates:
        """As `Client.search_batch`."""
        return await self.search(_batch(q), k, **given)

    async def stream(
        self,
        queries: Iterable[Query] | AsyncIterable[Query],
        k: int = 10,
        **given: Unpack[SearchOptions],
    ) -> AsyncIterator[Candidates]:
        """As `Client.stream`, an asynchronous iterator over queries of either kind."""
        stream = self._native.stream()
        waiting: deque[_Search] = deque()
        try:
            async for q in _each(queries):
                sent = self._search_arguments(q, {"k": k, **given})
                _check_streamed(sent)
                stream.send(*sent[:5])
                waiting.append(sent)
                if len(waiting) == _WINDOW:
                    yield _next(await stream.next(*waiting.popleft()[:3], True))
            while waiting:
                yield _next(await stream.next(*waiting.popleft()[:3], True))
        finally:
            stream.close()

    async def explain(
        self, q: Query, video_id: int | str, k: int = 10, **given: Unpack[SearchOptions]
    ) -> Explanation:
        """As `Client.explain`."""
        sent = self._search_arguments(q, {"k": k, **given})
        _check_one(sent)
        video = one_id(video_id, "video_id")
        return explanation(
            await self._native.explain(sent.queries, video, sent.options, *sent[3:6], True)
        )

    async def upsert(
        self,
        videos: object,
        vectors: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None,
        attributes: object = None,
        *,
        expires_at: object = None,
        embedding_model: str | None = None,
        partial: bool = False,
        index: str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """As `Client.upsert`."""
        arguments = _videos(videos, vectors, attributes, expires_at)
        call = self._call(index, timeout)
        return _written(
            await self._native.upsert(*arguments, embedding_model, bool(partial), *call, True)
        )

    async def delete(
        self, video_ids: npt.ArrayLike, *, index: str | None = None, timeout: float | None = None
    ) -> Written:
        """As `Client.delete`."""
        call = self._call(index, timeout)
        return _written(
            await self._native.write("delete", ids(video_ids, "video_ids"), *call, True)
        )

    async def takedown(
        self, video_ids: npt.ArrayLike, *, index: str | None = None, timeout: float | None = None
    ) -> Written:
        """As `Client.takedown`."""
        call = self._call(index, timeout)
        return _written(
            await self._native.write("takedown", ids(video_ids, "video_ids"), *call, True)
        )

    async def restore(
        self, video_ids: npt.ArrayLike, *, index: str | None = None, timeout: float | None = None
    ) -> Written:
        """As `Client.restore`."""
        call = self._call(index, timeout)
        return _written(
            await self._native.write("restore", ids(video_ids, "video_ids"), *call, True)
        )

    async def get(
        self,
        video_ids: npt.ArrayLike,
        *,
        attributes: Sequence[str] | Literal["all"] = "all",
        vectors: bool = False,
        embedding_model: str | None = None,
        index: str | None = None,
        timeout: float | None = None,
    ) -> list[Video]:
        """As `Client.get`."""
        arguments = _lookup(video_ids, attributes, vectors, embedding_model)
        call = self._call(index, timeout)
        return [_video(video) for video in await self._native.get(*arguments, *call, True)]

    async def status(
        self, *, index: str | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """As `Client.status`."""
        return dict(await self._native.status(*self._call(index, timeout), True))

    async def activate(
        self,
        generation: int,
        *,
        force: bool = False,
        index: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """As `Client.activate`."""
        call = self._call(index, timeout)
        wanted = count(generation, "generation")
        return dict(await self._native.activate(wanted, bool(force), *call, True))

    async def set_alias(
        self, alias: str, indexes: Sequence[str], *, timeout: float | None = None
    ) -> list[str]:
        """As `Client.set_alias`."""
        arguments = str(alias), _names(indexes), *self._call(None, timeout)[1:]
        return list(await self._native.set_alias(*arguments, True))

    async def aliases(self, *, timeout: float | None = None) -> dict[str, list[str]]:
        """As `Client.aliases`."""
        return dict(await self._native.aliases(*self._call(None, timeout)[1:], True))

    async def rebuild(
        self, *, cancel: bool = False, index: str | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """As `Client.rebuild`."""
        return dict(await self._native.rebuild(bool(cancel), *self._call(index, timeout), True))


async def _each(queries: Iterable[Query] | AsyncIterable[Query]) -> AsyncIterator[Query]:
    if isinstance(queries, AsyncIterable):
        async for q in queries:
            yield q
    else:
        for q in queries:
            yield q


def _next(native: Any) -> Candidates:
    return found(native, False)


def _check_one(sent: _Search) -> None:
    if sent.is_batch:
        raise InvalidArgument("expected one query, found a batch", field="q")


def _check_streamed(sent: _Search) -> None:
    _check_one(sent)
    if sent.timeout is not None:
        raise InvalidArgument("expected none: a stream has no timeout", field="timeout")


def _batch(q: npt.ArrayLike) -> npt.ArrayLike:
    array = np.asarray(q)
    if array.ndim != 2:
        raise InvalidArgument(f"expected shape (n, dim), found shape {array.shape}", field="q")
    return array


def _seconds(timeout: object) -> float | None:
    return None if timeout is None else number(timeout, "timeout")


def _certificates(tls: Tls) -> tuple[bytes | None, tuple[bytes, bytes] | None, str | None]:
    certificate, key = _pem(tls.certificate), _pem(tls.key)
    if (certificate is None) != (key is None):
        raise InvalidArgument("expected certificate and key, found one of them", field="tls")
    identity = None if certificate is None or key is None else (certificate, key)
    return _pem(tls.ca), identity, tls.domain


def _pem(source: Source) -> bytes | None:
    return source if source is None or isinstance(source, bytes) else Path(source).read_bytes()


def _videos(
    videos: Any, vectors: object, attributes: object, expires_at: object
) -> tuple[Any, list[tuple[str | None, Any]], Any, npt.NDArray[np.int64] | None]:
    if vectors is None:
        columns = _table(videos)
        for name in ("video_id", "embedding"):
            if name not in columns:
                raise InvalidArgument(
                    f"expected a column {name!r}, found {sorted(columns)}", field="videos"
                )
        if attributes is not None:
            raise InvalidArgument(
                "expected the attributes as columns of videos", field="attributes"
            )
        videos = columns.pop("video_id")
        vectors = _matrix(columns.pop("embedding"))
        expires_at = columns.pop("expires_at", expires_at)
        attributes = columns
    ids_of = ids(videos, "videos")
    native = native_columns(attributes)
    matrices = _matrices(vectors)
    for field, length in [
        *((_field_of(model), len(matrix)) for model, matrix in matrices),
        *((f'attributes["{name}"]', len(values)) for name, _, values, _ in native),
    ]:
        if length != len(ids_of):
            raise InvalidArgument(
                f"expected {len(ids_of)}, one per video, found {length}", field=field
            )
    return ids_of, matrices, native, _times(expires_at, len(ids_of))


def _matrices(vectors: object) -> list[tuple[str | None, Any]]:
    """The embeddings of each model; of no name if there is one array."""
    if not isinstance(vectors, Mapping):
        return [(None, rows(vectors, "vectors"))]
    if not vectors:
        raise InvalidArgument(
            "expected embeddings of at least one model, found none", field="vectors"
        )
    return [(str(model), rows(of, _field_of(model))) for model, of in vectors.items()]


def _field_of(model: object) -> str:
    return "vectors" if model is None else f'vectors["{model}"]'


def _names(indexes: object) -> list[str]:
    if isinstance(indexes, Sequence) and not isinstance(indexes, str):
        return [str(index) for index in indexes]
    raise InvalidArgument(f"expected a list of names, found {indexes!r}", field="indexes")


def _times(expires_at: Any, expected: int) -> npt.NDArray[np.int64] | None:
    """Microseconds since 1970, and the least number for never."""
    if expires_at is None:
        return None
    [(_, kind, values, valid)] = native_columns({"expires_at": expires_at})
    if len(values) != expected:
        raise InvalidArgument(
            f"expected {expected}, one per video, found {len(values)}", field="expires_at"
        )
    if valid is not None and not valid.any():
        return None
    if kind != "timestamp":
        raise InvalidArgument(f"expected times, found {kind}", field="expires_at")
    times = np.array(values, np.int64)
    if valid is not None:
        times[~valid] = np.iinfo(np.int64).min
    return times


def _table(table: Any) -> dict[str, Any]:
    if hasattr(table, "column_names") and hasattr(table, "column"):
        return {name: table.column(name) for name in table.column_names}
    if isinstance(table, Mapping):
        return dict(table)
    if hasattr(table, "columns"):
        return {name: table[name] for name in table.columns}
    raise InvalidArgument(
        f"expected ids and vectors, a data frame or a table, found {type(table).__name__}",
        field="videos",
    )


def _matrix(column: Any) -> npt.NDArray[Any]:
    """The rows of a column of lists or arrays."""
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
        if hasattr(column, "flatten") and hasattr(column.type, "list_size"):
            return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
    values = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    try:
        return np.stack([np.asarray(row) for row in values])
    except ValueError as error:
        raise InvalidArgument(f"expected rows of one length: {error}", field="vectors") from None


def _written(native: Any) -> Written:
    sequence, written, errors = native
    return Written(sequence, written, [WriteError(*error) for error in errors])


def _lookup(
    video_ids: object, attributes: object, vectors: bool, embedding_model: str | None
) -> tuple[Any, Any, bool, str | None]:
    if attributes == "all":
        names = None
    elif isinstance(attributes, Sequence) and not isinstance(attributes, str):
        names = [str(name) for name in attributes]
    else:
        raise InvalidArgument(
            f'expected a list of names or "all", found {attributes!r}', field="attributes"
        )
    return ids(video_ids, "video_ids"), names, bool(vectors), embedding_model


def _video(found: dict[str, Any]) -> Video:
    expires_at = found["expires_at"]
    if expires_at is not None:
        expires_at = np.datetime64(expires_at, "us")
    return Video(
        found["video_id"],
        found["text_id"],
        found["state"],
        found["attributes"],
        found["vector"],
        expires_at,
    )
