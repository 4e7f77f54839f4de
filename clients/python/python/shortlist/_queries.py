"""What can be searched for in place of a vector, and parts of a search that have several values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import numpy.typing as npt


@dataclass(frozen=True)
class Interests:
    """Several interests of one user. The score of a video is its best score over all of them.

    Attributes:
        vectors: ``[interests, dim]``, at most 16.
        weights: one factor of the scores per interest; 1 by default.
        min_shares: the least share of k that is attributed to each interest, 0 to 1; 0 by default.
    """

    vectors: npt.ArrayLike
    weights: Sequence[float] | npt.NDArray[Any] | None = None
    min_shares: Sequence[float] | npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Seeds:
    """Videos like these: the weighted sum of their embeddings. The seeds are not returned.

    Attributes:
        video_ids: ids of videos of the index; unknown ones are skipped, unless all are.
        weights: one per video, negative to move away from it; 1 by default.
    """

    video_ids: npt.ArrayLike
    weights: Sequence[float] | npt.NDArray[Any] | None = None


class Fresh(NamedTuple):
    """Places kept for recent videos.

    Attributes:
        attribute: the name of a timestamp attribute.
        within: the largest age of a fresh video.
        at_least: the least number of fresh candidates, as far as there are that many.
    """

    attribute: str
    within: timedelta
    at_least: int
