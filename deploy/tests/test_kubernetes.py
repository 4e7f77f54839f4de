"""The manifests: schemas, references, the restricted profile, and their settings and probes with a real server."""

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from conftest import DEPLOY, Server
from manifests import (
    KUBERNETES,
    VERSIONS,
    check_probes_follow,
    check_restricted,
    check_scrape_file,
    one,
    probed,
    rendered,
)
from secured import make_credentials, moved, port

VARIANTS = ["base", "mesh"]


@pytest.fixture(params=VARIANTS)
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return rendered(request.param)


@pytest.fixture
def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return one(objects, "StatefulSet")["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
def test_they_are_valid(objects: list[dict[str, Any]], version: str) -> None:
    secrets = yaml.safe_load_all((KUBERNETES / "base/secrets.example.yaml").read_text())
    for item in [*objects, *secrets]:
        kubernetes_validate.validate(item, version, strict=True)


def test_everything_is_in_the_namespace(objects: list[dict[str, Any]]) -> None:
    assert one(objects, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {item["metadata"].get("namespace") for item in objects if item["kind"] != "Namespace"} == {"shortlist"}


def test_the_pod_has_the_restricted_profile(pod: dict[str, Any]) -> None:
    check_restricted(pod)


def test_what_they_name_is_there(objects: list[dict[str, Any]], pod: dict[str, Any]) -> None:
    workload = one(objects, "StatefulSet")
    labels = workload["spec"]["template"]["metadata"]["labels"]
    (container,) = pod["containers"]
    ports = {item["name"]: item["containerPort"] for item in container["ports"]}
    config = tomllib.loads(one(objects, "ConfigMap")["data"]["shortlist.toml"])
    assert ports == {
        key: int(config[f"{listen}listen"].split(":")[1]) for key, listen in (("grpc", ""), ("metrics", "metrics_"))
    }

    assert workload["spec"]["replicas"] == 1
    assert workload["spec"]["selector"]["matchLabels"] == labels
    assert one(objects, "Service", workload["spec"]["serviceName"])["spec"]["clusterIP"] == "None"
    for service in [item for item in objects if item["kind"] == "Service"]:
        assert service["spec"]["selector"] == labels
        for item in service["spec"]["ports"]:
            assert ports[item["targetPort"]] == item["port"]
    assert one(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    policy = one(objects, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert {item["port"] for rule in policy["ingress"] for item in rule["ports"]} == set(ports)

    mounts = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
    claims = {claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]}
    assert set(mounts) == claims | {volume["name"] for volume in pod["volumes"]}
    assert container["args"] == ["serve", "--config", f"{mounts['config']}/shortlist.toml"]
    for file in config.get("tls", {}).values():
        assert Path(file).parent == Path(mounts["tls"])
    for folder in config["indexes"].values():
        assert Path(folder).parent == Path(mounts["indexes"])
    assert pod["terminationGracePeriodSeconds"] > int(config["drain_timeout"].removesuffix("s"))


def test_the_index_is_that_of_compose(pod: dict[str, Any]) -> None:
    """Which a test of compose.yaml makes."""
    index = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]["index"]
    (container,) = pod["initContainers"]
    assert (container["command"], container["args"][0].split()) == (index["entrypoint"], index["command"][0].split())
    assert container["workingDir"] == "/var/lib/shortlist"


@pytest.mark.parametrize("variant", VARIANTS)
def test_probes_follow_the_server(
    variant: str, serve: Callable[..., Server], shortlist: Path, built: Path, tmp_path: Path
) -> None:
    objects = rendered(variant)
    settings = one(objects, "ConfigMap")["data"]["shortlist.toml"]
    index = tmp_path / "videos"
    shutil.copytree(built, index)
    paths = {"/var/lib/shortlist/videos": index}
    if variant == "base":
        credentials = make_credentials(shortlist, tmp_path / "credentials") / "shortlist"
        paths |= {
            "/etc/shortlist/tls/tls.crt": credentials / "server.pem",
            "/etc/shortlist/tls/tls.key": credentials / "server.key",
        }
    # The file, so that its loss is noticed.
    server = serve('memory = "mapped"\n' + moved(settings, paths))
    main = int(server.address.rpartition(":")[2])
    ports = {"grpc": main, 50051: main, "metrics": port(server, "metrics")}
    (container,) = one(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    check_probes_follow(server, index, lambda name: probed(container[name], ports))


def test_prometheus_accepts_the_scrape_configuration(promtool: Path, tmp_path: Path) -> None:
    text = (KUBERNETES / "prometheus.yaml").read_text()
    for name in ("key", "authority.pem"):
        assert f"/etc/prometheus/shortlist/{name}" in text
    check_scrape_file(KUBERNETES / "prometheus.yaml", promtool, tmp_path)
    (job,) = yaml.safe_load(text)["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    pods = one(rendered("base"), "Service", "shortlist-pods")
    assert target == f"shortlist-0.{pods['metadata']['name']}.shortlist.svc:{pods['spec']['ports'][1]['port']}"
