from os import PathLike
from typing import Any, TypedDict, final

import numpy as np
import numpy.typing as npt

__all__ = ["Client", "Columns", "Index", "Stream", "build"]

# k; target_recall, ef_search and exact; filters; exclude; caps; fresh and reserves;
# score_threshold; offset; attributes and vectors; embedding_model; score terms; max_similarity and
# mmr_lambda.
_Options = tuple[Any, ...]
_Ids = npt.NDArray[np.uint64] | list[str]
_Queries = (
    npt.NDArray[np.float32]
    | tuple[npt.NDArray[np.float32], list[float], list[float]]
    | tuple[_Ids, list[float]]
)
_Stats = tuple[str, int, float | None, int, int, float, int | None]

@final
class Columns:
    def names(self) -> list[str]: ...
    def column(self, name: str) -> tuple[str, Any, npt.NDArray[np.bool_]] | None: ...

_Found = tuple[
    npt.NDArray[np.uint64],  # ids
    npt.NDArray[np.float32],  # scores
    npt.NDArray[np.int64],  # counts
    list[str | None],  # reasons
    npt.NDArray[np.float32] | None,  # vectors
    npt.NDArray[np.int64] | None,  # interests
    Columns | None,
    list[_Stats] | None,
    list[int],  # unknown seeds
    list[str] | None,  # ids as text, flat
    npt.NDArray[np.float32] | None,  # score terms
    npt.NDArray[np.bool_] | None,  # held places of reserves
]

class _Explained(TypedDict):
    score: float
    terms: list[float]
    interest: int | None
    exact_rank: int | None
    in_exact_answer: bool
    rank: int | None
    removal: tuple[str, str, str] | None
    loss: str | None
    stats: _Stats

@final
class Index:
    @staticmethod
    def open(path: str | PathLike[str]) -> Index: ...
    def make_resident(self) -> None: ...
    def search(self, queries: _Queries, options: _Options, stats: bool, threads: int) -> _Found: ...
    def explain(self, queries: _Queries, video_id: int | str, options: _Options) -> _Explained: ...
    def __len__(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def embedding_model(self) -> str | None: ...
    @property
    def attributes(self) -> list[tuple[str, str]]: ...
    @property
    def calibration(self) -> tuple[str, int, list[tuple[int, list[tuple[int, float]]]]] | None: ...

_Certificates = tuple[bytes | None, tuple[bytes, bytes] | None, str | None]
_Columns = list[tuple[str, str, Any, npt.NDArray[np.bool_] | None]]

# With `asyncio`, methods return a future of the running loop.
@final
class Client:
    def __new__(
        cls,
        addresses: str,
        token: str | None,
        insecure: bool,
        tls: _Certificates | None,
        timeout: float,
    ) -> Client: ...
    def search(
        self,
        queries: _Queries,
        options: _Options,
        stats: bool,
        index: str,
        min_sequence: int,
        timeout: float | None,
        asyncio: bool,
    ) -> Any: ...
    def explain(
        self,
        queries: _Queries,
        video_id: int | str,
        options: _Options,
        index: str,
        min_sequence: int,
        timeout: float | None,
        asyncio: bool,
    ) -> Any: ...
    def stream(self) -> Stream: ...
    def upsert(
        self,
        ids: _Ids,
        vectors: list[tuple[str | None, npt.NDArray[Any]]],
        columns: _Columns,
        expires_at: npt.NDArray[np.int64] | None,
        embedding_model: str | None,
        partial: bool,
        index: str,
        timeout: float | None,
        asyncio: bool,
    ) -> Any: ...
    def write(
        self,
        kind: str,
        ids: _Ids,
        index: str,
        timeout: float | None,
        asyncio: bool,
    ) -> Any: ...
    def get(
        self,
        ids: _Ids,
        attributes: list[str] | None,
        vectors: bool,
        embedding_model: str | None,
        index: str,
        timeout: float | None,
        asyncio: bool,
    ) -> Any: ...
    def set_alias(
        self, alias: str, indexes: list[str], timeout: float | None, asyncio: bool
    ) -> Any: ...
    def aliases(self, timeout: float | None, asyncio: bool) -> Any: ...
    def status(self, index: str, timeout: float | None, asyncio: bool) -> Any: ...
    def activate(
        self, generation: int, force: bool, index: str, timeout: float | None, asyncio: bool
    ) -> Any: ...
    def rebuild(self, cancel: bool, index: str, timeout: float | None, asyncio: bool) -> Any: ...

@final
class Stream:
    def send(
        self,
        queries: _Queries,
        options: _Options,
        stats: bool,
        index: str,
        min_sequence: int,
    ) -> None: ...
    def next(self, queries: _Queries, options: _Options, stats: bool, asyncio: bool) -> Any: ...
    def close(self) -> None: ...

def build(
    x: npt.NDArray[Any],
    training_queries: npt.NDArray[Any] | None,
    ids: _Ids | None,
    attributes: list[tuple[str, str, Any, npt.NDArray[np.bool_] | None]],
    metric: str,
    out: str | PathLike[str] | None,
    m: int | None,
    ef_construction: int | None,
    seed: int | None,
    threads: int,
    embedding_model: str | None,
) -> Index: ...
