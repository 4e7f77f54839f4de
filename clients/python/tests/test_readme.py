"""The programs of the READMEs, run against the sample server."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import binary

import shortlist

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a server that made the sample, on the port of the README."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 50051)) == 0:
            pytest.skip("another server has the port of the README")
    folder = tmp_path_factory.mktemp("sample")
    server = subprocess.Popen(
        [str(binary()), "serve"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    client = shortlist.Client("127.0.0.1:50051")
    while True:
        try:
            client.status()
            break
        except shortlist.Unavailable:
            assert server.poll() is None
    yield folder
    server.terminate()
    server.wait()


@pytest.mark.parametrize("readme", ["README.md", "clients/python/README.md"])
def test_its_programs_run(readme: str, sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sample)
    programs = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    assert programs
    x = np.random.default_rng(1).standard_normal((300, 64), np.float32)
    for program in programs:
        names: dict[str, Any] = {"shortlist": shortlist, "x": x, "users": x, "q": x[0]}
        names |= {"ids": np.arange(300), "regions": ["US", None, "IN"] * 100}
        exec(program, names)
        assert len(names["ids"]) == len(names["scores"]) > 0
