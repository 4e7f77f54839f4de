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

from commands import check_flags, needs_commands
from conftest import DEADLINE, DEPLOY, REPOSITORY, Server, free_ports, run, wait_until
from outside import Broker, put, tool, variables
from secured import moved

COMPOSE = DEPLOY / "compose/cluster"
SHARDS = ["0/2", "1/2"]
BROKERS = ["nats-1", "nats-2", "nats-3"]
# A build of the dev profile on a busy machine.
MINUTES = 5 * 60.0


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
    for name, server in (("shard-0-a", "replica"), ("router", "router"), ("rebuild-0", "job"), ("rebuild-map", "job")):
        config = credentials / server / "shortlist.toml"
        text = str(services[name]) + (config.read_text() if server != "job" else "")
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
    needs_commands(shortlist, "cluster", "route")
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
    for server, section in (("replica", "cluster"), ("router", "route")):
        assert settings(credentials, server)[section]["nats"] == [f"nats://{name}:4222" for name in BROKERS]

    port = brokers["nats-2"][0]
    text = (credentials / "replica/nats.credentials").read_text()
    broker = Broker(port, text)
    replicas = settings(credentials, "replica")["cluster"]["nats_replicas"]
    # Not the index of the other tests: the servers' user cannot delete streams.
    stream = {"name": "shortlist-first", "subjects": ["shortlist.first.log"], "num_replicas": replicas}
    made = broker.request("$JS.API.STREAM.CREATE.shortlist-first", stream)
    assert made["config"]["num_replicas"] == 3 and len(made["cluster"]["replicas"]) == 2, made
    for sequence in (1, 2):
        assert broker.request("shortlist.first.log", {"n": sequence})["seq"] == sequence
    # A lost stream is made anew as docs/scaling.md says, above the last write that a replica has.
    (stream_of_docs,) = re.findall(r"```json\n(.+?)```", (REPOSITORY / "docs/scaling.md").read_text(), flags=re.DOTALL)
    anew = json.loads(stream_of_docs.replace("videos", "anew"))
    made = broker.request(f"$JS.API.STREAM.CREATE.{anew['name']}", anew)
    assert {key: made["config"][key] for key in anew} == anew
    assert broker.request(anew["subjects"][0], {})["seq"] == anew["first_seq"]
    presence = {"name": "KV_shortlist-first-replicas", "subjects": ["$KV.shortlist-first-replicas.>"]}
    assert "error" not in broker.request("$JS.API.STREAM.CREATE.KV_shortlist-first-replicas", presence)
    assert broker.request("$KV.shortlist-first-replicas.shard-0-a", {})["seq"] == 1
    broker.close()
    for subject in ("other.subject", "$JS.API.STREAM.DELETE.shortlist-first"):
        broker = Broker(port, text)
        with pytest.raises(PermissionError):
            broker.request(subject, None)
        broker.close()
    with pytest.raises(PermissionError):
        # Another user, who was not signed.
        seed = re.search(r"SU[A-Z2-7]{56}", text)
        assert seed
        Broker(port, text.replace(seed[0], "SUAA" + "B" * 54))


@pytest.fixture(scope="module")
def bucket(
    services: dict[str, Any], credentials: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, str]]:
    """The bucket: its port on this machine, and the address of its master."""
    weed, folder = tool("weed"), tmp_path_factory.mktemp("bucket")
    service = services["bucket"]
    names = ("master", "volume", "filer", "s3")
    ports = dict(zip(names, free_ports(4), strict=True))
    # Those of gRPC are 10,000 higher unless they are named.
    grpc = dict(zip(names, free_ports(4), strict=True))
    (folder / "data").mkdir()
    arguments = [
        word.replace("/data", str(folder / "data"))
        .replace("/etc/seaweedfs", str(credentials / "bucket"))
        .replace("-ip=bucket", "-ip=127.0.0.1")
        .replace("=0.0.0.0", "=127.0.0.1")
        for word in service["command"]
        if not word.startswith("-s3.port=")
    ]
    arguments += [f"-{name}.port={port}" for name, port in ports.items()]
    arguments += [f"-{name}.port.grpc={port}" for name, port in grpc.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([weed, *arguments], cwd=folder, stdout=log, stderr=log)
    try:
        url = service["healthcheck"]["test"][-1].replace(":8333", f":{ports['s3']}")
        wait_until("the health of the bucket", lambda: healthy(url))
        yield ports["s3"], f"127.0.0.1:{ports['master']}.{grpc['master']}"
    finally:
        process.kill()
        process.wait(DEADLINE)


def test_the_bucket_refuses_a_second_creator(
    services: dict[str, Any], bucket: tuple[int, str], credentials: Path
) -> None:
    port, master = bucket
    maker = services["bucket-name"]
    script = maker["command"][0].replace("bucket:9333", master)
    environment = {"PATH": f"{tool('weed').parent}:/usr/bin:/bin"}

    def made() -> bool:
        command = [*maker["entrypoint"], script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE)
        return done.returncode == 0

    # The first volume may take a moment; the second time there is nothing to do.
    wait_until("the bucket", made)
    assert made()
    key = variables(credentials / "bucket.env")
    location = settings(credentials, "replica")["indexes"]["videos"]
    path = location.removeprefix("s3:/") + "/test.json"
    once = {"If-None-Match": "*"}
    assert put(f"127.0.0.1:{port}", path, key, once) == 200
    assert put(f"127.0.0.1:{port}", path, key, once) == 412
    assert put(f"127.0.0.1:{port}", "/other/object", key, {}) == 403
    wrong = {**key, "AWS_SECRET_ACCESS_KEY": "wrong"}
    assert put(f"127.0.0.1:{port}", path, wrong, {}) == 403


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


class Cluster:
    """The services of compose.yaml as processes of this machine, with ports of this machine for their names."""

    def __init__(
        self,
        services: dict[str, Any],
        shortlist: Path,
        folder: Path,
        credentials: Path,
        brokers: dict[str, tuple[int, int]],
        bucket: tuple[int, str],
    ) -> None:
        self.services, self.shortlist, self.folder, self.credentials = services, shortlist, folder, credentials
        names = [name for name, service in services.items() if service.get("command", [""])[0] in ("serve", "route")]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.addresses = {f"{name}:4222": f"127.0.0.1:{port}" for name, (port, _) in brokers.items()}
        self.addresses["bucket:8333"] = f"127.0.0.1:{bucket[0]}"
        # The certificates of replicas are for `localhost`, too.
        self.addresses |= {f"{name}:50051": f"localhost:{port}" for name, port in self.ports.items()}
        self.running: list[subprocess.Popen[bytes]] = []

    def here(self, text: str, server: str = "") -> str:
        """The text with addresses and folders of this machine."""
        for name, address in self.addresses.items():
            text = text.replace(name, address)
        if server:
            text = text.replace("/etc/shortlist", str(self.credentials / server))
        return text

    def environment(self, name: str) -> dict[str, str]:
        service = self.services[name]
        found = {key: self.here(value) for key, value in service.get("environment", {}).items()}
        for file in service.get("env_file", []):
            named = variables(self.credentials / file.removeprefix("./credentials.d/"))
            found |= {key: self.here(value) for key, value in named.items()}
        return {**found, "PATH": f"{self.shortlist.parent}:/usr/bin:/bin"}

    def job(self, name: str) -> str:
        """Runs a job to its end, in the folder that jobs share."""
        service = self.services[name]
        # Compose reads `$$` as `$`.
        script = service["command"][0].replace("$$", "$")
        command = [*service["entrypoint"], self.here(script, "job")]
        return run(*command, env=self.environment(name), cwd=self.folder, timeout=MINUTES)

    def start(self, name: str, server: str) -> None:
        """Starts a server, and waits until its health check succeeds."""
        service = self.services[name]
        folder = self.folder / name
        folder.mkdir()
        config = folder / "shortlist.toml"
        text = self.here((self.credentials / server / "shortlist.toml").read_text(), server)
        # The name of the host, which containers have of their own.
        text = text.replace("[cluster]\n", f'[cluster]\nreplica = "{name}"\n')
        config.write_text(moved(text.replace("/var/lib/shortlist", str(folder)), {}))
        arguments = [self.here(word) for word in service["command"] if not word.startswith("--config=")]
        arguments += ["--config", str(config), "--listen", f"127.0.0.1:{self.ports[name]}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([self.shortlist, *arguments], env=self.environment(name), stdout=log, stderr=log)
        self.running.append(process)
        _, _, *check = service["healthcheck"]["test"]
        check = [self.here(word, server).replace("localhost:50051", f"localhost:{self.ports[name]}") for word in check]

        def is_healthy() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            return subprocess.run([self.shortlist, *check], env={}, capture_output=True).returncode == 0

        wait_until(f"the health of {name}", is_healthy, MINUTES)

    def call(self, command: str, key: str, *arguments: str | Path) -> str:
        """Calls the router with a key of a client."""
        address = ["--addr", f"https://localhost:{self.ports['router']}"]
        address += ["--ca", str(self.credentials / "clients/authority.pem")]
        token = (self.credentials / "clients" / f"{key}.key").read_text()
        return run(self.shortlist, command, *address, *arguments, env={"SHORTLIST_TOKEN": token})

    def stop(self) -> None:
        for process in self.running:
            process.kill()
            process.wait(DEADLINE)


@pytest.fixture(scope="module")
def cluster(
    services: dict[str, Any],
    shortlist: Path,
    catalog: Path,
    credentials: Path,
    brokers: dict[str, tuple[int, int]],
    bucket: tuple[int, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """The jobs have run, and the replicas are healthy. Call it after the tests of brokers and bucket."""
    needs_commands(shortlist, "cluster")
    made = Cluster(services, shortlist, tmp_path_factory.mktemp("cluster") / "jobs", credentials, brokers, bucket)
    made.folder.mkdir()
    (made.folder / "sample").symlink_to(catalog)
    try:
        for job in ("build-0", "build-1", "map"):
            made.job(job)
            # The second time there is nothing to do.
            made.job(job)
        for name, service in services.items():
            if service.get("command", [""])[0] == "serve":
                made.start(name, "replica")
        yield made
    finally:
        made.stop()


def status(cluster: Cluster) -> dict[str, Any]:
    """What `cluster status` prints, with the settings of the jobs."""
    command = ["cluster", "status", "--at", "s3://shortlist/videos", "--index", "videos", "--json"]
    command += ["--nats", ",".join(cluster.here(f"nats://{name}:4222") for name in BROKERS)]
    command += ["--nats-credentials", str(cluster.credentials / "job/nats.credentials")]
    found: dict[str, Any] = json.loads(run(cluster.shortlist, *command, env=cluster.environment("rebuild-0")))
    return found


def test_replicas_serve_and_announce_themselves(cluster: Cluster) -> None:
    wait_until("the replicas", lambda: len(status(cluster)["replicas"]) == 4)
    assert status(cluster)["map"]["shards"] == 2 and status(cluster)["map"]["epoch"] == 1


def test_the_router_answers_as_one_server_does(cluster: Cluster, shortlist: Path, catalog: Path) -> None:
    needs_commands(shortlist, "route")
    cluster.start("router", "router")
    query = ["--vector", catalog / "users_test.npy", "-k", "10", "--json"]
    found = json.loads(cluster.call("query", "ranking", *query))
    assert len(found["candidates"]) == 10
    assert found["coverage"]["shardsTotal"] == found["coverage"]["shardsAnswered"] == 2
    first = found["candidates"][0]["videoId"]
    cluster.call("takedown", "operator", first)
    again = json.loads(cluster.call("query", "ranking", *query))
    assert first not in [candidate["videoId"] for candidate in again["candidates"]]
    assert len(again["candidates"]) == 10


def test_jobs_rebuild_every_shard(cluster: Cluster) -> None:
    epoch = status(cluster)["map"]["epoch"]
    for job in ("rebuild-0", "rebuild-1", "rebuild-map"):
        cluster.job(job)
    after = status(cluster)
    assert after["map"]["epoch"] == epoch + 1
    assert [shard["newest"]["generation"] for shard in after["shards"]] == [2, 2]
