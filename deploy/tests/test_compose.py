"""compose.yaml: its schema, and its files, credentials, commands and settings with a real server and Prometheus."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from conftest import DEADLINE, DEPLOY, Server, run, wait_until
from secured import make_credentials, moved, port

COMPOSE = DEPLOY / "compose"


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())


@pytest.fixture(scope="session")
def credentials(shortlist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_credentials(shortlist, tmp_path_factory.mktemp("compose") / "credentials.d")


@pytest.fixture
def server(serve: Callable[..., Server], credentials: Path, built: Path, tmp_path: Path) -> Server:
    """The server of compose.yaml."""
    settings = (credentials / "shortlist/shortlist.toml").read_text()
    index = tmp_path / "videos"
    shutil.copytree(built, index)
    paths = {"/etc/shortlist": credentials / "shortlist", "/var/lib/shortlist/videos": index}
    return serve(moved(settings, paths))


def test_it_is_valid() -> None:
    """Against the schema of the compose specification, which `check-jsonschema` has."""
    checker = Path(sys.executable).parent / "check-jsonschema"
    run(checker, "--builtin-schema", "vendor.compose-spec", COMPOSE / "compose.yaml")


def test_every_mounted_file_is_there(compose: dict[str, Any], credentials: Path) -> None:
    mounts = [volume for service in compose["services"].values() for volume in service["volumes"]]
    for mount in mounts:
        source = mount.split(":")[0]
        if not source.startswith("."):
            assert source in compose["volumes"]
        elif source.startswith("./credentials.d/"):
            assert (credentials / source.removeprefix("./credentials.d/")).is_dir()
        else:
            assert (COMPOSE / source).exists(), source
    assert len(mounts) == 12


def test_containers_have_no_rights(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_index_is_made_once(compose: dict[str, Any], shortlist: Path, tmp_path: Path) -> None:
    service = compose["services"]["index"]
    command = [*service["entrypoint"], *service["command"]]
    environment = {**os.environ, "PATH": f"{shortlist.parent}:/usr/bin:/bin"}
    for _ in range(2):
        run(*command, cwd=tmp_path, env=environment)
    assert [file.name for file in (tmp_path / "videos").glob("generation-*")] == ["generation-00000001.index"]


def test_other_users_cannot_read_the_credentials(credentials: Path) -> None:
    assert credentials.stat().st_mode & 0o077 == 0
    assert {file.stat().st_mode & 0o777 for file in (credentials / "clients").glob("*.key")} == {0o400}
    again = subprocess.run([COMPOSE / "credentials", credentials], capture_output=True)
    assert again.returncode != 0, "credentials that are in use are not replaced"


def test_each_key_may_do_its_part(server: Server, credentials: Path, shortlist: Path, catalog: Path) -> None:
    main, admin = server.address.rpartition(":")[2], port(server, "admin")

    def call(key: str, command: str, to: int | str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        token = {"SHORTLIST_TOKEN": (credentials / key).read_text()} if key else {}
        authority = credentials / "clients/authority.pem"
        address = ["--addr", f"https://localhost:{to}", "--ca", authority]
        return subprocess.run([shortlist, command, *address, *arguments], env=token, capture_output=True, text=True)

    user = ["--vector", catalog / "users_test.npy"]
    assert call("clients/ranking.key", "query", main, *user).returncode == 0
    assert call("clients/operator.key", "takedown", main, "1").returncode == 0
    assert call("clients/operator.key", "status", admin).returncode == 0
    assert "PERMISSION_DENIED" in call("clients/ranking.key", "takedown", main, "1").stderr
    assert "PERMISSION_DENIED" in call("prometheus/prometheus.key", "status", admin).stderr
    assert "UNAUTHENTICATED" in call("", "query", main, *user).stderr


def test_the_health_check_follows_the_server(
    compose: dict[str, Any], server: Server, credentials: Path, shortlist: Path
) -> None:
    service = compose["services"]["shortlist"]
    kind, command, *arguments = service["healthcheck"]["test"]
    assert (kind, command) == ("CMD", "shortlist")
    main = server.address.rpartition(":")[2]

    def health() -> subprocess.CompletedProcess[str]:
        own = [
            text.replace("/etc/shortlist", str(credentials / "shortlist")).replace(":50051", f":{main}")
            for text in arguments
        ]
        # Without a key.
        return subprocess.run([shortlist, *own], env={}, capture_output=True, text=True)

    assert health().returncode == 0, health().stderr
    server.stop()
    assert health().returncode == 1


def test_prometheus_scrapes_with_its_key(server: Server, credentials: Path, promtool: Path, tmp_path: Path) -> None:
    text = (COMPOSE / "prometheus.yaml").read_text()
    text = text.replace("/etc/prometheus/credentials", str(credentials / "prometheus"))
    text = text.replace("shortlist:50053", f"localhost:{port(server, 'metrics')}").replace(": 15s", ": 1s")
    shutil.copy(DEPLOY / "prometheus/alerts.yaml", tmp_path)
    (tmp_path / "prometheus.yaml").write_text(text)
    run(promtool, "check", "config", tmp_path / "prometheus.yaml")

    log = tmp_path / "log"
    options = ["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
    with log.open("wb") as file:
        prometheus = subprocess.Popen([promtool.parent / "prometheus", *options], cwd=tmp_path, stderr=file)

    def up() -> list[Any]:
        assert prometheus.poll() is None, log.read_text()
        address = re.search(r'Listening on" address=(\S+)', log.read_text())
        if not address:
            return []
        answer = requests.get(f"http://{address[1]}/api/v1/query?query=up", timeout=DEADLINE)
        # 503 until it has read its storage.
        return [series["value"][1] for series in answer.json()["data"]["result"]] if answer.ok else []

    try:
        wait_until("the first scrape", lambda: up() == ["1"])
    finally:
        prometheus.terminate()
        prometheus.wait(DEADLINE)


def test_grafana_finds_what_is_provisioned(compose: dict[str, Any]) -> None:
    mounts = dict(volume.split(":")[:2][::-1] for volume in compose["services"]["grafana"]["volumes"])
    (provider,) = yaml.safe_load((COMPOSE / "grafana/dashboards.yaml").read_text())["providers"]
    folder = COMPOSE / mounts[provider["options"]["path"]]
    assert json.loads((folder / "shortlist.json").read_text())["panels"]
    (source,) = yaml.safe_load((COMPOSE / "grafana/datasources.yaml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose["services"]
