"""Fixtures for the tests of `deploy/`: small catalogs and indexes, a real `shortlist serve`, a real Prometheus.

SHORTLIST           the binary; default: the newer one of target/release/shortlist and target/debug/shortlist
PROMETHEUS_FOLDER   the folder of `prometheus` and `promtool`; default: that of the one on PATH
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"

# Connections to it come from 127.0.0.1. So no client takes the port of a server that restarts.
LOOPBACK = "127.1.0.1"

# How long a condition may take, in seconds. Only a test that fails waits this long.
DEADLINE = 60.0

T = TypeVar("T")

_NEXT_PORT = itertools.count(97 * os.getpid())


def wait_until(what: str, condition: Callable[[], T], deadline: float = DEADLINE) -> T:
    """Calls `condition` until its value is true, and returns that value. Fails the test after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {deadline:.0f} s; the last value is {value!r}")
        time.sleep(0.05)


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = DEADLINE,
) -> str:
    """Runs a command to its end, and returns its standard output. Fails the test with both outputs if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=timeout)
    if done.returncode != 0:
        pytest.fail(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports where nothing listens. No other call returns them, and neither the system nor Ray gives them to others."""
    ports: list[int] = []
    while len(ports) < count:
        port = 20_000 + next(_NEXT_PORT) % 12_000
        with contextlib.suppress(OSError):
            socket.create_server((host, port)).close()
            ports.append(port)
    return ports


class Server:
    """A `shortlist serve` or `route` of its own folder. A restart keeps the address.

    `settings` is the text of the configuration, without `listen`. `address` has a free port if it is empty. `token` is
    the key that `command` and `post` send.
    """

    def __init__(
        self,
        shortlist: Path,
        folder: Path,
        settings: str,
        token: str = "",
        address: str = "",
        mode: str = "serve",
    ) -> None:
        folder.mkdir()
        self.shortlist, self.folder, self.settings, self.token = shortlist, folder, settings, token
        self.mode = mode
        self.config = folder / "serve.toml"
        self.address = address
        self.process: subprocess.Popen[bytes] | None = None
        self.write_config(settings)

    def write_config(self, settings: str) -> None:
        """Replaces the configuration, as an operator does: by renaming."""
        new = self.config.with_suffix(".new")
        new.write_text(settings)
        new.rename(self.config)

    def start(self) -> "Server":
        """Starts the process, and waits until it answers."""
        out = self.folder / "stdout"
        with out.open("wb") as stdout, (self.folder / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [
                    self.shortlist,
                    self.mode,
                    "--config",
                    self.config,
                    "--listen",
                    self.address or "127.0.0.1:0",
                ],
                cwd=self.folder,
                stdout=stdout,
                stderr=stderr,
            )

        def address() -> str | None:
            if self.process is not None and self.process.poll() is not None:
                pytest.fail(f"the server ended at its start:\n{self.log()}")
            found = re.search(r" on (?:https?://)?(\S+:\d+)\s", out.read_text())
            return found and found[1]

        self.address = str(wait_until("the address of the server", address))
        return self

    def log(self) -> str:
        """What the server logged, with all its starts."""
        return (self.folder / "stderr").read_text()

    def signal(self, number: signal.Signals) -> None:
        """Ends the process by a signal, and waits for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(DEADLINE)
        self.process = None

    def stop(self) -> None:
        """Ends the process in order."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process at once, as the kernel does when memory is short."""
        self.signal(signal.SIGKILL)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command(self, name: str, *arguments: str | Path) -> str:
        """Runs a command of `shortlist` against this server."""
        environment = {**os.environ, "SHORTLIST_TOKEN": self.token} if self.token else None
        return run(self.shortlist, name, "--addr", self.address, *arguments, env=environment)

    def post(self, path: str, body: Any, headers: Mapping[str, str] = {}, session: Any = requests) -> Any:
        """Calls a method in JSON."""
        credential = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return session.post(
            f"http://{self.address}{path}", json=body, headers={**credential, **headers}, timeout=DEADLINE
        )

    def metrics(self) -> str:
        """The text of a scrape."""
        credential = {"authorization": f"Bearer {self.token}"} if self.token else {}
        answer = requests.get(f"http://{self.address}/metrics", headers=credential, timeout=DEADLINE)
        answer.raise_for_status()
        return answer.text


class Prometheus:
    """A Prometheus of its own folder.

    It looks for new targets at most every 5 seconds. So its targets are addresses where servers are started later:
    `address` hands them out.
    """

    def __init__(self, binary: Path, folder: Path, config: dict[str, Any], servers: int) -> None:
        """`config` is the configuration. Its only job gets `servers` targets."""
        folder.mkdir()
        (port,) = free_ports(1, LOOPBACK)
        targets = [f"127.1.0.{number}:{port}" for number in range(1, servers + 1)]
        self._unused = iter(targets)
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": targets}]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    binary,
                    "--config.file=prometheus.yaml",
                    "--storage.tsdb.path=data",
                    "--web.listen-address=127.0.0.1:0",
                    "--log.level=info",
                ],
                cwd=folder,
                stdout=log,
                stderr=log,
            )

        def listens() -> str | None:
            text = (folder / "log").read_text()
            if self.process.poll() is not None:
                pytest.fail(f"prometheus ended at its start:\n{text}")
            found = re.search(r"Listening on\" address=(127\.0\.0\.1:\d+)", text)
            return found and found[1]

        self.own_address = wait_until("the address of prometheus", listens)
        wait_until("prometheus", lambda: requests.get(f"http://{self.own_address}/-/ready", timeout=DEADLINE).ok)
        wait_until("the first scrapes", lambda: len(self.query("up")) == servers)

    def address(self) -> str:
        """An address that is scraped, and where no server listens yet."""
        return next(self._unused)

    def wait_for(self, server: Server) -> None:
        """Waits until a server is scraped, and the alert that it is down is gone."""

        def is_scraped() -> bool:
            instance = f'instance="{server.address}"'
            is_down = self.query(f'ALERTS{{alertname="ShortlistDown", {instance}}}')
            return self.value(f"up{{{instance}}}") == 1 and not is_down

        wait_until("the first scrape", is_scraped)

    def get(self, path: str, **parameters: str) -> Any:
        """Calls the API of Prometheus."""
        answer = requests.get(f"http://{self.own_address}/api/v1/{path}", params=parameters, timeout=DEADLINE)
        if not answer.ok:
            pytest.fail(f"{path} {parameters}: {answer.status_code} {answer.text}")
        return answer.json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query: objects with `metric` (labels) and `value`."""
        result: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The value of an instant query with one series, or `None` without one."""
        result = self.query(expression)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    def alerts(self) -> list[dict[str, Any]]:
        """All pending and firing alerts."""
        alerts: list[dict[str, Any]] = self.get("alerts")["alerts"]
        return alerts

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE)


@pytest.fixture(scope="session")
def shortlist() -> Path:
    """The binary."""
    if named := os.environ.get("SHORTLIST"):
        return Path(named).resolve()
    built = [REPOSITORY / "target" / profile / "shortlist" for profile in ("release", "debug")]
    built = [binary for binary in built if binary.exists()]
    assert built, "no binary: run `cargo build`, or set SHORTLIST"
    return max(built, key=lambda binary: binary.stat().st_mtime)


def _tool(name: str) -> Path:
    if folder := os.environ.get("PROMETHEUS_FOLDER"):
        return Path(folder).resolve() / name
    found = shutil.which(name)
    assert found, f"no {name} on PATH: install Debian's package prometheus, or set PROMETHEUS_FOLDER"
    return Path(found)


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Debian's promtool."""
    return _tool("promtool")


@dataclass(frozen=True)
class Key:
    """A key of the role `read`, and the lines of the configuration that accept it."""

    token: str
    settings: str


@pytest.fixture(scope="session")
def key(shortlist: Path) -> Key:
    made = json.loads(run(shortlist, "key", "--name", "tests", "--role", "read", "--json"))
    settings = f'[[keys]]\nname = "{made["name"]}"\nsha256 = "{made["sha256"]}"\nroles = ["read"]\n'
    return Key(made["key"], settings)


@pytest.fixture(scope="session")
def catalog(shortlist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of 6,000 videos with 32 components, as `shortlist synth` writes them."""
    folder = tmp_path_factory.mktemp("catalog") / "files"
    run(shortlist, "synth", "--videos", "6000", "--dim", "32", "--users", "2000", "--out", folder)
    return folder


@pytest.fixture(scope="session")
def build(shortlist: Path, catalog: Path) -> Callable[..., None]:
    """Builds the catalog: `build(out, *options)` publishes a generation at `out`."""

    def build(out: Path | str, *options: str | Path) -> None:
        files: list[str | Path] = ["--embeddings", catalog / "videos.npy", "--ids", catalog / "video_ids.npy"]
        run(shortlist, "build", *files, "--attributes", catalog / "attributes.parquet", "--out", out, *options)

    return build


@pytest.fixture(scope="session")
def built(build: Callable[..., None], catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with one generation, taught by users. Copy it; do not change it."""
    folder = tmp_path_factory.mktemp("built") / "index"
    build(folder, "--training-queries", catalog / "users_train.npy")
    return folder


@pytest.fixture(scope="session")
def start_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Prometheus]]:
    """Starts a Prometheus: `start_prometheus(config, servers)`. All of them end with the session."""
    started: list[Prometheus] = []

    def start(config: dict[str, Any], servers: int) -> Prometheus:
        folder = tmp_path_factory.mktemp("prometheus") / "folder"
        started.append(Prometheus(_tool("prometheus"), folder, config, servers))
        return started[-1]

    yield start
    for prometheus in started:
        prometheus.stop()


@pytest.fixture
def serve(shortlist: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server: `serve(settings, token="", address="", **options)`. All of them end with the test."""
    started: list[Server] = []

    def serve(settings: str, token: str = "", address: str = "", **options: Any) -> Server:
        folder = tmp_path / f"server-{len(started)}"
        started.append(Server(shortlist, folder, settings, token, address, **options))
        return started[-1].start()

    yield serve
    for server in started:
        if server.process is not None:
            server.kill()


@pytest.fixture
def replica(shortlist: Path, built: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server of its own copy of the index: `replica(name, settings="", host=LOOPBACK)`."""
    started: list[Server] = []

    def start(name: str, settings: str = "", host: str = LOOPBACK) -> Server:
        index = tmp_path / f"{name}-index"
        shutil.copytree(built, index)
        server = Server(shortlist, tmp_path / name, f"{settings}\n[indexes]\nvideos = '{index}'\n")
        server.address = f"{host}:0"
        started.append(server)
        return server.start()

    yield start
    for server in started:
        if server.process is not None:
            server.kill()
