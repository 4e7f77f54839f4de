"""Builds: what goes in, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from conftest import Catalog

import shortlist
from shortlist._arrays import rows

X = np.random.default_rng(3).integers(-4, 5, (30, 4)).astype(np.float32)


def answers(index: shortlist.Index) -> list[list[int]]:
    found: list[list[int]] = index.search(X[:5], 7, exact=True).ids.tolist()
    return found


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "c": np.ascontiguousarray,
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2],
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "big endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "unaligned": lambda x: np.frombuffer(b"x" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("dtype", ["f4", "f2", "f8", "i4", "u1", "i8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_type_and_layout_gives_the_same_answers(dtype: str, layout: str) -> None:
    x = X + 4 if dtype == "u1" else X
    expected = answers(shortlist.build(x))
    converted = LAYOUTS[layout](x.astype(dtype))
    assert answers(shortlist.build(converted)) == expected
    index = shortlist.build(x)
    queries = LAYOUTS[layout](x[:5].astype(dtype))
    found = index.search(queries, 7, exact=True)
    assert found.ids.tolist() == index.search(x[:5], 7, exact=True).ids.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_arrays_of_the_right_layout_are_not_copied(dtype: Any) -> None:
    x = X.astype(dtype)
    assert rows(x, "x", keep_halves=True) is x


NO_COPY = """
import sys, numpy as np, shortlist
def peak():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) >> 10
x = np.ones((1 << 20, 16), sys.argv[1])
x[-1, -1] = np.nan
shortlist.build(np.ones((8, 2), np.float32))
before = peak()
try:
    shortlist.build(x)
except shortlist.InvalidArgument as error:
    assert (error.field, error.row) == ("x", None) and "row 1048575, column 15" in error.reason
    print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak of memory")
def test_the_native_module_reads_arrays_in_place() -> None:
    def growth(dtype: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", NO_COPY, dtype], check=True, capture_output=True, text=True
        )
        return int(done.stdout)

    # In MiB: the array has 64 as float32. The last of its rows is refused, so that all were read.
    assert growth("float32") < 16
    assert growth("float64") >= 60


@pytest.mark.parametrize("dtype", ["u8", "i8", "u4", "i4", "u2", "i2", "u1", "i1", ">i8"])
def test_ids_of_any_integer_type(dtype: str) -> None:
    ids = np.arange(60, 90).astype(dtype)
    index = shortlist.build(X, ids=ids)
    assert sorted(index.search(X[0], 30).ids.tolist()) == list(range(60, 90))


def test_ids_of_other_libraries() -> None:
    large = [(1 << 64) - 1 - row for row in range(30)]
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    polars = pytest.importorskip("polars")
    for ids in [
        large,
        tuple(large),
        np.array(large, np.uint64)[::-1][::-1],
        np.array(large, object),
        pandas.Series(large),
        pyarrow.array(large, pyarrow.uint64()),
        pyarrow.chunked_array([large[:10], large[10:]], pyarrow.uint64()),
        polars.Series(large, dtype=polars.UInt64),
    ]:
        index = shortlist.build(X, ids=ids)
        assert sorted(index.search(X[0], 30).ids.tolist()) == sorted(large)


@pytest.mark.parametrize(
    ("ids", "row", "reason"),
    [
        ([*range(29), -1], 29, "found -1"),
        ([*range(29), 1 << 64], 29, "found 18446744073709551616"),
        ([*range(29), 3], None, "row 29: id 3 is already the id of row 3"),
        (range(29), None, "expected 30, one per row of x, found 29"),
        (np.arange(30.0), None, "found dtype float64"),
        (["a"] * 30, None, "row 1: id 14608863320967583690 is already the id of row 0"),
        ([*range(29), None], 29, "found None"),
        (np.zeros((30, 1), np.int64), None, "found shape (30, 1)"),
        (np.ma.masked_equal(np.arange(30), 4), None, "masked"),
    ],
)
def test_ids_that_are_refused(ids: Any, row: int | None, reason: str) -> None:
    with pytest.raises(shortlist.InvalidArgument) as caught:
        shortlist.build(X, ids=ids)
    assert (caught.value.field, caught.value.row) == ("ids", row)
    assert reason in caught.value.reason


def nan_row(row: int) -> Any:
    x = X.copy()
    x[row, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ("arguments", "field", "reason"),
    [
        ({"x": np.zeros(4, np.float32)}, "x", "found shape (4,)"),
        ({"x": np.zeros((0, 4), np.float32)}, "x", "expected at least one row"),
        ({"x": np.zeros((4, 0), np.float32)}, "x", "found dimension 0"),
        ({"x": nan_row(7)}, "x", "row 7, column 2: expected a finite number, found NaN"),
        ({"x": np.full((2, 2), 1e30)}, "x", "row 0: expected a vector of norm"),
        ({"x": np.full((2, 2), 1e300)}, "x", "found 1e+300"),
        ({"x": np.zeros((3, 4)), "metric": "cosine"}, "x", "row 0: expected a non-zero vector"),
        ({"x": [["a", "b"]]}, "x", "found dtype <U1"),
        ({"metric": "dot"}, "metric", "expected ip, cosine or l2"),
        ({"m": 1}, "m", "found 1"),
        ({"ef_construction": 0}, "ef_construction", "found 0"),
        ({"seed": -1}, "seed", "found -1"),
        ({"threads": 1.5}, "threads", "found float"),
        ({"threads": 5000}, "threads", "at most 1024, found 5000"),
        ({"training_queries": X[:, :3]}, "training_queries", "expected 4 components"),
        ({"training_queries": nan_row(3)}, "training_queries", "row 3, column 2"),
        ({"attributes": [1]}, "attributes", "expected a dict"),
        ({"attributes": {"a": [1]}}, 'attributes["a"]', "expected 30 values"),
        ({"attributes": {"a": "US"}}, 'attributes["a"]', "expected one value per row"),
        ({"attributes": {"a": [None] * 30}}, 'attributes["a"]', "found only nulls"),
        ({"attributes": {"a": np.zeros((30, 2))}}, 'attributes["a"]', "found shape (30, 2)"),
        ({"attributes": {"a": np.zeros(30, complex)}}, 'attributes["a"]', "complex128"),
        ({"attributes": {"a": [1] * 29 + [1 << 64]}}, 'attributes["a"]', "an integer of 64 bits"),
        ({"attributes": {1: [1] * 30}}, 'attributes["1"]', "expected a name"),
        (
            {"attributes": {"a": np.full(30, np.datetime64("20000-01-01", "us"))}},
            "attributes",
            "expected a time",
        ),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(shortlist.InvalidArgument) as caught:
        shortlist.build(**{"x": X, **arguments})
    assert caught.value.field == field
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", 1], "text, found 1 (int)"),
        ([1, "a"], "an integer, found 'a' (str)"),
        ([1.5, "a"], "a number, found 'a' (str)"),
        ([True, 1], "a boolean, found 1 (int)"),
        ([["a"], "a"], "a list of texts, found 'a' (str)"),
        ([["a"], [1]], "a list of texts, found [1] (list)"),
        ([date(2020, 1, 1), 5], "a date or a time, found 5 (int)"),
        (["a", b"a"], "text, found b'a' (bytes)"),
    ],
)
def test_values_of_two_types_are_refused(values: list[Any], expected: str) -> None:
    with pytest.raises(shortlist.InvalidArgument) as caught:
        shortlist.build(X[:3], attributes={"a": [None, *values]})
    assert (caught.value.field, caught.value.row) == ('attributes["a"]', 2)
    assert caught.value.reason == f"expected {expected}"


NOON = datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=timezone.utc)
# Kind, and what is expected of three rows of which the second is null.
EXPECTED: dict[str, tuple[str, list[Any]]] = {
    "words": ("keyword", ["US", None, "größer"]),
    "lists": ("keyword_list", [["a", "b"], None, []]),
    "integers": ("int64", [-(1 << 63), None, (1 << 53) + 1]),
    "large": ("uint64", [(1 << 64) - 1, None, 0]),
    "floats": ("double", [0.5, None, -1e300]),
    "booleans": ("bool", [True, None, False]),
    "times": ("timestamp", [NOON, None, NOON - timedelta(days=30000, microseconds=1)]),
}


def columns_of_every_library(values: str) -> dict[str, Any]:
    import pandas
    import polars
    import pyarrow

    _, column = EXPECTED[values]
    arrow = pyarrow.array(column, pyarrow.uint64() if values == "large" else None)
    filled = [column[0] if value is None else value for value in column]
    mask = np.array([False, True, False])
    columns: dict[str, Any] = {
        "list": column,
        "tuple": tuple(column),
        "objects": np.fromiter(column, object, 3),
        "pandas objects": pandas.Series(column, dtype=object),
        "pandas arrow": pandas.Series(column, dtype=pandas.ArrowDtype(arrow.type)),
        "polars": polars.Series(column, dtype=polars.UInt64 if values == "large" else None),
        "arrow": arrow,
        "arrow chunks": pyarrow.chunked_array([arrow[:1], arrow[1:]]),
    }
    if values in ("integers", "large", "floats", "booleans"):
        dtype = np.uint64 if values == "large" else None
        columns["masked"] = np.ma.MaskedArray(np.array(filled, dtype), mask=mask)
    if values in ("integers", "large"):
        kind = "Int64" if values == "integers" else "UInt64"
        columns["pandas nullable"] = pandas.array(column, dtype=kind)
    if values == "floats":
        columns["numpy"] = np.array([0.5, np.nan, -1e300])
        columns["pandas"] = pandas.Series([0.5, np.nan, -1e300])
        columns["nan"] = [0.5, float("nan"), -1e300]
    if values == "booleans":
        columns["pandas nullable"] = pandas.array(column, dtype="boolean")
    if values == "words":
        columns["pandas"] = pandas.Series(column)
        columns["pandas categories"] = pandas.Series(column, dtype="category")
        columns["arrow dictionary"] = arrow.dictionary_encode()
        columns["arrow large"] = pyarrow.array(column, pyarrow.large_string())
    if values == "times":
        naive = [None if value is None else value.replace(tzinfo=None) for value in column]
        east = timezone(timedelta(hours=5, minutes=30))
        columns["naive"] = naive
        columns["other zone"] = [None if v is None else v.astimezone(east) for v in column]
        columns["numpy"] = np.array(naive, "datetime64[us]")
        columns["numpy scalars"] = list(np.array(naive, "datetime64[us]"))
        columns["pandas"] = pandas.Series(pandas.to_datetime(naive))
        columns["pandas zone"] = pandas.Series(pandas.to_datetime(column))
        columns["nat"] = [column[0], pandas.NaT, column[2]]
        columns["nanoseconds"] = np.array(naive, "datetime64[us]").astype("datetime64[ns]")
        columns["arrow zone"] = pyarrow.array(column, pyarrow.timestamp("ns", "Asia/Kolkata"))
    return columns


@pytest.mark.parametrize("values", EXPECTED)
def test_columns_of_every_library(values: str) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("polars")
    kind, expected = EXPECTED[values]
    for name, column in columns_of_every_library(values).items():
        index = shortlist.build(X[:3], attributes={"a": column})
        assert index.attributes == {"a": kind}, name
        found = index.search(X[0], 3, attributes=["a"])
        shown = dict(zip(found.ids.tolist(), found.attributes["a"].tolist()))
        if kind == "timestamp":
            shown = {
                row: None if time is None else time.replace(tzinfo=timezone.utc)
                for row, time in shown.items()
            }
        assert [shown[row] for row in range(3)] == expected, name


def test_frames_and_tables_are_attributes() -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    polars = pytest.importorskip("polars")
    columns = {"region": ["US", "IN", None], "likes": [1, 2, 3]}
    for frame in [pandas.DataFrame(columns), pyarrow.table(columns), polars.DataFrame(columns)]:
        index = shortlist.build(X[:3], attributes=frame)
        assert index.attributes == {"region": "keyword", "likes": "int64"}
        assert index.search(X[0], 3, filter='region = "IN"').ids[0] == 1


def test_dates_are_their_midnight_and_smaller_numbers_widen() -> None:
    attributes = {
        "day": [date(2024, 1, 1)] * 3,
        "small": np.array([1, 2, 3], np.uint8),
        "half": np.array([1, 2, 3], np.float16),
        "mixed": [1, 2.5, None],
        "days": np.array(["2024-01-01"] * 3, "datetime64[D]"),
    }
    index = shortlist.build(X[:3], attributes=attributes)
    assert list(index.attributes.values()) == [
        "timestamp",
        "int64",
        "double",
        "double",
        "timestamp",
    ]
    text = "day = 2024-01-01T00:00:00Z and days = 2024-01-01T00:00:00Z and mixed = 2.5"
    assert index.search(X[0], 3, filter=text).counts == 1


def test_videos_that_have_expired_are_no_candidates(tmp_path: Path) -> None:
    times = [datetime(2020, 1, 1), None, datetime(2999, 1, 1)]
    for out in (None, tmp_path):
        index = shortlist.build(X[:3], attributes={"expires_at": times}, out=out)
        found = index.search(X[0], 3)
        assert sorted(found.ids[: found.counts].tolist()) == [1, 2]


def test_a_published_index_is_opened_again(catalog: Catalog, tmp_path: Path) -> None:
    out = tmp_path / "index"
    built = shortlist.build(
        catalog.x, training_queries=catalog.training, ids=catalog.ids, out=out, threads=1
    )
    again = shortlist.Index.open(str(out))
    resident = shortlist.Index.open(out, memory="resident")
    assert built.generation == again.generation == resident.generation == 1
    assert repr(again) == "Index(6000 videos, dim=16, metric='ip', generation=1)"
    assert again.calibration == built.calibration and built.calibration is not None
    memory = shortlist.build(
        catalog.x, training_queries=catalog.training, ids=catalog.ids, threads=1
    )
    assert memory.calibration == built.calibration
    every: list[dict[str, Any]] = [{"exact": True}, {"target_recall": 0.9}, {}]
    for options in every:
        expected = built.search(catalog.users, 10, **options)
        for index in (again, resident, memory):
            found = index.search(catalog.users, 10, **options)
            assert found.ids.tolist() == expected.ids.tolist()
            assert found.scores.tolist() == expected.scores.tolist()
    second = shortlist.build(catalog.x[:100], out=out)
    assert (second.generation, len(again), len(shortlist.Index.open(out))) == (2, 6000, 100)


def test_memory_is_mapped_or_resident(tmp_path: Path) -> None:
    shortlist.build(X, out=tmp_path)
    with pytest.raises(shortlist.InvalidArgument) as caught:
        shortlist.Index.open(tmp_path, memory=cast(Any, "copied"))
    assert (caught.value.field, "found 'copied'" in caught.value.reason) == ("memory", True)


def test_folders_without_an_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(shortlist.NotFound):
        shortlist.Index.open(tmp_path)
    with pytest.raises(shortlist.NotFound):
        shortlist.Index.open(tmp_path / "missing")
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(shortlist.FailedPrecondition) as caught:
        shortlist.build(X, out=file / "index")
    assert caught.value.field == "out"
    shortlist.build(X, out=tmp_path / "index")
    generation = max((tmp_path / "index").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(generation.read_bytes())
    content[len(content) // 2] ^= 0xFF
    generation.chmod(0o644)
    generation.write_bytes(content)
    with pytest.raises(shortlist.FailedPrecondition):
        shortlist.Index.open(tmp_path / "index")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: a process in the background may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_cancels_a_build(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    x = random.standard_normal((60_000, 64), np.float32)
    out = tmp_path / "index"

    def interrupt() -> None:
        # The folder is made when the build begins.
        while not out.exists():
            time.sleep(0.001)
        interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        shortlist.build(x, out=out)
    thread.join()
    with pytest.raises(shortlist.NotFound):
        shortlist.Index.open(out)
    # The process is as usable as before.
    assert len(shortlist.build(X)) == 30
