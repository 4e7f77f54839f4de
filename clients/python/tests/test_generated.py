"""Code that protoc generates for `shortlist.v1` is found beside the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_modules_of_the_same_name_are_found(tmp_path: Path) -> None:
    module = tmp_path / "shortlist" / "v1" / "retrieval_pb2.py"
    module.parent.mkdir(parents=True)
    module.write_text("MADE = True\n")
    program = (
        "import shortlist, shortlist.v1.retrieval_pb2 as pb; assert pb.MADE and shortlist.Client"
    )
    path = {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=path, cwd=tmp_path, check=True)
