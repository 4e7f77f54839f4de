"""Roots of Debian for the tests: what this machine allows, and the base system, which debootstrap makes once."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import DEPLOY, REPOSITORY, run

WORK = REPOSITORY / "target" / "deploy"
# The base system as deploy/image/rootfs keeps it.
BASE = WORK / "base.tar"
# 50 s to download and unpack Debian, and as much again on a busy machine.
MINUTES = 10 * 60.0


def needs(*tools: str) -> None:
    """Skips the test, with the reason, unless these tools are there, and this process may make devices and mounts."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}, from Debian")
    for probe in (
        # Debootstrap makes device nodes.
        'node=$(mktemp --dry-run) && mknod "$node" c 1 3 && rm "$node"',
        "unshare --mount --pid --fork --mount-proc mount -t tmpfs tmpfs /mnt",
        "chroot / true",
    ):
        done = subprocess.run(["sh", "-c", probe], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"this machine does not allow it: {probe}: {done.stderr.strip()}")


def remove(folder: Path) -> None:
    """Removes a root of an earlier run."""
    if folder.exists():
        shutil.rmtree(folder)


def make_base() -> None:
    """Makes `BASE`, unless it is there: with a root of the image, which this removes."""
    if not BASE.exists():
        folder = WORK / "base"
        remove(folder)
        environment = {**os.environ, "SHORTLIST_BINARY": "/bin/true"}
        run(DEPLOY / "image/rootfs", folder, BASE, env=environment, timeout=MINUTES)
        remove(folder)
