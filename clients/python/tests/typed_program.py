"""A program of a user, for the type checker; the tests run it, too."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

import shortlist


def main(folder: Path) -> list[int]:
    x: npt.NDArray[np.float32] = np.eye(4, dtype=np.float32)
    index = shortlist.build(
        x,
        training_queries=x.tolist(),
        ids=[5, 6, 7, 8],
        attributes={"region": ["US", "IN", None, "US"], "likes": np.arange(4)},
        metric="ip",
        out=folder,
    )
    found: shortlist.Candidates = index.search(
        x[0],
        k=2,
        filter='region = "US"',
        exclude=[6],
        caps={"region": 2},
        attributes=["likes"],
        stats=True,
    )
    ids, scores = found
    likes: int = found.attributes["likes"].data[0]
    plan: str = found.stats[0].plan if found.stats else ""
    reason: str | None = found.reasons[0]
    batch = shortlist.Index.open(folder).search(
        x, 1, filter=['region = "US"'] * 4, exclude=[[5]] * 4
    )
    like = index.search(shortlist.Seeds([5], weights=[1.0]), k=1)
    both = index.search(shortlist.Interests(x[:2], min_shares=[0.5, 0.5]), k=2)
    explanation: shortlist.Explanation = index.explain(x[0], 6, k=2)
    distinct = index.search(
        x[0],
        k=2,
        reserve=["1:likes < 3", "50%/0.3/42:likes > 1"],
        max_similarity=0.9,
        mmr_lambda=0.5,
    )
    reserved: npt.NDArray[np.bool_] | None = distinct.reserved
    fresh = shortlist.Fresh("published_at", within=timedelta(hours=48), at_least=1)
    try:
        index.search(x[0], fresh=fresh)
    except shortlist.InvalidArgument as error:
        field: str | None = error.field
        print(field, error.reason, error.row)
    print(likes, plan, reason, scores, batch.counts, like.ids, both.interests, explanation.rank)
    print(reserved)
    return [int(video) for video in ids]
