"""Each alert of a cluster fires when its condition is caused on real servers, and resolves when the cause is gone.

As in `test_alerts.py`, with brokers, a bucket, replicas of two shards, and a router.
"""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import requests
import yaml

from commands import needs_commands
from conftest import DEADLINE, DEPLOY, Key, Prometheus, Server, free_ports, run, wait_until
from outside import tool
from stage import FAST, SEARCH, repeated, search, short_config

RULES = yaml.safe_load((DEPLOY / "prometheus" / "cluster.rules.yaml").read_text())
UPSERT = "/v1/indexes/videos/videos:upsert"


class Broker:
    """A server of NATS with JetStream. A restart keeps its address and its streams."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> "Broker":
        command = [tool("nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", self.folder]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE)
            self.process = None


class Cluster:
    """What a scenario may use: a bucket with both shards and their map, a broker, and a Prometheus."""

    def __init__(self, serve: Callable[..., Server], prometheus: Prometheus, bucket: Path, folder: Path) -> None:
        self.serve, self.prometheus, self.folder = serve, prometheus, folder
        self.bucket = shutil.copytree(bucket, folder / "bucket")
        self.brokers: list[Broker] = []
        self.broker = self.another_broker()
        self.replicas = 0

    def another_broker(self) -> Broker:
        self.brokers.append(Broker(self.folder / f"nats-{len(self.brokers)}").start())
        return self.brokers[-1]

    def replica(self, shard: str, broker: Broker | None = None) -> Server:
        """A replica that Prometheus scrapes."""
        self.replicas += 1
        name, address = f"replica-{self.replicas}", self.prometheus.address()
        settings = f"""{FAST}threads = 1
[indexes]
videos = "file://{self.bucket}"
[cluster]
cache = "{self.folder / name}"
shard = "{shard}"
nats = ["{(broker or self.broker).url}"]
nats_replicas = 1
advertise = "{address}"
replica = "{name}"
"""
        server = self.serve(settings, address=address)
        self.prometheus.wait_for(server)
        return server

    def router(self) -> Server:
        """A router that Prometheus scrapes, once it has found the replicas."""
        settings = f"""{FAST}[route]
nats = ["{self.broker.url}"]
[route.maps]
videos = "file://{self.bucket}"
"""
        server = self.serve(settings, address=self.prometheus.address(), mode="route")
        self.prometheus.wait_for(server)
        wait_until("an answer of both shards", lambda: shards(server) == 2)
        return server


# Each scenario is a generator. It yields the server that the alert is about twice: once the cause is there, and once it
# is gone.
Scenario = Generator[Server, None, None]


def shards(router: Server) -> int:
    answer = router.post(SEARCH, search())
    return int(answer.json()["coverage"].get("shardsAnswered", 0)) if answer.ok else 0


def upsert(server: Server, first: int, count: int = 100, value: float = 1.0) -> None:
    """Writes videos, whose embeddings are of this value."""
    vector = {"values": [value] * 32}
    videos = [{"videoId": str(video), "vector": vector} for video in range(first, first + count)]
    answer = server.post(UPSERT, {"videos": videos})
    assert answer.ok, answer.text


def broker_killed(cluster: Cluster) -> Scenario:
    replica = cluster.replica("0/2")
    cluster.broker.stop()
    yield replica
    cluster.broker.start()
    yield replica


def bucket_removed(cluster: Cluster) -> Scenario:
    replica = cluster.replica("0/2")
    away = cluster.bucket.rename(cluster.folder / "away")
    yield replica
    shutil.rmtree(cluster.bucket, ignore_errors=True)
    away.rename(cluster.bucket)
    yield replica


def one_replica_lost(cluster: Cluster) -> Scenario:
    one, *_ = (cluster.replica(shard) for shard in ("0/2", "0/2", "1/2", "1/2"))
    router = cluster.router()
    one.kill()
    yield router
    one.start()
    yield router


def all_replicas_of_a_shard_lost(cluster: Cluster) -> Scenario:
    one, _ = (cluster.replica(shard) for shard in ("0/2", "1/2"))
    router = cluster.router()
    with repeated(lambda session: router.post(SEARCH, search(), session=session)):
        one.kill()
        yield router
        one.start()
        yield router


def a_replica_that_pauses(cluster: Cluster) -> Scenario:
    one, _, _ = (cluster.replica(shard) for shard in ("0/2", "0/2", "1/2"))
    router = cluster.router()

    def pause(_: requests.Session) -> None:
        # As a collection of garbage does, or a neighbour on the machine.
        assert one.process is not None
        one.process.send_signal(signal.SIGSTOP)
        time.sleep(0.03)
        one.process.send_signal(signal.SIGCONT)
        time.sleep(0.07)

    with repeated(lambda session: router.post(SEARCH, search(), session=session), 4):
        with repeated(pause):
            yield router
        yield router


def other_messages(cluster: Cluster) -> Scenario:
    """Two streams in place of one, with as many messages."""
    another = cluster.another_broker()
    first, second = cluster.replica("0/2"), cluster.replica("1/2", another)
    for server, value in ((first, 1.0), (second, 2.0)):
        for batch in range(4):
            upsert(server, 1 + 100 * batch, value=value)
    yield first
    second.kill()
    yield first


SCENARIOS: dict[Callable[[Cluster], Scenario], list[str]] = {
    broker_killed: ["ShortlistLogUnreachable"],
    bucket_removed: ["ShortlistBucketUnreachable"],
    one_replica_lost: ["ShortlistShardNotRedundant"],
    all_replicas_of_a_shard_lost: ["ShortlistShardUnavailable", "ShortlistCoverageLow"],
    a_replica_that_pauses: ["ShortlistHedgesNearBudget"],
    other_messages: ["ShortlistReplicasDiffer"],
}
# The alert is about the index, and not about one server.
OF_THE_INDEX = {"ShortlistReplicasDiffer"}
# It fires while a replica applies writes more slowly than they come, which no test brings about. Its rule has a test in
# `test_cluster_rules.py`, and how a replica knows has one in `tests/cluster/stream.rs`.
NOT_CAUSED = {"ShortlistReplicaBehind"}


def test_every_alert_has_a_scenario() -> None:
    caused = {alert for alerts in SCENARIOS.values() for alert in alerts}
    assert caused | NOT_CAUSED == {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}


@pytest.fixture(scope="module")
def bucket(shortlist: Path, build: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards and their map. Copy it; do not change it."""
    needs_commands(shortlist, "cluster", "route")
    folder = tmp_path_factory.mktemp("bucket") / "bucket"
    for shard in ("0/2", "1/2"):
        build(f"file://{folder}", "--shard", shard)
    run(shortlist, "cluster", "apply", "--at", f"file://{folder}", "--shards", "2")
    return folder


@pytest.fixture
def cluster(
    serve: Callable[..., Server],
    start_prometheus: Callable[..., Prometheus],
    bucket: Path,
    key: Key,
    tmp_path: Path,
) -> Iterator[Cluster]:
    rules = tmp_path / "rules"
    rules.mkdir()
    # Five servers at most. A Prometheus for each: alerts compare all replicas of an index.
    prometheus = start_prometheus(short_config(rules, key, rules_of=RULES), 5)
    made = Cluster(serve, prometheus, bucket, tmp_path)
    yield made
    for broker in made.brokers:
        broker.stop()
    prometheus.stop()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_alerts_fire_and_resolve(scenario: Callable[[Cluster], Scenario], cluster: Cluster) -> None:
    expected = set(SCENARIOS[scenario])
    steps = scenario(cluster)
    server = next(steps)

    def firing() -> set[str]:
        found = set()
        for alert in cluster.prometheus.alerts():
            labels = alert["labels"]
            is_about = labels.get("instance") == server.address or labels["alertname"] in OF_THE_INDEX
            if alert["state"] == "firing" and is_about:
                texts = " ".join(alert["annotations"].values())
                assert "<no value>" not in texts and "error expanding" not in texts and "%!" not in texts, texts
                found.add(labels["alertname"])
        return found

    seen: set[str] = set()

    def all_fired() -> bool:
        seen.update(firing())
        return expected <= seen

    wait_until(f"{expected} to fire", all_fired)
    next(steps)
    wait_until(f"{expected} to resolve", lambda: not expected & firing())
    steps.close()
