"""Whether the binary has the commands and flags that a deployment runs."""

import re
import subprocess
from pathlib import Path

import pytest

from conftest import run


def needs_commands(shortlist: Path, *commands: str) -> None:
    """Skips the test, with the reason, for a binary without these commands."""
    for command in commands:
        done = subprocess.run([shortlist, command, "--help"], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{shortlist} has no command {command}")


def check_flags(shortlist: Path, command: list[str]) -> None:
    """Each flag of a command line is one of its command."""
    # Commands with commands of their own, such as `cluster apply`.
    words = [word for word in command[:2] if not word.startswith("-")]
    known = run(shortlist, *words, "--help")
    for word in command:
        if word.startswith("--"):
            flag = word.split("=")[0]
            assert re.search(rf"(^|\s){flag}\b", known), f"{flag} is no flag of {' '.join(words)}"
