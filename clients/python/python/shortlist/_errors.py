"""Exceptions. Each class stands for one code of gRPC, whether a server or this process refuses."""

from __future__ import annotations


class Error(Exception):
    """The base of all errors of this package.

    Attributes:
        code: the code of gRPC, such as ``INVALID_ARGUMENT``.
        field: the argument or field of the request that has to change, such as ``caps``, or None.
        reason: what is wrong with it: what was expected, and what was found.
        row: the row of a batch, or None.
    """

    code = "UNKNOWN"

    def __init__(self, reason: str, *, field: str | None = None, row: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.row = row

    def __str__(self) -> str:
        place = [] if self.field is None else [self.field]
        if self.row is not None:
            place.append(f"row {self.row}")
        return f"{', '.join(place)}: {self.reason}" if place else self.reason

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.reason, self.field, self.row)


class Cancelled(Error):
    """The caller cancelled the call."""

    code = "CANCELLED"


class InvalidArgument(Error, ValueError):
    """An argument has a value that it cannot have, whatever the index contains."""

    code = "INVALID_ARGUMENT"


class DeadlineExceeded(Error, TimeoutError):
    """The deadline passed before there was an answer."""

    code = "DEADLINE_EXCEEDED"


class NotFound(Error, KeyError):
    """An index, a generation or a video does not exist."""

    code = "NOT_FOUND"


class AlreadyExists(Error):
    """What should be made exists already."""

    code = "ALREADY_EXISTS"


class PermissionDenied(Error, PermissionError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(Error):
    """A limit is reached, or there is no memory or no space at the moment."""

    code = "RESOURCE_EXHAUSTED"


class FailedPrecondition(Error):
    """The index must change before the same call can succeed."""

    code = "FAILED_PRECONDITION"


class Aborted(Error):
    """Another call was in the way."""

    code = "ABORTED"


class OutOfRange(Error):
    """A position beyond the end."""

    code = "OUT_OF_RANGE"


class Unimplemented(Error):
    """The server does not know this call."""

    code = "UNIMPLEMENTED"


class Internal(Error):
    """A fault of the library or the server."""

    code = "INTERNAL"


class Unavailable(Error):
    """It does not answer now, and may later."""

    code = "UNAVAILABLE"


class DataLoss(Error):
    """Data is lost or damaged."""

    code = "DATA_LOSS"


class Unauthenticated(Error):
    """The caller gave no valid credentials."""

    code = "UNAUTHENTICATED"


_CLASSES: dict[str, type[Error]] = {
    kind.code: kind
    for kind in (
        Cancelled,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    )
}


def error_of(code: str, field: str | None, reason: str, row: int | None) -> Error:
    """The exception of a code, for the native module; of an unknown one, an `Error` itself."""
    return _CLASSES.get(code, Error)(reason, field=field, row=row)


def _restored(kind: type[Error], reason: str, field: str | None, row: int | None) -> Error:
    return kind(reason, field=field, row=row)
