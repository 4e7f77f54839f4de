"""cluster/compose.yaml: its schema, its references, its credentials, and its brokers, bucket and replicas for real."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import check_flags, needs_cluster
from conftest import DEADLINE, DEPLOY, REPOSITORY, Server, run, wait_until
from outside import Broker, free_ports, put, tool, variables
from secured import moved

COMPOSE = DEPLOY / "compose/cluster"
SHARDS = ["0/2", "1/2"]
BROKERS = ["nats-1", "nats-2", "nats-3"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


@pytest.fixture(scope="module")
def credentials(shortlist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cluster") / "credentials.d"
    environment = {"PATH": "/usr/bin:/bin", "SHORTLIST": str(shortlist)}
    run(COMPOSE / "credentials", folder, "search.example", env=environment)
    return folder


def settings(credentials: Path, server: str) -> dict[str, Any]:
    return tomllib.loads((credentials / server / "shortlist.toml").read_text())


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def test_it_is_valid() -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    run(checker, "--builtin-schema", "vendor.compose-spec", COMPOSE / "compose.yaml")


def test_what_it_names_is_there(compose: dict[str, Any], services: dict[str, Any], credentials: Path) -> None:
    used = set()
    for name, service in services.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("./credentials.d/"):
                assert (credentials / source.removeprefix("./credentials.d/")).is_dir(), name
            else:
                used.add(source)
        for file in service.get("env_file", []):
            assert (credentials / file.removeprefix("./credentials.d/")).is_file(), name
        assert set(service["networks"]) <= set(compose["networks"]), name
        assert set(service.get("depends_on", {})) <= set(services), name
        for other, needs in service.get("depends_on", {}).items():
            ends = services[other].get("entrypoint", [""])[0] == "/bin/sh"
            assert needs["condition"] == ("service_completed_successfully" if ends else "service_healthy"), (
                name,
                other,
            )
    assert used == set(compose["volumes"])


def test_paths_of_settings_are_mounted(services: dict[str, Any], credentials: Path) -> None:
    for name, server in (("shard-0-a", "replica"), ("router", "router")):
        text = (credentials / server / "shortlist.toml").read_text() + str(services[name])
        for file in re.findall(r"/etc/shortlist/([\w.-]+)", text):
            assert (credentials / server / file).is_file(), file
        assert "PASSWORD" not in text


def test_containers_have_no_rights(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        # Images have a version.
        assert "SHORTLIST_IMAGE" in service["image"] or re.search(r":\d+\.\d+", service["image"]), name


def test_only_the_router_is_open(compose: dict[str, Any], services: dict[str, Any]) -> None:
    assert compose["networks"]["inside"]["internal"]
    assert [name for name, service in services.items() if "ports" in service] == ["router"]
    assert [name for name, service in services.items() if service["networks"] != ["inside"]] == ["router"]


def test_two_replicas_of_each_shard(services: dict[str, Any], credentials: Path) -> None:
    shards: dict[str, list[str]] = {shard: [] for shard in SHARDS}
    for name, service in services.items():
        if service.get("command", [""])[0] == "serve":
            flags = dict(word.split("=") for word in service["command"][1:])
            shards[flags["--shard"]].append(name)
            assert flags["--advertise"] == f"{name}:50051"
            # A cache of its own.
            assert service["volumes"][0].split(":")[0] == name
    assert [len(names) for names in shards.values()] == [2, 2]
    certificate = run("openssl", "x509", "-in", credentials / "replica/replica.pem", "-noout", "-ext", "subjectAltName")
    assert set(re.findall(r"DNS:([\w-]+)", certificate)) == {name for names in shards.values() for name in names} | {
        "localhost"
    }
    for job in ("build", "rebuild"):
        tasks = [services[f"{job}-{shard}"]["environment"]["SHARD"] for shard in range(2)]
        assert [f"{task}/2" for task in tasks] == SHARDS


def test_other_users_cannot_read_the_credentials(credentials: Path) -> None:
    assert credentials.stat().st_mode & 0o077 == 0
    assert {file.stat().st_mode & 0o777 for file in (credentials / "clients").glob("*.key")} == {0o400}
    again = subprocess.run([COMPOSE / "credentials", credentials], capture_output=True)
    assert again.returncode != 0, "credentials that are in use are not replaced"


def test_the_commands_have_these_flags(services: dict[str, Any], shortlist: Path) -> None:
    needs_cluster(shortlist)
    for service in services.values():
        if service.get("command", [""])[0] in ("serve", "route"):
            check_flags(shortlist, service["command"])
        elif "entrypoint" in service and service["entrypoint"][0] == "/bin/sh":
            script = service["command"][0].replace("\\\n", " ")
            for call in re.findall(r"^ *(?:.*\|\| *)?shortlist (.+)$", script, flags=re.MULTILINE):
                check_flags(shortlist, call.split())


@pytest.fixture(scope="module")
def brokers(
    services: dict[str, Any], credentials: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[int, int]]]:
    """The three brokers, with ports of this machine for clients and for health."""
    program, folder = tool("nats-server"), tmp_path_factory.mktemp("nats")
    ports = free_ports(9)
    text = (credentials / "nats/nats.conf").read_text()
    for at, name in enumerate(BROKERS):
        text = text.replace(f"@{name}:6222", f"@127.0.0.1:{ports[at + 6]}")
    started = {}
    running = []
    for at, name in enumerate(BROKERS):
        own = text.replace("0.0.0.0:4222", f"127.0.0.1:{ports[at]}").replace(
            "0.0.0.0:6222", f"127.0.0.1:{ports[at + 6]}"
        )
        own = own.replace("127.0.0.1:8222", f"127.0.0.1:{ports[at + 3]}").replace("/data", str(folder / name))
        config = folder / f"{name}.conf"
        config.write_text(own)
        with (folder / f"{name}.log").open("wb") as log:
            running.append(
                subprocess.Popen([program, "--config", config], env=services[name]["environment"], stderr=log)
            )
        started[name] = (ports[at], ports[at + 3])
    yield started
    for process in running:
        process.kill()
        process.wait(DEADLINE)


def test_brokers_keep_three_copies_for_the_key_of_the_servers(
    services: dict[str, Any], brokers: dict[str, tuple[int, int]], credentials: Path
) -> None:
    for name, (_, http) in brokers.items():
        url = services[name]["healthcheck"]["test"][-1].replace(":8222", f":{http}")
        wait_until(f"the health of {name}", lambda url=url: healthy(url))
    (password,) = set(re.findall(r"//shortlist:(\w+)@", (credentials / "nats.env").read_text()))
    for server, section in (("replica", "cluster"), ("router", "route")):
        urls = settings(credentials, server)[section]["nats"]
        assert urls == [f"nats://shortlist:{password}@{name}:4222" for name in BROKERS]
        assert variables(credentials / "nats.env")["NATS"].split(",") == urls

    port = brokers["nats-2"][0]
    broker = Broker(port, "shortlist", password)
    replicas = settings(credentials, "replica")["cluster"]["nats_replicas"]
    stream = {"name": "shortlist-videos", "subjects": ["shortlist.videos.log"], "num_replicas": replicas}
    made = broker.request("$JS.API.STREAM.CREATE.shortlist-videos", stream)
    assert made["config"]["num_replicas"] == 3 and len(made["cluster"]["replicas"]) == 2, made
    for sequence in (1, 2):
        assert broker.request("shortlist.videos.log", {"n": sequence})["seq"] == sequence
    # A lost stream is made anew as docs/scaling.md says, above the last write that a replica has.
    assert broker.request("$JS.API.STREAM.DELETE.shortlist-videos", None)["success"]
    (text,) = re.findall(r"```json\n(.+?)```", (REPOSITORY / "docs/scaling.md").read_text(), flags=re.DOTALL)
    anew = json.loads(text)
    made = broker.request(f"$JS.API.STREAM.CREATE.{anew['name']}", anew)
    assert {key: made["config"][key] for key in anew} == anew
    assert broker.request(anew["subjects"][0], {})["seq"] == anew["first_seq"]
    presence = {"name": "KV_shortlist-videos-replicas", "subjects": ["$KV.shortlist-videos-replicas.>"]}
    assert "error" not in broker.request("$JS.API.STREAM.CREATE.KV_shortlist-videos-replicas", presence)
    assert broker.request("$KV.shortlist-videos-replicas.shard-0-a", {})["seq"] == 1
    with pytest.raises(PermissionError):
        broker.request("other.subject", {})
    broker.close()
    with pytest.raises(PermissionError):
        Broker(port, "shortlist", "wrong")


def test_the_bucket_refuses_a_second_creator(services: dict[str, Any], credentials: Path, tmp_path: Path) -> None:
    weed = tool("weed")
    service = services["bucket"]
    master, s3, volume, filer = free_ports(4)
    (tmp_path / "data").mkdir()
    # Those of gRPC are 10,000 higher unless they are named.
    grpc = dict(zip(("master", "volume", "filer", "s3"), free_ports(4), strict=True))
    arguments = [
        word.replace("/data", str(tmp_path / "data"))
        .replace("/etc/seaweedfs", str(credentials / "bucket"))
        .replace("-ip=bucket", "-ip=127.0.0.1")
        .replace("=0.0.0.0", "=127.0.0.1")
        .replace("-s3.port=8333", f"-s3.port={s3}")
        for word in service["command"]
    ]
    arguments += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    arguments += [f"-{name}.port.grpc={port}" for name, port in grpc.items()]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([weed, *arguments], cwd=tmp_path, stdout=log, stderr=log)
    try:
        url = service["healthcheck"]["test"][-1].replace(":8333", f":{s3}")
        wait_until("the health of the bucket", lambda: healthy(url))
        maker = services["bucket-name"]
        script = maker["command"][0].replace("bucket:9333", f"127.0.0.1:{master}.{grpc['master']}")
        environment = {"PATH": f"{weed.parent}:/usr/bin:/bin"}

        def made() -> bool:
            command = [*maker["entrypoint"], script]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE)
            return done.returncode == 0

        # The first volume may take a moment; the second time there is nothing to do.
        wait_until("the bucket", made)
        assert made()
        key = variables(credentials / "bucket.env")
        location = settings(credentials, "replica")["indexes"]["videos"]
        path = location.removeprefix("s3:/") + "/map-00000001.json"
        once = {"If-None-Match": "*"}
        assert put(f"127.0.0.1:{s3}", path, key, once) == 200
        assert put(f"127.0.0.1:{s3}", path, key, once) == 412
        assert put(f"127.0.0.1:{s3}", "/other/object", key, {}) == 403
        wrong = {**key, "AWS_SECRET_ACCESS_KEY": "wrong"}
        assert put(f"127.0.0.1:{s3}", path, wrong, {}) == 403
    finally:
        process.kill()
        process.wait(DEADLINE)


def test_the_health_check_follows_a_replica(
    services: dict[str, Any],
    serve: Callable[..., Server],
    credentials: Path,
    shortlist: Path,
    built: Path,
    tmp_path: Path,
) -> None:
    """With a folder in place of the bucket and the brokers."""
    index = tmp_path / "videos"
    shutil.copytree(built, index)
    text = (credentials / "replica/shortlist.toml").read_text()
    text = re.sub(r"\[cluster\]\n(.+\n)+", "", text)
    server = serve(
        'memory = "mapped"\n' + moved(text, {"s3://shortlist/videos": index, "/etc/shortlist": credentials / "replica"})
    )
    port = server.address.rpartition(":")[2]

    def ends_well(*arguments: str, token: str = "") -> bool:
        environment = {"SHORTLIST_TOKEN": token} if token else {}
        return subprocess.run([shortlist, *arguments], env=environment, capture_output=True).returncode == 0

    def health() -> bool:
        kind, name, *arguments = services["shard-0-a"]["healthcheck"]["test"]
        assert (kind, name) == ("CMD", "shortlist")
        replaced = [word.replace("/etc/shortlist", str(credentials / "replica")) for word in arguments]
        return ends_well(*(word.replace(":50051", f":{port}") for word in replaced))

    wait_until("the health of the replica", health)

    # What the router has opens the replica; what clients have does not.
    route = settings(credentials, "router")["route"]
    file = {key: str(credentials / "router" / Path(path).name) for key, path in route.items() if "/etc/" in path}
    address = ["--addr", f"https://localhost:{port}", "--ca", file["ca"]]
    shown = ["--cert", file["certificate"], "--key", file["certificate_key"]]
    token = Path(file["key_file"]).read_text()
    assert ends_well("status", *address, *shown, token=token)
    ranking = (credentials / "clients/ranking.key").read_text()
    assert not ends_well("status", *address, *shown, token=ranking)
    assert not ends_well("status", *address, token=token)

    (generation,) = index.glob("generation-*")
    os.truncate(generation, 0)
    wait_until("the health check to fail", lambda: not health())
