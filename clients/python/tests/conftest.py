"""One catalog and its users, and the index of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import shortlist

DIM = 16
REGIONS = ["US", "IN", "BR"]


@dataclass(frozen=True)
class Catalog:
    """Integers as components, so that scores are exact and ties are frequent."""

    x: npt.NDArray[np.float32]
    ids: npt.NDArray[np.uint64]
    region: list[str | None]
    creator: list[str]
    likes: list[int | None]
    tags: list[list[str] | None]
    published_at: npt.NDArray[np.datetime64]
    users: npt.NDArray[np.float32]
    training: npt.NDArray[np.float32]

    @property
    def attributes(self) -> dict[str, Any]:
        return {
            "region": self.region,
            "creator": self.creator,
            "likes": self.likes,
            "tags": self.tags,
            "published_at": self.published_at,
        }


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    random = np.random.default_rng(7)
    n = 6000
    age = random.integers(0, 100, n).astype("timedelta64[D]")
    region = random.integers(0, 4, n)
    likes = random.integers(-1, 1000, n)
    return Catalog(
        x=random.integers(-8, 9, (n, DIM)).astype(np.float32),
        ids=(random.permutation(n) + 10_000).astype(np.uint64) + np.uint64(1 << 63),
        region=[REGIONS[value] if value < 3 else None for value in region],
        creator=[f"creator-{value}" for value in random.integers(0, 40, n)],
        likes=[int(value) if value >= 0 else None for value in likes],
        tags=[None if value == 0 else ["a", "b"][: value % 3] for value in range(n)],
        published_at=np.datetime64("now", "us") - age,
        users=random.integers(-8, 9, (50, DIM)).astype(np.float32),
        training=random.integers(-8, 9, (3000, DIM)).astype(np.float32),
    )


@pytest.fixture(scope="session")
def index(catalog: Catalog) -> shortlist.Index:
    return shortlist.build(
        catalog.x,
        training_queries=catalog.training,
        ids=catalog.ids,
        attributes=catalog.attributes,
        embedding_model="towers-1",
    )


def users_of(count: int, seed: int) -> npt.NDArray[np.float32]:
    """Users are not distributed like videos: here they use half of the components."""
    users = np.random.default_rng(seed).standard_normal((count, 64), np.float32)
    users[:, ::2] *= 0.1
    return users


@pytest.fixture(scope="session")
def users() -> npt.NDArray[np.float32]:
    return users_of(300, 12)


@pytest.fixture(scope="session")
def taught() -> shortlist.Index:
    """An index that is searched by its graph."""
    x = np.random.default_rng(11).standard_normal((12_000, 64), np.float32)
    return shortlist.build(x, training_queries=users_of(3000, 13))
