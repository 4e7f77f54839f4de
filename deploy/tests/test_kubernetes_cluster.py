"""The manifests of shards, replicas and routers: schemas, references, rights, and the probes of a replica."""

import itertools
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from commands import check_flags, needs_commands
from conftest import REPOSITORY, Server, run, wait_until
from manifests import (
    KUBERNETES,
    VERSIONS,
    check_probes_follow,
    check_restricted,
    check_scrape_file,
    one,
    rendered,
)
from secured import moved, write_certificate

CLUSTER = KUBERNETES / "cluster"
ROOTS = ["cluster", "cluster/build", "cluster/reshard"]
NAME, COMPONENT, SHARD = "app.kubernetes.io/name", "app.kubernetes.io/component", "shortlist.shard"
TASK = "$(JOB_COMPLETION_INDEX)"


@pytest.fixture(scope="module")
def everything() -> dict[str, list[dict[str, Any]]]:
    return {root: rendered(root) for root in ROOTS}


@pytest.fixture(scope="module")
def objects(everything: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return everything["cluster"]


def of_kind(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] == kind]


def template(item: dict[str, Any]) -> dict[str, Any] | None:
    """The template of the pods that an object makes."""
    spec = item.get("spec", {})
    spec = spec["jobTemplate"]["spec"] if item["kind"] == "CronJob" else spec
    return spec.get("template")


def templates(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [found for item in objects if (found := template(item))]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def jobs(everything: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for item in itertools.chain(*everything.values()):
        if item["kind"] == "Job":
            yield item["spec"]
        elif item["kind"] == "CronJob":
            yield item["spec"]["jobTemplate"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
def test_they_are_valid(everything: dict[str, list[dict[str, Any]]], version: str) -> None:
    secrets = yaml.safe_load_all((CLUSTER / "secrets.example.yaml").read_text())
    for item in [*itertools.chain(*everything.values()), *secrets]:
        kubernetes_validate.validate(item, version, strict=True)


def test_everything_is_in_the_namespace_once(everything: dict[str, list[dict[str, Any]]]) -> None:
    (namespace,) = of_kind(everything["cluster"], "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = [item for item in itertools.chain(*everything.values()) if item is not namespace]
    assert {item["metadata"].get("namespace") for item in others} == {"shortlist"}
    names = [(item["kind"], item["metadata"]["name"]) for item in others]
    assert len(set(names)) == len(names)


def test_pods_have_the_restricted_profile(everything: dict[str, list[dict[str, Any]]]) -> None:
    pods = [found["spec"] for found in templates(list(itertools.chain(*everything.values())))]
    assert len(pods) == 7
    for pod in pods:
        check_restricted(pod)
        (container,) = pod["containers"]
        assert container["image"] == "registry.example/shortlist:0.1.0"


def test_shards_make_one_index(objects: list[dict[str, Any]]) -> None:
    sets = of_kind(objects, "StatefulSet")
    shards = []
    for item in sets:
        (container,) = item["spec"]["template"]["spec"]["containers"]
        (flag,) = [word for word in container["args"] if word.startswith("--shard=")]
        shards.append(flag.removeprefix("--shard="))
        labels = item["spec"]["template"]["metadata"]["labels"]
        assert labels[SHARD] == shards[-1].replace("/", "-of-") and item["metadata"]["name"].endswith(labels[SHARD])
        assert item["spec"]["selector"]["matchLabels"] == labels
        assert item["spec"]["replicas"] == 2
        # Replicas of one shard are on several nodes; those of different shards may share one.
        for constraint in item["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert constraint["labelSelector"]["matchLabels"] == labels
        (budget,) = [
            budget
            for budget in of_kind(objects, "PodDisruptionBudget")
            if selects(budget["spec"]["selector"]["matchLabels"], labels)
        ]
        assert budget["spec"]["minAvailable"] == 1
    assert sorted(shards) == [f"{shard}/{len(sets)}" for shard in range(len(sets))]


def test_folders_of_shards_are_those_that_are_written(tmp_path: Path) -> None:
    listed = run(CLUSTER / "make-shards", "2", tmp_path).split()
    assert [word for word in listed if word != "-"] == ["shards/0-of-2", "shards/1-of-2"]
    written = {file.relative_to(tmp_path): file.read_text() for file in tmp_path.rglob("*.yaml")}
    there = {file.relative_to(CLUSTER / "shards"): file.read_text() for file in (CLUSTER / "shards").rglob("*.yaml")}
    assert written == there


def test_any_number_of_shards_and_the_components(tmp_path: Path) -> None:
    """As an operator changes kustomization.yaml: other shards, and what is commented out."""
    copy = tmp_path / "cluster"
    shutil.copytree(CLUSTER, copy)
    lines = run(copy / "make-shards", "16")
    text = (copy / "kustomization.yaml").read_text()
    text = re.sub(r"(  - shards/.*\n)+", lines, text)
    text = re.sub(r"^# (components:|  - )", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"^(  - \w+) +#.*$", r"\1", text, flags=re.MULTILINE)
    (copy / "kustomization.yaml").write_text(text)
    assert "\ncomponents:\n  - autoscale\n  - ephemeral\n" in text
    objects = rendered(str(copy))
    for item in objects:
        kubernetes_validate.validate(item, VERSIONS[-1], strict=True)
    sets = of_kind(objects, "StatefulSet")
    assert len(sets) == 16 == len(of_kind(objects, "PodDisruptionBudget")) - 1
    for item in sets:
        assert "volumeClaimTemplates" not in item["spec"]
        check_mounts(item["spec"])
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler")
    router = one(objects, scaler["spec"]["scaleTargetRef"]["kind"], scaler["spec"]["scaleTargetRef"]["name"])
    assert "replicas" not in router["spec"]
    assert scaler["spec"]["minReplicas"] >= 2


def check_mounts(spec: dict[str, Any]) -> None:
    """Every volume is mounted, and every mount has a volume."""
    claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert {item["name"] for item in container["volumeMounts"]} == claims | {item["name"] for item in pod["volumes"]}


def test_what_they_name_is_there(everything: dict[str, list[dict[str, Any]]]) -> None:
    objects = everything["cluster"]
    known: dict[str, dict[str, set[str]]] = {"configMap": {}, "secret": {}}
    for item in of_kind(objects, "ConfigMap"):
        known["configMap"][item["metadata"]["name"]] = set(item["data"])
    for item in yaml.safe_load_all((CLUSTER / "secrets.example.yaml").read_text()):
        known["secret"][item["metadata"]["name"]] = set(item["stringData"])

    def files(pod: dict[str, Any]) -> set[str]:
        (container,) = pod["containers"]
        mounts = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
        found = set()
        for volume in pod["volumes"]:
            for kind, name in (("configMap", "name"), ("secret", "secretName")):
                if kind in volume:
                    found |= {f"{mounts[volume['name']]}/{key}" for key in known[kind][volume[kind][name]]}
        return found

    for item in itertools.chain(*everything.values()):
        pod = (template(item) or {}).get("spec")
        if not pod:
            continue
        check_mounts(item["spec"]["jobTemplate"]["spec"] if item["kind"] == "CronJob" else item["spec"])
        (container,) = pod["containers"]
        for source in container["envFrom"]:
            assert source["configMapRef"]["name"] in known["configMap"]
        for variable in container["env"]:
            reference = variable["valueFrom"].get("secretKeyRef")
            assert not reference or reference["key"] in known["secret"][reference["name"]]
        # Every path below /etc of arguments, probes and settings.
        texts = [str(container)]
        if config := [word for word in container["args"] if word.startswith("--config=")]:
            (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "config"]
            map_of = one(objects, "ConfigMap", volume["configMap"]["name"])
            texts.append(map_of["data"][Path(config[0]).name])
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        for path in re.findall(r"/etc/shortlist/[\w./-]+", " ".join(texts)):
            assert path in files(pod) | mounts, path


def references(pod: dict[str, Any]) -> set[tuple[str, str]]:
    """The ConfigMaps and Secrets that a pod cannot start without."""
    (container,) = pod["containers"]
    found = {("ConfigMap", source["configMapRef"]["name"]) for source in container["envFrom"]}
    sources = [variable["valueFrom"] for variable in container["env"]]
    found |= {("Secret", source["secretKeyRef"]["name"]) for source in sources if "secretKeyRef" in source}
    found |= {("ConfigMap", volume["configMap"]["name"]) for volume in pod["volumes"] if "configMap" in volume}
    return found | {("Secret", volume["secret"]["secretName"]) for volume in pod["volumes"] if "secret" in volume}


@pytest.mark.parametrize("document", ["docs/scaling.md", "deploy/README.md"])
def test_a_first_build_has_what_it_names(document: str) -> None:
    """Each command of the documents, in their order, on an empty cluster."""
    blocks = re.findall(r"```sh\n(.+?)```", (REPOSITORY / document).read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if "job/shortlist-build" in block]
    there: set[tuple[str, str]] = set()
    for line in block.splitlines():
        words = line.split(" #")[0].split()
        assert words[0] == "kubectl"
        applied = []
        for flag, path in itertools.pairwise(words):
            if flag == "--kustomize":
                applied += rendered(str(REPOSITORY / path))
            elif flag == "--filename":
                file = CLUSTER / "secrets.example.yaml" if path == "secrets.yaml" else REPOSITORY / path
                applied += yaml.safe_load_all(file.read_text())
        there |= {(item["kind"], item["metadata"]["name"]) for item in applied}
        assert ("Namespace", "shortlist") in there, line
        for item in applied:
            assert not (found := template(item)) or references(found["spec"]) <= there, line
        if "wait" in words:
            assert ("Job", words[-1].removeprefix("job/")) in there, line
        elif "create" in words:
            (name,) = [word.removeprefix("--from=cronjob/") for word in words if word.startswith("--from=")]
            assert ("CronJob", name) in there, line
        else:
            assert applied, line
    # Routers follow a map.
    assert "cronjob/shortlist-map" in block


@pytest.mark.parametrize("name", ["replica", "router"])
def test_settings_fit_the_pods(objects: list[dict[str, Any]], name: str) -> None:
    config = tomllib.loads(one(objects, "ConfigMap", f"shortlist-{name}")["data"]["shortlist.toml"])
    pods = [found for found in templates(objects) if found["metadata"]["labels"][COMPONENT] == name]
    services = [item for item in of_kind(objects, "Service") if item["spec"]["selector"][COMPONENT] == name]
    assert pods and services
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        ports = {item["name"]: item["containerPort"] for item in container["ports"]}
        assert ports == {
            key: int(config[f"{listen}listen"].split(":")[1]) for key, listen in (("grpc", ""), ("metrics", "metrics_"))
        }
        assert pod["spec"]["terminationGracePeriodSeconds"] > int(config["drain_timeout"].removesuffix("s"))
        for service in services:
            assert selects(service["spec"]["selector"], pod["metadata"]["labels"])
            assert all(ports[item["targetPort"]] == item["port"] for item in service["spec"]["ports"])


def test_replicas_have_the_names_that_they_advertise(objects: list[dict[str, Any]]) -> None:
    for item in of_kind(objects, "StatefulSet"):
        (container,) = item["spec"]["template"]["spec"]["containers"]
        service = one(objects, "Service", item["spec"]["serviceName"])
        assert service["spec"]["clusterIP"] == "None"
        port = service["spec"]["ports"][0]["port"]
        expected = f"--advertise=$(POD_NAME).{service['metadata']['name']}.$(POD_NAMESPACE).svc:{port}"
        assert expected in container["args"]


def test_jobs_have_one_task_per_shard(everything: dict[str, list[dict[str, Any]]]) -> None:
    found = [job for job in jobs(everything) if "completions" in job]
    assert len(found) == 3
    for job in found:
        pod = job["template"]["spec"]
        (container,) = pod["containers"]
        assert job["completionMode"] == "Indexed"
        assert f"--shard={TASK}/{job['completions']}" in container["args"]
        assert pod["restartPolicy"] == "Never"
    count = len(of_kind(everything["cluster"], "StatefulSet"))
    rebuild = one(everything["cluster"], "CronJob", "shortlist-rebuild")["spec"]["jobTemplate"]["spec"]
    (build,) = of_kind(everything["cluster/build"], "Job")
    assert rebuild["completions"] == build["spec"]["completions"] == count
    of_map = one(everything["cluster"], "CronJob", "shortlist-map")["spec"]["jobTemplate"]["spec"]
    assert f"--shards={count}" in of_map["template"]["spec"]["containers"][0]["args"]
    (reshard,) = of_kind(everything["cluster/reshard"], "Job")
    (container,) = reshard["spec"]["template"]["spec"]["containers"]
    assert f"--of={count}" in container["args"] and reshard["spec"]["completions"] == 2 * count
    # It does not read the log.
    assert not [word for word in container["args"] if word.startswith("--nats")]


def test_replicas_are_reached_by_routers_alone(everything: dict[str, list[dict[str, Any]]]) -> None:
    policies = of_kind(everything["cluster"], "NetworkPolicy")
    components = {
        found["metadata"]["labels"][COMPONENT]: found["metadata"]["labels"]
        for found in templates(list(itertools.chain(*everything.values())))
    }
    assert components.keys() == {"router", "replica", "job"}

    def rules(component: str, direction: str) -> list[tuple[Any, set[Any]]]:
        """Whom a pod may reach, or who may reach it, and the ports."""
        other = {"ingress": "from", "egress": "to"}[direction]
        found = []
        for policy in policies:
            spec = policy["spec"]
            if selects(spec["podSelector"]["matchLabels"], components[component]):
                assert spec["policyTypes"] == ["Ingress", "Egress"]
                for rule in spec.get(direction, []):
                    found += [(peer, {item["port"] for item in rule["ports"]}) for peer in rule[other]]
        return found

    assert rules("job", "ingress") == []
    router = {"podSelector": {"matchLabels": {NAME: "shortlist", COMPONENT: "router"}}}
    assert [peer for peer, ports in rules("replica", "ingress") if "grpc" in ports] == [router]
    clients = [peer for peer, ports in rules("router", "ingress") if "grpc" in ports]
    assert clients == [{"namespaceSelector": {"matchLabels": {"shortlist.client": "true"}}}]
    # All of them reach NATS and the bucket, by addresses outside of the cluster.
    for component in components:
        outside = [ports for peer, ports in rules(component, "egress") if "ipBlock" in peer]
        assert outside == [{4222}, {443}], component
    to_pods = {
        component: [peer for peer, ports in rules(component, "egress") if 50051 in ports] for component in components
    }
    assert to_pods["replica"] == to_pods["job"] == []
    assert len(to_pods["router"]) == 1 and selects(
        to_pods["router"][0]["podSelector"]["matchLabels"], components["replica"]
    )


def test_the_commands_have_these_flags(everything: dict[str, list[dict[str, Any]]], shortlist: Path) -> None:
    needs_commands(shortlist, "cluster", "route")
    for found in templates(list(itertools.chain(*everything.values()))):
        check_flags(shortlist, found["spec"]["containers"][0]["args"])


def ends_well(*command: str | Path) -> bool:
    """Runs a command without a key."""
    return subprocess.run(command, env={}, capture_output=True).returncode == 0


def test_probes_follow_a_replica(
    objects: list[dict[str, Any]], serve: Callable[..., Server], shortlist: Path, built: Path, tmp_path: Path
) -> None:
    """They show the certificate of the replica, because no port answers without one."""
    write_certificate("localhost", tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt")
    index = tmp_path / "videos"
    shutil.copytree(built, index)

    settings = one(objects, "ConfigMap", "shortlist-replica")["data"]["shortlist.toml"]
    # A folder in place of the bucket and the brokers.
    settings = re.sub(r"\[cluster\]\n(.+\n)+", "", settings)
    settings = moved(settings, {"s3://shortlist/videos": index, "/etc/shortlist/tls": tmp_path})
    server = serve('memory = "mapped"\n' + settings)
    port = server.address.rpartition(":")[2]
    (container,) = of_kind(objects, "StatefulSet")[0]["spec"]["template"]["spec"]["containers"]

    def succeeds(probe: str) -> bool:
        name, *arguments = container[probe]["exec"]["command"]
        assert name == "shortlist"
        words = [word.replace("/etc/shortlist/tls", str(tmp_path)).replace(":50051", f":{port}") for word in arguments]
        return ends_well(shortlist, *words)

    wait_until("the startup probe", lambda: succeeds("startupProbe"))
    address = ["--addr", f"https://localhost:{port}", "--ca", str(tmp_path / "ca.crt")]
    assert not ends_well(shortlist, "health", *address), "a caller without a certificate"
    check_probes_follow(server, index, succeeds)


def test_prometheus_accepts_the_scrape_configuration(
    objects: list[dict[str, Any]], promtool: Path, tmp_path: Path
) -> None:
    check_scrape_file(CLUSTER / "prometheus.yaml", promtool, tmp_path)
    for job in yaml.safe_load((CLUSTER / "prometheus.yaml").read_text())["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        (name,) = found["names"]
        service = one(objects, "Service", name.split(".")[0])
        assert service["spec"]["clusterIP"] == "None"
        assert found["port"] in [item["port"] for item in service["spec"]["ports"] if item["name"] == "metrics"]
        # The alerts ask for this job.
        assert {"target_label": "job", "replacement": "shortlist"} in job["relabel_configs"]
