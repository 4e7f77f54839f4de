"""Attribute columns of any library become numbers with a mask, or lists of words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any, Optional, cast

import numpy as np
import numpy.typing as npt

from ._errors import InvalidArgument

# Name, kind, values, and which of the numbers are there.
NativeColumn = tuple[str, str, Any, Optional[npt.NDArray[np.bool_]]]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_INT64 = np.iinfo(np.int64)
_UINT64 = np.iinfo(np.uint64)
_ACCEPTED = "text, a list of texts, an integer, a float, a boolean, a date or a time"


def native_columns(attributes: object) -> list[NativeColumn]:
    """The columns of a mapping, a data frame or an Arrow table."""
    if attributes is None:
        return []
    if hasattr(attributes, "column_names") and hasattr(attributes, "column"):  # A pyarrow table.
        attributes = {name: attributes.column(name) for name in attributes.column_names}
    elif not isinstance(attributes, Mapping) and hasattr(attributes, "columns"):  # A data frame.
        frame: Any = attributes
        attributes = {name: frame[name] for name in frame.columns}
    if not isinstance(attributes, Mapping):
        raise InvalidArgument(
            f"expected a dict, a data frame or an Arrow table, found {_type(attributes)}",
            field="attributes",
        )
    return [_column(name, values) for name, values in attributes.items()]


def _column(name: object, values: Any) -> NativeColumn:
    field = f'attributes["{name}"]'
    if not isinstance(name, str):
        raise InvalidArgument(f"expected a name, found {name!r}", field=field)
    library = type(values).__module__.partition(".")[0]
    if library == "pyarrow":
        kind, values, valid = _of_arrow(field, values)
    elif library == "polars":
        kind, values, valid = _of_objects(field, values.to_list())
    elif library == "pandas" and not isinstance(values.dtype, np.dtype):
        kind, values, valid = _of_objects(field, list(values.astype(object)))
    elif library == "pandas":
        kind, values, valid = _of_numpy(field, values.to_numpy())
    elif isinstance(values, np.ndarray):
        kind, values, valid = _of_numpy(field, values)
    elif isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping)):
        kind, values, valid = _of_objects(field, list(values))
    else:
        raise InvalidArgument(f"expected one value per row, found {_type(values)}", field=field)
    return name, kind, values, valid


def _of_numpy(field: str, values: npt.NDArray[Any]) -> tuple[str, Any, Any]:
    if values.ndim != 1:
        raise InvalidArgument(f"expected one axis, found shape {values.shape}", field=field)
    kind = values.dtype.kind
    is_masked = isinstance(values, np.ma.MaskedArray)
    if kind in "OU":
        # The list of a masked array has None in place of masked values.
        return _of_objects(field, values.tolist())
    absent = np.ma.getmaskarray(values) if is_masked else None
    plain = np.asarray(values)
    if kind == "b":
        native, plain = "bool", plain.astype(np.bool_)
    elif kind == "i" or (kind == "u" and plain.dtype.itemsize < 8):
        native, plain = "int64", plain.astype(np.int64)
    elif kind == "u":
        native, plain = "uint64", plain.astype(np.uint64)
    elif kind == "f":
        native, plain = "double", plain.astype(np.float64)
        absent = np.isnan(plain) if absent is None else absent | np.isnan(plain)
    elif kind == "M":
        nat = np.isnat(plain)
        absent = nat if absent is None else absent | nat
        native, plain = "timestamp", plain.astype("datetime64[us]").astype(np.int64)
    else:
        raise InvalidArgument(f"expected {_ACCEPTED}, found dtype {values.dtype}", field=field)
    return native, np.ascontiguousarray(plain), None if absent is None else ~absent


def _of_arrow(field: str, values: Any) -> tuple[str, Any, Any]:
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        if isinstance(values, pa.ChunkedArray):  # Older versions keep the chunks of no rows.
            values = pa.concat_arrays(values.chunks)
    if not isinstance(values, pa.Array):
        raise InvalidArgument(f"expected an Arrow array, found {_type(values)}", field=field)
    kind, types = values.type, pa.types
    if types.is_dictionary(kind):
        return _of_arrow(field, values.dictionary_decode())
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    if types.is_timestamp(kind) or types.is_date(kind):
        # Rounds down to microseconds; a date becomes its midnight.
        since = values.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return "timestamp", since.fill_null(0).to_numpy(), valid
    if types.is_boolean(kind):
        return "bool", values.fill_null(False).to_numpy(zero_copy_only=False), valid
    if types.is_integer(kind) or types.is_floating(kind):
        plain = values.fill_null(pa.scalar(0, kind)).to_numpy(zero_copy_only=False)
        native, plain, present = _of_numpy(field, plain)
        return native, plain, valid if present is None else valid & present
    if types.is_string(kind) or types.is_large_string(kind):
        return "keyword", values.to_pylist(), None
    if types.is_list(kind) or types.is_large_list(kind):
        return _of_objects(field, values.to_pylist(), empty="keyword_list")
    raise InvalidArgument(f"expected {_ACCEPTED}, found Arrow type {kind}", field=field)


def _of_objects(field: str, values: list[Any], empty: str | None = None) -> tuple[str, Any, Any]:
    """Python objects: the first value that is not null decides on the type."""
    absent = [_is_null(value) for value in values]
    first = next((row for row, null in enumerate(absent) if not null), None)
    if first is None:
        if empty is None:
            raise InvalidArgument(f"expected {_ACCEPTED}, found only nulls", field=field)
        return empty, [None] * len(values), None
    kind = _kind(values[first])
    if kind == "int64" and any(isinstance(value, (float, np.floating)) for value in values):
        kind = (
            "double" if any(_kind(v) == "double" for v, n in zip(values, absent) if not n) else kind
        )
    if kind is None:
        raise _unexpected(field, first, _ACCEPTED, values[first])
    convert = _CONVERTED[kind]
    converted: list[Any] = []
    for row, (value, null) in enumerate(zip(values, absent)):
        try:
            converted.append(_NULL.get(kind) if null else convert(value))
        except TypeError:
            raise _unexpected(field, row, _EXPECTED[kind], value) from None
    if kind in ("keyword", "keyword_list"):
        return kind, converted, None
    valid = ~np.array(absent, np.bool_)
    if kind == "int64":
        least, most = min(converted), max(converted)
        if least >= 0 and most > _INT64.max:
            kind = "uint64"
        limits = _UINT64 if kind == "uint64" else _INT64
        wrong = next(
            (row for row, n in enumerate(converted) if not limits.min <= n <= limits.max), None
        )
        if wrong is not None:
            raise _unexpected(field, wrong, "an integer of 64 bits", converted[wrong])
    return kind, np.array(converted, _DTYPES[kind]), valid


def _is_null(value: object) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return isinstance(value, (float, np.floating)) and bool(value != value)


def _kind(value: object) -> str | None:
    if isinstance(value, str):
        return "keyword"
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, np.integer)):
        return "int64"
    if isinstance(value, (float, np.floating)):
        return "double"
    if isinstance(value, (date, np.datetime64)):  # A datetime is a date.
        return "timestamp"
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return "keyword_list"
    return None


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(value)


def _words(value: object) -> list[str]:
    if not isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        raise TypeError
    return [_word(word) for word in value]


def _integer(value: object) -> int:
    if _kind(value) != "int64":
        raise TypeError
    return int(cast(Any, value))


def _number(value: object) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError
    return float(value)


def _truth(value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _micros(value: object) -> int:
    """Microseconds since 1970 UTC, rounded down. A time without a zone counts as UTC."""
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[us]").astype(np.int64))
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
        return (aware - _EPOCH) // _MICROSECOND
    if isinstance(value, date):
        midnight = datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
        return (midnight - _EPOCH) // _MICROSECOND
    raise TypeError


_CONVERTED: dict[str, Any] = {
    "keyword": _word,
    "keyword_list": _words,
    "int64": _integer,
    "double": _number,
    "bool": _truth,
    "timestamp": _micros,
}
_EXPECTED = {
    "keyword": "text",
    "keyword_list": "a list of texts",
    "int64": "an integer",
    "double": "a number",
    "bool": "a boolean",
    "timestamp": "a date or a time",
}
_NULL: dict[str, Any] = {"int64": 0, "double": 0.0, "bool": False, "timestamp": 0}
_DTYPES: dict[str, Any] = {
    "int64": np.int64,
    "uint64": np.uint64,
    "double": np.float64,
    "bool": np.bool_,
    "timestamp": np.int64,
}


def _unexpected(field: str, row: int, expected: str, found: object) -> InvalidArgument:
    text = repr(found)
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    return InvalidArgument(
        f"expected {expected}, found {shown} ({_type(found)})", field=field, row=row
    )


def _type(value: object) -> str:
    return type(value).__name__
