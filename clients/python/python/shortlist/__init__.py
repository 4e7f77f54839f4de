"""Shortlist finds the few hundred of millions of short videos that are worth ranking for a user.

>>> import numpy as np, shortlist
>>> x = np.eye(3, dtype=np.float32)
>>> index = shortlist.build(x, ids=[10, 11, 12], attributes={"region": ["US", "IN", "US"]})
>>> ids, scores = index.search([1.0, 0.5, 0.1], k=2, filter='region = "US"')
>>> ids.tolist()
[10, 12]
"""

from ._candidates import Attributes, Candidates, SearchStats
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
from ._index import Calibration, Explanation, Index, Removal, build
from ._queries import Fresh, Interests, Seeds

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Attributes",
    "Calibration",
    "Cancelled",
    "Candidates",
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
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Removal",
    "ResourceExhausted",
    "SearchStats",
    "Seeds",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "build",
]
