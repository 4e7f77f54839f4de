"""Each alert fires when its condition is caused on a real server, and resolves when the cause is gone.

A real Prometheus evaluates the rules with shorter durations (`durations.py`) and scrapes five times a second. The real
durations and thresholds are tested in `test_prometheus.py`.
"""

import resource
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import yaml

from conftest import DEPLOY, Key, Prometheus, Server, run, wait_until
from secured import write_certificate
from stage import RULES, SEARCH, Stage, repeated, search, sessions_from, short_config

# Each scenario is a generator. It yields a server twice: once the cause is there, and once the cause is gone.
Scenario = Generator[Server, None, None]


def killed(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy())
    server.kill()
    yield server
    server.start()
    yield server


def restarts_again_and_again(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy())
    started = f'process_start_time_seconds{{instance="{server.address}"}}'

    def restart(_: requests.Session) -> None:
        before = stage.prometheus.value(started)
        server.kill()
        server.start()
        wait_until("the scrape of the new process", lambda: stage.prometheus.value(started) not in (None, before))

    with repeated(restart):
        yield server
    yield server


def overwritten_generation(stage: Stage) -> Scenario:
    index = stage.copy()
    server = stage.watched(index, 'memory = "mapped"\nscrub_bytes_per_second = 1000000000')
    (generation,) = index.glob("generation-*.index")
    with generation.open("r+b") as file:
        file.seek(generation.stat().st_size // 2)
        bytes_before = file.read(4096)
        file.seek(-4096, 1)
        file.write(bytes(byte ^ 0xFF for byte in bytes_before))
    yield server
    stage.build(index, "--training-queries", stage.catalog / "users_train.npy")
    # The count of differences begins anew.
    server.stop()
    server.start()
    yield server


def removed_folder(stage: Stage) -> Scenario:
    index = stage.copy()
    server = stage.watched(index)
    away = index.rename(index.with_name("away"))
    yield server
    away.rename(index)
    yield server


def limit_file_descriptors(server: Server, free: int) -> Callable[[], None]:
    """Lowers the limit of a running server to what is open and `free` more. The result undoes it."""
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    used = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + free, hard))

    def undo() -> None:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))

    return undo


def few_file_descriptors(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy())
    undo = limit_file_descriptors(server, 2)
    yield server
    undo()
    yield server


def no_file_descriptors(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy())
    with requests.Session() as session:

        def activate(code: int) -> Any:
            answer = server.post("/v1/indexes/videos:activate", {"generation": 1}, session=session)
            assert answer.status_code == code, answer.text

        activate(200)
        undo = limit_file_descriptors(server, 0)
        with repeated(lambda _: activate(500)):
            yield server
        undo()
        activate(200)
    yield server


def many_connections(stage: Stage) -> Scenario:
    # The scrapes have another address than these connections, and a place of their own.
    server = stage.watched(stage.copy(), "[connections]\nmax_connections = 10\nmax_connections_per_peer = 8")
    with sessions_from("127.0.0.2") as another:
        for _ in range(8):
            assert server.post(SEARCH, search(), session=another()).ok

        def refused(_: requests.Session) -> None:
            with sessions_from("127.0.0.2") as further, pytest.raises(requests.ConnectionError):
                server.post(SEARCH, search(), session=further())

        with repeated(refused):
            yield server
    yield server


def too_many_searches(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy(), "threads = 1\n[limits]\nmax_in_flight = 2\nmax_batch = 2")
    batch = {"requests": [search(5_000, params={"exact": True})] * 2}
    with repeated(lambda session: server.post("/v1/indexes/videos:batchSearch", batch, session=session), 8):
        yield server
    yield server


def more_searches_than_capacity(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy(), "threads = 1")
    # As expensive as a search of this catalog can be, with a short answer, so that the callers keep the server busy.
    vectors = [{"vector": {"values": user}} for user in stage.users(16)]
    params = {"efSearch": 20_000, "plan": "PLAN_GRAPH"}
    costly = {"interests": {"interests": vectors}, "k": 1, "params": params, "filterText": 'region != "XX"'}

    def call(session: requests.Session) -> requests.Response:
        answer = server.post(SEARCH, costly, session=session)
        assert answer.ok, answer.text
        return answer

    with requests.Session() as session:
        seconds = min(call(session).elapsed.total_seconds() for _ in range(5))
    # Each caller waits for all others: a second in total, on a machine of any speed.
    with repeated(lambda session: call(session), threads=min(512, int(1 / seconds) + 4)):
        yield server
    yield server


def short_deadlines(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy(), "threads = 1")
    params = {"efSearch": 20_000, "plan": "PLAN_GRAPH"}
    costly = search(1_000, params=params, filterText='region != "XX"', returnStats=True)

    def seconds(session: requests.Session) -> float:
        return float(server.post(SEARCH, costly, session=session).json()["stats"]["elapsed"].removesuffix("s"))

    with requests.Session() as session:
        full = sorted(seconds(session) for _ in range(21))[10]
    # Half of the time that the search takes on this machine.
    deadline = {"grpc-timeout": f"{round(1e6 * full / 2)}u"}
    with repeated(lambda session: server.post(SEARCH, costly, deadline, session)):
        yield server
    yield server


def large_answers(stage: Stage) -> Scenario:
    limits = "max_bytes_in_flight = 1048576\nmax_connection_bytes = 1048576\n"
    limits += "max_message_bytes = 65536\nmax_response_bytes = 524288"
    server = stage.watched(stage.copy(), f"[limits]\n{limits}")
    batch = {"requests": [search(500, params={"exact": True})] * 100}
    with repeated(lambda session: server.post("/v1/indexes/videos:batchSearch", batch, session=session), 8):
        yield server
    yield server


def part_of_the_catalog(stage: Stage) -> Scenario:
    index = stage.copy()
    server = stage.watched(index)
    part = stage.folder / "part"
    run(stage.shortlist, "synth", "--videos", "1000", "--dim", "32", "--out", part)
    run(stage.shortlist, "build", "--embeddings", part / "videos.npy", "--out", index)
    yield server
    stage.build(index, "--training-queries", stage.catalog / "users_train.npy")
    yield server


def old_generation_and_no_users(stage: Stage) -> Scenario:
    index = stage.folder / "index"
    stage.build(index)
    server = stage.watched(index)
    stage.build(index)
    yield server
    stage.build(index, "--training-queries", stage.catalog / "users_train.npy")
    yield server


def other_users(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy(), "recall_sample = 1.0")
    params = {"targetRecall": 0.95, "plan": "PLAN_GRAPH"}

    def send(queries: list[list[float]]) -> Callable[[requests.Session], None]:
        def work(session: requests.Session) -> None:
            for query in queries:
                request = {"vector": {"values": query}, "k": 10, "params": params}
                assert server.post(SEARCH, request, session=session).ok

        return work

    # Users that the build did not know: of no group of videos.
    with repeated(send(np.random.default_rng(1).normal(size=(300, 32)).tolist())):
        yield server
    # As after a build with these users. An activation begins the measurement anew.
    server.command("activate", "1")
    with repeated(send(stage.users(300))):
        yield server


def no_training_queries(stage: Stage) -> Scenario:
    users = stage.folder / "users.npy"
    shutil.copy(stage.catalog / "users_train.npy", users)
    server = stage.watched(stage.copy(), f'[rebuild.training_queries]\nvideos = "{users}"')
    users.rename(users.with_name("away.npy"))
    server.command("rebuild")
    yield server
    users.with_name("away.npy").rename(users)
    server.command("rebuild", "--follow")
    yield server


# The server does not rebuild by itself, and builds with one thread.
NO_REBUILDS = "[rebuild]\nthreads = 1\ndelta_share = 0.0\ndeleted_share = 0.0"


def index_and_videos(stage: Stage, videos: int, dim: int) -> tuple[Path, list[str | Path]]:
    """An index of 500 videos, and the files of other videos."""
    small, large, index = (stage.folder / name for name in ("small", "large", "index"))
    for folder, count, seed in ((small, 500, 1), (large, videos, 2)):
        run(stage.shortlist, "synth", *f"--videos={count} --dim={dim} --users=10 --seed={seed} --out".split(), folder)
    run(
        stage.shortlist, "build", "--embeddings", small / "videos.npy", "--ids", small / "video_ids.npy", "--out", index
    )
    return index, ["--embeddings", large / "videos.npy", "--ids", large / "video_ids.npy"]


def many_writes(stage: Stage) -> Scenario:
    index, videos = index_and_videos(stage, 24_000, 8)
    server = stage.watched(index, NO_REBUILDS)
    server.command("upsert", *videos)
    yield server
    server.command("rebuild", "--follow")
    yield server


def large_writes(stage: Stage) -> Scenario:
    """The entries are larger than 32 MiB, and the rebuild takes longer than the limit."""
    index, videos = index_and_videos(stage, 4_600, 2_048)
    backup = shutil.copytree(index, index.with_name("backup"))
    server = stage.watched(index, NO_REBUILDS)
    server.command("upsert", *videos)
    server.command("rebuild")
    yield server
    server.command("rebuild", "--cancel")
    # A rebuild of these videos takes longer than a test may.
    index.rename(index.with_name("away"))
    backup.rename(index)
    yield server


def another_model(stage: Stage) -> Scenario:
    index = stage.folder / "index"
    stage.build(index, "--embedding-model", "first")
    server = stage.watched(index)

    def upsert(model: str) -> None:
        video = {"videoId": "77", "vector": search()["vector"], "embeddingModel": model}
        answer = server.post("/v1/indexes/videos/videos:upsert", {"videos": [video]})
        assert answer.ok, answer.text

    upsert("first")
    stage.build(index, "--embedding-model", "second")
    yield server
    upsert("second")
    yield server


def wrong_keys(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy(), f'audit = "off"\n{stage.key.settings}', stage.key.token)

    def refused(_: requests.Session) -> None:
        # On a connection of its own: the server closes one whose request it does not read to its end.
        answer = server.post(SEARCH, search(), {"authorization": "Bearer 1234"})
        assert answer.status_code == 401, answer.text

    with repeated(refused):
        yield server
    yield server


def broken_configuration(stage: Stage) -> Scenario:
    server = stage.watched(stage.copy(), f'audit = "off"\n{stage.key.settings}', stage.key.token)
    server.write_config(server.settings + "\n[[keys]]\nname = 7\n")
    yield server
    server.write_config(server.settings)
    yield server


SCENARIOS: dict[Callable[[Stage], Scenario], list[str]] = {
    killed: ["ShortlistDown"],
    restarts_again_and_again: ["ShortlistCrashLooping"],
    overwritten_generation: ["ShortlistIndexNotServing", "ShortlistChecksumMismatch"],
    removed_folder: ["ShortlistIndexReadOnly"],
    few_file_descriptors: ["ShortlistFileDescriptorsNearLimit"],
    no_file_descriptors: ["ShortlistInternalErrors"],
    many_connections: ["ShortlistConnectionsNearLimit", "ShortlistConnectionsRefused"],
    too_many_searches: ["ShortlistSearchesRefused"],
    more_searches_than_capacity: ["ShortlistLatencyHigh"],
    short_deadlines: ["ShortlistAnswersCut"],
    large_answers: ["ShortlistMemoryRefused"],
    part_of_the_catalog: ["ShortlistPublicationRefused"],
    old_generation_and_no_users: ["ShortlistGenerationOld", "ShortlistGateMeasuredNothing"],
    other_users: ["ShortlistRecallLow"],
    no_training_queries: ["ShortlistRebuildFailed"],
    many_writes: ["ShortlistRebuildOverdue"],
    large_writes: ["ShortlistRebuildSlow", "ShortlistLogLarge"],
    another_model: ["ShortlistEntriesHeld"],
    wrong_keys: ["ShortlistAccessRefused"],
    broken_configuration: ["ShortlistReloadFailed"],
}


def test_every_alert_has_a_scenario() -> None:
    caused = [alert for alerts in SCENARIOS.values() for alert in alerts]
    assert sorted(caused) == sorted(rule["alert"] for group in RULES["groups"] for rule in group["rules"])


@pytest.fixture(scope="module")
def prometheus(
    start_prometheus: Callable[..., Prometheus], tmp_path_factory: pytest.TempPathFactory, key: Key
) -> Prometheus:
    return start_prometheus(short_config(tmp_path_factory.mktemp("rules"), key), len(SCENARIOS))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_alerts_fire_and_resolve(
    scenario: Callable[[Stage], Scenario],
    serve: Callable[..., Server],
    build: Callable[..., None],
    prometheus: Prometheus,
    shortlist: Path,
    built: Path,
    catalog: Path,
    key: Key,
    tmp_path: Path,
) -> None:
    expected = set(SCENARIOS[scenario])
    stage = Stage(serve, build, prometheus, shortlist, built, catalog, key, tmp_path)
    steps = scenario(stage)
    server = next(steps)

    def firing() -> dict[str, dict[str, Any]]:
        alerts = [alert for alert in prometheus.alerts() if alert["labels"].get("instance") == server.address]
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}

    seen: dict[str, dict[str, Any]] = {}

    def all_fired() -> bool:
        seen.update(firing())
        return expected <= seen.keys()

    wait_until(f"{expected} to fire", all_fired)
    for name in expected:
        annotations = seen[name]["annotations"]
        for text in annotations.values():
            assert "<no value>" not in text and "error expanding" not in text and "%!" not in text, annotations
    next(steps)
    wait_until(f"{expected} to resolve", lambda: not expected & firing().keys())
    steps.close()


def test_a_scrape_with_tls_and_a_key(
    serve: Callable[..., Server],
    start_prometheus: Callable[..., Prometheus],
    built: Path,
    key: Key,
    tmp_path: Path,
) -> None:
    """The job that is commented out in `prometheus.yaml` scrapes a server with TLS and keys."""
    write_certificate("127.1.0.1", tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    (tmp_path / "token").write_text(key.token)
    tls = f'[tls]\ncertificate = "{tmp_path}/server.pem"\nkey = "{tmp_path}/server.key"\n'
    text = (DEPLOY / "prometheus" / "prometheus.yaml").read_text()
    commented = text[text.index("  # - job_name") :]
    config = yaml.safe_load("scrape_configs:\n" + commented.replace("  # ", "  "))
    (job,) = config["scrape_configs"]
    job["authorization"]["credentials_file"] = str(tmp_path / "token")
    job["tls_config"]["ca_file"] = str(tmp_path / "ca.pem")
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
    prometheus = start_prometheus(config, 1)
    settings = f'audit = "off"\n[indexes]\nvideos = "{built}"\n{tls}{key.settings}'
    server = serve(settings, address=prometheus.address())
    prometheus.wait_for(server)
    assert prometheus.value(f'shortlist_serving{{job="shortlist", instance="{server.address}"}}') == 1


def test_a_healthy_day_fires_nothing(
    serve: Callable[..., Server],
    build: Callable[..., None],
    start_prometheus: Callable[..., Prometheus],
    shortlist: Path,
    built: Path,
    catalog: Path,
    key: Key,
    tmp_path: Path,
) -> None:
    """A server without traffic, and one with searches, writes, a publication, a rebuild and a client over its rate."""
    rules = tmp_path / "rules"
    rules.mkdir()
    prometheus = start_prometheus(short_config(rules, key, with_products=False), 2)
    stage = Stage(serve, build, prometheus, shortlist, built, catalog, key, tmp_path)
    stage.watched(built)
    index = stage.copy()
    busy = stage.watched(index, "recall_sample = 1.0\n[limits]\nmax_searches_per_second = 200")
    users = iter(stage.users(400) * 1_000)

    def send(session: requests.Session) -> None:
        answer = busy.post(SEARCH, {"vector": {"values": next(users)}, "k": 10}, session=session)
        assert answer.status_code in (200, 429), answer.text

    with repeated(send):
        np.save(tmp_path / "ids.npy", np.arange(1, 601))
        busy.command("upsert", "--embeddings", catalog / "videos_test.npy", "--ids", tmp_path / "ids.npy")
        busy.command("takedown", "1")
        busy.command("rebuild", "--follow")
        build(index, "--training-queries", catalog / "users_train.npy")
        wait_until("the publication", lambda: 'shortlist_generation{index="videos"} 3' in busy.metrics())
        # Every window and every `for` begins and ends after that.
        began = prometheus.value("vector(time())") or 0.0
        wait_until("all windows", lambda: (prometheus.value("vector(time())") or 0.0) > began + 10)
    assert 'refused_searches_total{reason="search_rate"}' in busy.metrics()
    assert prometheus.query('max_over_time(up{job="shortlist"}[1h]) == 1')
    # ShortlistDown fired for an address until a server was started there.
    of_servers = 'count_over_time(ALERTS{alertstate="firing", alertname!="ShortlistDown"}[1h])'
    assert prometheus.query(of_servers) == []
    assert prometheus.alerts() == []
