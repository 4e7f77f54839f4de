"""The advice of `deploy/client/`, with the gRPC of C against real servers."""

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clients import (
    SERVICE_CONFIG,
    TIMEOUT,
    Client,
    Load,
    Proxy,
    ipv4,
    requests,
    stubs,
    vector,
    wait_for_calls,
)
from conftest import LOOPBACK, Server, wait_until
from secured import write_certificate

MAX_ATTEMPTS = 4


@pytest.fixture(scope="session")
def users(catalog: Path) -> np.ndarray:
    """Embeddings of users: one row of f32 per user."""
    return np.load(catalog / "users_test.npy")


def index_of(server: Server) -> Path:
    return server.folder.parent / f"{server.folder.name}-index"


def health(server: Server, service: str = "shortlist.v1.Retrieval") -> str:
    with grpc.insecure_channel(server.address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT, wait_for_ready=True)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def check_answer(client: Client, user: np.ndarray, **options: Any) -> None:
    assert len(client.search(user, **options).candidates) == 10


def test_the_service_config_names_every_method_without_streams() -> None:
    methods = [
        method
        for proto in (stubs().retrieval, stubs().catalog)
        for service in proto.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    named = [
        (name["service"], name["method"])
        for config in json.loads(SERVICE_CONFIG.read_text())["methodConfig"]
        for name in config["name"]
    ]
    # A call on a stream is not repeated, and has no end to wait for.
    unary = [(method.containing_service.full_name, method.name) for method in methods if not method.client_streaming]
    assert sorted(named) == sorted(unary)


def test_a_server_that_restarts_fails_no_call(replica: Callable[..., Server], users: np.ndarray) -> None:
    servers = [replica("a"), replica("b")]
    with Client(ipv4(servers)) as client:
        with Load(search=lambda: check_answer(client, users[0])) as load:
            for server in servers * 2:
                wait_for_calls(*servers)
                server.stop()
                load.wait_for(100)
                server.start()
                wait_for_calls(server)
        load.check()


def test_a_server_that_is_killed_fails_no_call(replica: Callable[..., Server], users: np.ndarray) -> None:
    servers = [replica("a"), replica("b")]
    with Client(ipv4(servers)) as client:
        with Load(search=lambda: check_answer(client, users[0])) as load:
            wait_for_calls(*servers)
            servers[0].kill()
            load.wait_for(100)
        load.check()


def test_a_server_that_does_not_serve_gets_no_call(replica: Callable[..., Server], users: np.ndarray) -> None:
    servers = [replica("a"), replica("b")]
    lost, sound = servers
    with Client(ipv4(servers)) as client:
        with Load(search=lambda: check_answer(client, users[0])) as load:
            wait_for_calls(*servers)
            (generation,) = index_of(lost).glob("generation-*.index")
            os.truncate(generation, 4096)
            wait_until("the health of the lost index", lambda: health(lost) == "NOT_SERVING")
            # The clients hear of it at about the same time. After that, no call arrives.
            wait_until("no further call", lambda: gets_no_call(lost, load))
        load.check()
    assert requests(sound) > requests(lost)


def gets_no_call(server: Server, load: Load) -> bool:
    """Whether a server gets none of a thousand calls."""
    received = requests(server)
    load.wait_for(1000)
    return requests(server) == received


def test_unavailable_is_repeated_until_too_many_calls_fail(replica: Callable[..., Server], users: np.ndarray) -> None:
    server = replica("a")
    with Client(ipv4([server])) as client:
        # A write that the server never sees.
        late: dict[str, Any] = {"min_sequence": 10**9}
        with pytest.raises(grpc.RpcError) as raised:
            client.search(users[0], **late)
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        wait_until("all attempts", lambda: requests(server, code="UNAVAILABLE") == MAX_ATTEMPTS)
        for _ in range(100):
            with pytest.raises(grpc.RpcError):
                client.search(users[0], **late)
        # Without throttling, there would be four attempts for each call.
        assert requests(server, code="UNAVAILABLE") < 101 + 100


def test_a_call_whose_deadline_passed_is_not_repeated(replica: Callable[..., Server], users: np.ndarray) -> None:
    server = replica("a", "[limits]\nmax_deadline = '1us'\n")
    with Client(ipv4([server])) as client, pytest.raises(grpc.RpcError) as raised:
        client.search(users[0])
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until("one attempt", lambda: requests(server, code="DEADLINE_EXCEEDED") == requests(server) == 1)


def test_a_call_that_is_shed_is_not_repeated(replica: Callable[..., Server], users: np.ndarray) -> None:
    server = replica("a", "[limits]\nmax_searches_per_second = 1\n")
    with Client(ipv4([server])) as client:
        sent = 0
        code = grpc.StatusCode.OK
        while code == grpc.StatusCode.OK and sent < 1000:
            sent += 1
            try:
                client.search(users[0])
            except grpc.RpcError as error:
                code = error.code()
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    wait_until("one attempt", lambda: requests(server, code="RESOURCE_EXHAUSTED") == 1 and requests(server) == sent)


def test_writes_wait_for_the_server_that_restarts(replica: Callable[..., Server], users: np.ndarray) -> None:
    server = replica("a")
    catalog = stubs().catalog
    request = catalog.UpsertRequest(videos=[catalog.Video(video_id=1, vector=vector(users[0]))])

    with Client(ipv4([server])) as client:

        def upsert() -> None:
            assert client.catalog.Upsert(request).written == 1

        def search() -> None:
            check_answer(client, users[0], wait_for_ready=True)

        with Load(upsert=upsert, search=search) as load:
            for _ in range(3):
                load.wait_for(100)
                server.stop()
                server.start()
        load.check()


@pytest.mark.parametrize("host", [LOOPBACK, "[::1]"])
@pytest.mark.parametrize("is_encrypted", [False, True])
def test_an_address_list_is_answered(
    replica: Callable[..., Server], users: np.ndarray, tmp_path: Path, host: str, is_encrypted: bool
) -> None:
    if host == "[::1]" and not has_ipv6():
        pytest.skip("this machine has no address ::1")
    settings, credentials, options = "", None, {}
    if is_encrypted:
        write_certificate("search.example", tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
        settings = "allowed_hosts = ['search.example']\n"
        settings += f"[tls]\ncertificate = '{tmp_path}/server.pem'\nkey = '{tmp_path}/server.key'\n"
        credentials = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
        # The name that is verified, and the authority. Without it, the client looks for the list in the certificate.
        options = {"ssl_target_name_override": "search.example"}
    servers = [replica(name, settings, host) for name in "ab"]
    scheme = "ipv4:" if host == LOOPBACK else "ipv6:"
    target = scheme + ",".join(server.address for server in servers)
    with Client(target, credentials, **options) as client:
        for user in users[:20]:
            check_answer(client, user)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_keepalive_of_clients_is_not_punished(replica: Callable[..., Server], users: np.ndarray) -> None:
    proxy = Proxy(replica("a"))
    # A C++ server with default settings closes a connection that sends three such pings within five minutes.
    often: dict[str, Any] = {"keepalive_time_ms": 500, "http2.max_pings_without_data": 0}
    with Client(f"ipv4:{proxy.address}", **often) as client:
        check_answer(client, users[0])
        wait_until("pings on an idle connection", lambda: proxy.sent["ping"] >= 6)
        check_answer(client, users[0])
    assert proxy.connections == 1 and proxy.received["goaway"] == 0


def test_connections_that_are_too_old_fail_no_call(replica: Callable[..., Server], users: np.ndarray) -> None:
    servers = [replica(name, "[connections]\nmax_age = '500ms'\n") for name in "ab"]
    with Client(ipv4(servers)) as client:
        with Load(search=lambda: check_answer(client, users[0])) as load:
            wait_until("ten connections that were closed", lambda: sum(map(closed_for_age, servers)) >= 10)
        load.check()


def closed_for_age(server: Server) -> int:
    found = re.search(r'^shortlist_closed_connections_total\{reason="age"\} (\d+)', server.metrics(), re.MULTILINE)
    return int(found[1]) if found else 0
