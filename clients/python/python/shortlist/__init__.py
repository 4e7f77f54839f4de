"""Shortlist finds the few hundred of millions of short videos that are worth ranking for a user.

>>> import numpy as np, shortlist
>>> x = np.eye(3, dtype=np.float32)
>>> index = shortlist.build(x, ids=[10, 11, 12], attributes={"region": ["US", "IN", "US"]})
>>> ids, scores = index.search([1.0, 0.5, 0.1], k=2, filter='region = "US"')
>>> ids.tolist()
[10, 12]

`Client` and `AsyncClient` call servers.
"""

from pkgutil import extend_path

from ._candidates import Attributes, Candidates, SearchStats
from ._client import AsyncClient, Client, SearchOptions, Tls, Video, WriteError, Written
from ._errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    Error,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from ._index import Calibration, Index, Memory, Metric, build
from ._queries import Fresh, Interests, Seeds
from ._request import Explanation, Removal

# Code that protoc generates is in `shortlist.v1`, in another folder.
__path__ = extend_path(__path__, __name__)

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "Attributes",
    "Calibration",
    "Cancelled",
    "Candidates",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "Error",
    "Explanation",
    "FailedPrecondition",
    "Fresh",
    "Index",
    "Interests",
    "Internal",
    "InvalidArgument",
    "Memory",
    "Metric",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Removal",
    "ResourceExhausted",
    "SearchOptions",
    "SearchStats",
    "Seeds",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Video",
    "WriteError",
    "Written",
    "build",
]
