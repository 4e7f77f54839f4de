"""The dashboard follows the schema of Grafana, says what each panel is for, and every query of it finds data.

A real Prometheus scrapes a real server that went through what the panels show.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from conftest import DEPLOY, REPOSITORY, Key, Prometheus, Server, run, wait_until
from stage import SEARCH, Stage, repeated, search, sessions_from, short_config

DASHBOARD = json.loads((DEPLOY / "grafana" / "shortlist.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Fields of the Prometheus plugin, which the schema of dashboards leaves open.
OF_PLUGIN = {"step", "titleFormat", "textFormat", "useValueForTime", "definition"}


def queries() -> Iterator[tuple[str, str]]:
    """Names and expressions of all queries: panels, annotations and variables."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]


def differences(written: Any, known: Any, path: str = "") -> Iterator[str]:
    """Where what was written differs from what the schema knows of it."""
    if isinstance(written, dict) and isinstance(known, dict):
        for name in written.keys() - OF_PLUGIN:
            if name in known:
                yield from differences(written[name], known[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(written, list) and isinstance(known, list) and len(written) == len(known):
        for at, (one, other) in enumerate(zip(written, known, strict=True)):
            yield from differences(one, other, f"{path}[{at}]")
    elif written != known:
        yield f"{path}: {written!r}, {known!r}"


def test_the_schema_knows_every_field() -> None:
    register_default_plugins()
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert list(differences(DASHBOARD, known)) == []


def test_panels_have_a_place_a_description_and_a_unit() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_links_to_sections_exist() -> None:
    page = (REPOSITORY / "docs" / "operating.md").read_text()
    anchors = {line.lstrip("#").strip().lower() for line in page.splitlines() if line.startswith("#")}
    for anchor in re.findall(r"docs/operating\.md#(\w+)", json.dumps(DASHBOARD)):
        assert anchor in anchors


@pytest.fixture(scope="module")
def watched(
    start_prometheus: Callable[..., Prometheus],
    shortlist: Path,
    build: Callable[..., None],
    built: Path,
    catalog: Path,
    key: Key,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Prometheus, Server, float]]:
    """A Prometheus, a server that shows something in every panel, and when that began."""
    folder = tmp_path_factory.mktemp("dashboard")
    prometheus = start_prometheus(short_config(folder, key), 1)

    def new_key(name: str, *roles: str) -> Key:
        made = json.loads(run(shortlist, "key", "--name", name, *(f"--role={role}" for role in roles), "--json"))
        lines = f'[[keys]]\nname = "{name}"\nsha256 = "{made["sha256"]}"\nroles = {json.dumps(roles)}\n'
        return Key(made["key"], lines)

    everything = new_key("operator", "read", "write", "takedown", "admin")
    limited = new_key("limited", "read")
    settings = f"""
poll_interval = "100ms"
threads = 1
audit = "off"
recall_sample = 1.0
slow_search_threshold = "1us"
memory = "resident"
scrub_bytes_per_second = 1000000000
[connections]
max_connections_per_peer = 8
[indexes]
videos = "{folder}/index"
{key.settings}
{everything.settings}
{limited.settings}limits = {{ max_searches_per_second = 1 }}
"""
    index = shutil.copytree(built, folder / "index")
    server = Server(shortlist, folder / "server", settings, everything.token, prometheus.address()).start()
    try:
        prometheus.wait_for(server)
        began = time.time()
        show_everything(
            Stage(lambda *_: server, build, prometheus, shortlist, built, catalog, key, folder), server, index, limited
        )
        yield prometheus, server, began
    finally:
        server.kill()


def show_everything(stage: Stage, server: Server, index: Path, limited: Key) -> None:
    """Causes what the panels show: calls, refusals, writes, publications, rebuilds."""
    users = stage.users(400)
    plans = [
        {"plan": "PLAN_GRAPH", "targetRecall": 0.95},
        {"exact": True},
        {"plan": "PLAN_CODE_SCAN"},
    ]

    def call(session: requests.Session) -> None:
        for number, user in enumerate(users[:30]):
            request = {"vector": {"values": user}, "k": 10, "params": plans[number % len(plans)]}
            assert server.post(SEARCH, request, session=session).ok
        # Too few matches, a deadline that is over, an index that does not exist.
        server.post(SEARCH, search(filterText='region = "XX"'), session=session)
        server.post(
            SEARCH, search(5_000, params={"efSearch": 20_000, "plan": "PLAN_GRAPH"}), {"grpc-timeout": "400u"}, session
        )
        server.post("/v1/indexes/none:search", search(), session=session)
        for credential in (f"Bearer {limited.token}", "Bearer 1234", ""):
            for path in (SEARCH, "/v1/indexes/videos:rebuild"):
                # On a connection of its own: the server closes one whose request it does not read to its end.
                server.post(path, search() if path == SEARCH else {}, {"authorization": credential})

    def connect(_: requests.Session) -> None:
        with sessions_from("127.0.0.2") as kept, pytest.raises(requests.ConnectionError):
            for _connection in range(9):
                server.post(SEARCH, search(), session=kept())

    np.save(stage.folder / "ids.npy", np.arange(1, 601))
    videos: list[str | Path] = ["--embeddings", stage.catalog / "videos_test.npy", "--ids", stage.folder / "ids.npy"]
    with repeated(call), repeated(connect):
        server.write_config(server.settings.replace('name = "limited"', 'name = "other"'))
        server.command("upsert", *videos)
        server.command("takedown", "1")
        server.command("rebuild", "--follow")
        server.command("upsert", *videos)
        stage.build(index, "--training-queries", stage.catalog / "users_train.npy")
        part = stage.folder / "part"
        run(stage.shortlist, "synth", "--videos", "1000", "--dim", "32", "--out", part)
        run(stage.shortlist, "build", "--embeddings", part / "videos.npy", "--out", index)
        wait_until(
            "an alert",
            lambda: stage.prometheus.query('ALERTS{alertstate="firing", alertname="ShortlistPublicationRefused"}'),
        )


@pytest.mark.parametrize(("name", "expression"), list(queries()), ids=[name for name, _ in queries()])
def test_a_query_finds_data(name: str, expression: str, watched: tuple[Prometheus, Server, float]) -> None:
    prometheus, server, began = watched
    variables = {"$__rate_interval": "2s", "$instance": re.escape(server.address), "$index": "videos"}
    for variable, value in variables.items():
        expression = expression.replace(variable, value.replace("\\", "\\\\"))
    assert "$" not in expression

    def finds_data() -> bool:
        span = {"start": str(began), "end": str(time.time()), "step": "0.2"}
        found = prometheus.get("query_range", query=expression, **span)["result"]
        return any(np.isfinite(float(value)) for series in found for _, value in series["values"])

    # The last scrape of what was shown may be due.
    wait_until(f"data of {name}", finds_data, 10)


@pytest.mark.parametrize(
    "variable", [v for v in DASHBOARD["templating"]["list"] if v["type"] == "query"], ids=lambda v: v["name"]
)
def test_a_variable_has_values(variable: dict[str, Any], watched: tuple[Prometheus, Server, float]) -> None:
    prometheus, server, _ = watched
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
    selector = selector.replace("$instance", re.escape(server.address).replace("\\", "\\\\"))
    values = {series["metric"][label] for series in prometheus.query(selector)}
    assert values == {"instance": {server.address}, "index": {"videos"}}[variable["name"]]


def test_every_metric_exists(watched: tuple[Prometheus, Server, float]) -> None:
    """Each name of the rules and of the dashboard is in the scrape of a server."""
    prometheus, _, _ = watched
    texts = [expression for _, expression in queries()] + [(DEPLOY / "prometheus" / "alerts.yaml").read_text()]
    names = {name for text in texts for name in re.findall(r"\b(?:shortlist|process)_\w+", text)}
    assert len(names) > 50
    assert names - set(prometheus.get("label/__name__/values")) == set()
