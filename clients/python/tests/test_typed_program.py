"""The program that the type checker accepts does what it says."""

from __future__ import annotations

from pathlib import Path

from typed_program import main


def test_the_program_of_a_user_runs(tmp_path: Path) -> None:
    assert main(tmp_path / "index") == [5, 8]
