"""Clients of gRPC for the tests of `deploy/`, with the settings that `deploy/client/README.md` advises.

The stubs are generated from `proto/`. Servers are those of the fixture `serve`.
"""

import functools
import re
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc_tools
import numpy as np
from grpc_tools import protoc

from conftest import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICE_CONFIG = REPOSITORY / "deploy" / "client" / "service-config.json"

# The advice of deploy/client/README.md.
OPTIONS: dict[str, Any] = {
    "grpc.service_config": SERVICE_CONFIG.read_text(),
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.keepalive_permit_without_calls": 1,
}

# Longer than any call takes: a call that ends by this deadline fails the test.
TIMEOUT = 60.0


@functools.cache
def stubs() -> SimpleNamespace:
    """The modules that protoc generates: `retrieval`, `catalog` and `common`, and `rpc` with the stubs."""
    folder = tempfile.mkdtemp(prefix="shortlist-stubs-")
    protos = ["common", "filter", "retrieval", "catalog"]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    code = protoc.main(
        [
            "protoc",
            f"-I{REPOSITORY / 'proto'}",
            f"-I{well_known}",
            f"--python_out={folder}",
            f"--grpc_python_out={folder}",
            *(f"shortlist/v1/{name}.proto" for name in protos),
        ]
    )
    assert code == 0, f"protoc ended with {code}"
    sys.path.append(folder)
    modules = {name: import_module(f"shortlist.v1.{name}_pb2") for name in protos}
    rpc = {f"{name}_rpc": import_module(f"shortlist.v1.{name}_pb2_grpc") for name in ("retrieval", "catalog")}
    return SimpleNamespace(**modules, **rpc)


class Client:
    """A channel to servers with the advised options, and its stubs. `options` replace some of them."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None, **options: Any) -> None:
        chosen = list({**OPTIONS, **{f"grpc.{name}": value for name, value in options.items()}}.items())
        if credentials is None:
            self.channel = grpc.insecure_channel(target, options=chosen)
        else:
            self.channel = grpc.secure_channel(target, credentials, options=chosen)
        self.retrieval = stubs().retrieval_rpc.RetrievalStub(self.channel)
        self.catalog = stubs().catalog_rpc.CatalogStub(self.channel)

    def __enter__(self) -> "Client":
        # A server that has just started does not serve yet, and calls that do not wait fail until it does.
        grpc.channel_ready_future(self.channel).result(TIMEOUT)
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def search(
        self, user: np.ndarray, timeout: float = TIMEOUT, wait_for_ready: bool | None = None, **fields: Any
    ) -> Any:
        """Searches for one user."""
        return self.retrieval.Search(search_request(user, **fields), timeout=timeout, wait_for_ready=wait_for_ready)


def search_request(user: np.ndarray, k: int = 10, **fields: Any) -> Any:
    return stubs().retrieval.SearchRequest(vector=vector(user), k=k, **fields)


def vector(values: np.ndarray) -> Any:
    common, retrieval = stubs().common, stubs().retrieval
    data = values.astype("<f4").tobytes()
    return retrieval.Vector(packed=retrieval.PackedVector(data=data, dtype=common.DTYPE_F32))


def ipv4(servers: Iterable[Any]) -> str:
    """The target that has all these servers."""
    return "ipv4:" + ",".join(server.address for server in servers)


def requests(server: Any, method: str = "Search", code: str | None = None) -> int:
    """How many requests for this method a server answered, with this code or any."""
    total = 0
    for labels, value in re.findall(r"^shortlist_requests_total\{(.*)\} (\d+)", server.metrics(), re.MULTILINE):
        found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if found["method"] == method and code in (None, found["code"]):
            total += int(value)
    return total


def wait_for_calls(*servers: Any) -> None:
    """Waits until each of these servers answered a search since its start."""
    wait_until("calls to each server", lambda: all(requests(server) > 0 for server in servers))


class Load:
    """Threads that call without pause until the end of the block. Counts the calls by name and code.

    `calls` are functions that make one call, by name; each has `threads` threads.
    """

    def __init__(self, threads: int = 2, **calls: Callable[[], Any]) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.details: list[str] = []
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(name, call))
            for name, call in calls.items()
            for _ in range(threads)
        ]

    def _run(self, name: str, call: Callable[[], Any]) -> None:
        while not self._stopped.is_set():
            code = "OK"
            try:
                call()
            except grpc.RpcError as error:
                code = error.code().name
                with self._lock:
                    self.details.append(f"{name}: {code}: {error.details()}")
            except Exception as error:  # A check of an answer.
                code = type(error).__name__
                with self._lock:
                    self.details.append(f"{name}: {error!r}")
            with self._lock:
                self.counts[name, code] += 1

    def answered(self) -> int:
        """How many calls were answered so far."""
        with self._lock:
            return sum(count for (_, code), count in self.counts.items() if code == "OK")

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        """Waits until this many further calls are answered."""
        before = self.answered()
        wait_until(f"{count} answers", lambda: self.answered() >= before + count)

    def check(self) -> None:
        """Fails the test if a call failed."""
        failed = {key: count for key, count in self.counts.items() if key[1] != "OK"}
        assert not failed, f"{failed} of {self.counts.total()} calls: {self.details[:5]}"


PREFACE_BYTES = 24
KINDS = {6: "ping", 7: "goaway"}


class Proxy:
    """Passes the connections of one server on, and counts their frames of HTTP/2. Ends with the process."""

    def __init__(self, server: Any) -> None:
        host, _, port = server.address.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        # Frames of the clients and of the server, by kind; without the answers to pings.
        self.sent: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            self.connections += 1
            server = socket.create_connection(self._server)
            for source, target, frames, skipped in [
                (client, server, self.sent, PREFACE_BYTES),
                (server, client, self.received, 0),
            ]:
                threading.Thread(target=self._pass, args=(source, target, frames, skipped), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, frames: Counter[str], skipped: int) -> None:
        waiting = bytearray()
        while True:
            try:
                read = source.recv(1 << 16)
                target.sendall(read)
            except OSError:
                read = b""
            if not read:
                target.close()
                return
            waiting += read
            del waiting[: (first := min(skipped, len(waiting)))]
            skipped -= first
            while not skipped and len(waiting) >= 9 and len(waiting) >= (end := 9 + int.from_bytes(waiting[:3], "big")):
                kind, is_answer = KINDS.get(waiting[3], "other"), waiting[3] == 6 and waiting[4] & 1
                frames[kind] += not is_answer
                del waiting[:end]
