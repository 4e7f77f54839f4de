"""Arguments become arrays: without a copy where type and layout allow it."""

from __future__ import annotations

import operator
from typing import Any, Union, cast

import numpy as np
import numpy.typing as npt

from ._errors import InvalidArgument


def rows(value: object, field: str, *, keep_halves: bool = False) -> npt.NDArray[Any]:
    """``[n, dim]`` float32, or float16 if halves are kept, in C order."""
    array = _numbers(value, field)
    if array.ndim != 2:
        found = f"found shape {array.shape}"
        raise InvalidArgument(f"expected two axes, rows and components, {found}", field=field)
    return _floats(array, field, keep_halves)


def queries(value: object, field: str, dim: int | None) -> npt.NDArray[np.float32]:
    """``[dim]`` or ``[n, dim]`` float32 in C order; any dimension if `dim` is None."""
    array = _numbers(value, field)
    if array.ndim not in (1, 2) or dim not in (None, array.shape[-1]):
        found = f"found shape {array.shape}"
        expected = "dim" if dim is None else str(dim)
        raise InvalidArgument(
            f"expected shape ({expected},) or (n, {expected}), {found}", field=field
        )
    return _floats(array, field, keep_halves=False)


def _numbers(value: object, field: str) -> npt.NDArray[Any]:
    array = _array(value, field)
    if array.dtype.kind not in "fiu":
        raise InvalidArgument(
            f"expected an array of floats, found dtype {array.dtype}", field=field
        )
    return array


def _floats(array: npt.NDArray[Any], field: str, keep_halves: bool) -> npt.NDArray[Any]:
    dtype = np.float16 if keep_halves and array.dtype == np.float16 else np.float32
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="ignore"):
        converted = np.require(array, dtype=dtype, requirements=["C", "A"])
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        lost = np.isinf(converted) & np.isfinite(array)
        if lost.any():
            place = tuple(int(axis) for axis in np.argwhere(lost)[0])
            found = f"found {array[place]}"
            row = place[0] if array.ndim == 2 else None
            raise InvalidArgument(
                f"column {place[-1]}: expected a number in single precision, {found}",
                field=field,
                row=row,
            )
    return converted


Ids = Union[npt.NDArray[np.uint64], list[str]]


def ids(value: object, field: str) -> Ids:
    """``[n]`` uint64 in C order, from integers of any type that are not negative; or texts."""
    array = _array(value, field)
    if (texts := _texts(array, field)) is not None:
        return texts
    if array.dtype.kind == "O" or array.size == 0:
        array = _of_integers(array, field)
    if array.ndim != 1:
        raise InvalidArgument(f"expected one axis, found shape {array.shape}", field=field)
    if array.dtype.kind not in "iu":
        raise InvalidArgument(f"expected integers, found dtype {array.dtype}", field=field)
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        row = int(np.argmax(array < 0))
        raise InvalidArgument(
            f"expected an id of at least 0, found {array[row]}", field=field, row=row
        )
    return np.require(array, dtype=np.uint64, requirements=["C", "A"])


def _texts(array: npt.NDArray[Any], field: str) -> list[str] | None:
    """The texts of an array of one axis, if its first item is a text."""
    if array.ndim != 1 or array.size == 0 or not isinstance(array[0], str):
        return None
    texts = [str(text) if isinstance(text, str) else text for text in array.tolist()]
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            found = f"found {text!r}"
            raise InvalidArgument(f"expected a text, {found}", field=field, row=row)
    return texts


def one_id(value: object, field: str) -> int | str:
    """A text, or an integer that is not negative."""
    return str(value) if isinstance(value, str) else count(value, field)


def _of_integers(array: npt.NDArray[Any], field: str) -> npt.NDArray[Any]:
    converted = []
    for row, value in enumerate(array.reshape(-1).tolist()):
        try:
            number = operator.index(value)
        except TypeError:
            raise InvalidArgument(
                f"expected an integer, found {value!r}", field=field, row=row
            ) from None
        if not 0 <= number < 1 << 64:
            raise InvalidArgument(
                f"expected an id of 0 to 2^64 - 1, found {number}", field=field, row=row
            )
        converted.append(number)
    return np.array(converted, np.uint64).reshape(array.shape)


def _array(value: object, field: str) -> npt.NDArray[Any]:
    if isinstance(value, (set, frozenset)):
        value = list(value)
    if isinstance(value, (list, tuple)) and value and all(map(_is_integer, value)):
        # NumPy would make floats of integers that do not fit into one type.
        integers = [int(item) for item in value]
        fits = max(integers) < 1 << 63 and min(integers) >= -1 << 63
        return np.array(integers, np.int64 if fits else object)
    try:
        array = np.asarray(cast(Any, value))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"expected an array, found {type(value).__name__}: {error}", field=field
        ) from None
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise InvalidArgument("expected no masked values, found some", field=field)
    return array


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def count(value: object, field: str) -> int:
    """An integer that is not negative."""
    try:
        number = operator.index(cast(Any, value))
    except TypeError:
        found = type(value).__name__
        raise InvalidArgument(f"expected an integer, found {found}", field=field) from None
    if isinstance(value, bool) or not 0 <= number < 1 << 64:
        raise InvalidArgument(f"expected an integer of at least 0, found {value}", field=field)
    return number


def number(value: object, field: str) -> float:
    """A number."""
    if isinstance(value, str):
        raise InvalidArgument(f"expected a number, found {value!r}", field=field)
    try:
        return float(cast(Any, value))
    except (TypeError, ValueError):
        found = type(value).__name__
        raise InvalidArgument(f"expected a number, found {found}", field=field) from None


def optional_count(value: object, field: str) -> int | None:
    """As `count`, or None."""
    return None if value is None else count(value, field)


def optional_number(value: object, field: str) -> float | None:
    """As `number`, or None."""
    return None if value is None else number(value, field)
