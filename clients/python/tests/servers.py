"""Real servers for the tests of the client."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import shortlist

_DEFAULT = Path(__file__).parents[3] / "target" / "debug" / "shortlist"


def binary() -> Path:
    """The server: SHORTLIST_BINARY, or what `cargo build` makes."""
    path = Path(os.environ.get("SHORTLIST_BINARY", _DEFAULT))
    if not path.exists():
        if "SHORTLIST_BINARY" in os.environ:
            pytest.fail(f"SHORTLIST_BINARY: {path} does not exist")
        pytest.skip(f"no server at {path}: run `cargo build`, or set SHORTLIST_BINARY")
    return path


class Server:
    """A server of one index folder on a free port."""

    def __init__(self, folder: Path, config: str = "") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        path = folder.parent / f"{folder.name}-{self.address[-5:].strip(':')}.toml"
        path.write_text(config)
        command = [str(binary()), "serve", "--index", f"videos={folder}"]
        self.process = subprocess.Popen(
            [*command, "--listen", self.address, "--config", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def wait(self, **options: Any) -> Server:
        """Waits until it answers."""
        client = shortlist.Client(self.address, timeout=60, **options)
        ended = time.monotonic() + 60
        while True:
            try:
                client.status()
                return self
            except shortlist.Unavailable:
                assert self.process.poll() is None, self.process.communicate()[1].decode()
                assert time.monotonic() < ended

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate()
