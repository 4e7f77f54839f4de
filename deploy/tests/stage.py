"""What the tests of alerts and dashboard share: a Prometheus with shorter durations, servers that it scrapes, load."""

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
import yaml

from conftest import DEPLOY, Key, Prometheus, Server
from durations import shorten_rules

RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
# The watch of the server updates the gauges at this interval.
FAST = 'poll_interval = "100ms"\n'
SEARCH = "/v1/indexes/videos:search"


def short_config(
    folder: Path, key: Key, *, with_products: bool = True, rules_of: dict[str, Any] = RULES
) -> dict[str, Any]:
    """The configuration of `deploy/prometheus`, with shorter durations. Every server gets the key."""
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())
    rules = folder / "alerts.yaml"
    rules.write_text(yaml.safe_dump(shorten_rules(rules_of, with_products)))
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = [str(rules)]
    # A server without keys ignores it.
    config["scrape_configs"][0]["authorization"] = {"credentials": key.token}
    return config


@dataclass
class Stage:
    """What a scenario may use."""

    serve: Callable[..., Server]
    build: Callable[..., None]
    prometheus: Prometheus
    shortlist: Path
    built: Path
    catalog: Path
    key: Key
    folder: Path

    def copy(self) -> Path:
        """A copy of the built index."""
        return shutil.copytree(self.built, self.folder / "index")

    def watched(self, index: Path, settings: str = "", token: str = "") -> Server:
        """A server of this index that Prometheus scrapes. `settings` are in addition to those of every scenario."""
        all_settings = f'{FAST}{settings}\n[indexes]\nvideos = "{index}"\n'
        server = self.serve(all_settings, token, self.prometheus.address())
        self.prometheus.wait_for(server)
        return server

    def users(self, count: int) -> list[list[float]]:
        users: list[list[float]] = np.load(self.catalog / "users_test.npy")[:count].tolist()
        return users


@contextlib.contextmanager
def repeated(work: Callable[[requests.Session], Any], threads: int = 1) -> Iterator[None]:
    """Repeats `work` on threads, each with a connection of its own, until the block ends.

    A failure of one of them fails the test.
    """
    stop, failures = threading.Event(), []

    def loop() -> None:
        with requests.Session() as session:
            try:
                while not stop.is_set():
                    work(session)
            except Exception as failure:
                failures.append(failure)

    running = [threading.Thread(target=loop) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join()
        # It is also the reason if the block failed.
        if failures:
            raise failures[0]


@contextlib.contextmanager
def sessions_from(address: str) -> Iterator[Callable[[], requests.Session]]:
    """Makes sessions whose connections come from another address of this machine. They are closed at the end."""

    class FromAddress(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, source_address=(address, 0), **options)

    with contextlib.ExitStack() as made:

        def make() -> requests.Session:
            session = made.enter_context(requests.Session())
            session.mount("http://", FromAddress())
            return session

        yield make


def search(k: int = 10, dim: int = 32, **request: Any) -> dict[str, Any]:
    return {"vector": {"values": [1.0 + i / dim for i in range(dim)]}, "k": k, **request}
