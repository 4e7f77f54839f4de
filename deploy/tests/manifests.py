"""What the tests of manifests share: the objects that kubectl would send, and probes as the kubelet runs them."""

import os
import re
import shutil
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conftest import DEPLOY, Server, run, wait_until

KUBERNETES = DEPLOY / "kubernetes"
# The first version with probes of the type `grpc` and sizes of pods that change, and the newest that has schemas here.
VERSIONS = ["1.27", "1.37"]


def rendered(variant: str) -> list[dict[str, Any]]:
    """The objects that `kubectl apply --kustomize` would send."""
    kubectl = Path(sys.executable).parent / "kubectl"
    return list(yaml.safe_load_all(run(kubectl, "kustomize", KUBERNETES / variant)))


def one(objects: list[dict[str, Any]], kind: str, name: str = "shortlist") -> dict[str, Any]:
    (found,) = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def check_restricted(pod: dict[str, Any]) -> None:
    """A pod has the restricted profile of the pod security standards, and no rights beyond it."""
    security = pod["securityContext"]
    assert security["runAsNonRoot"] and security["runAsUser"] == 10001 == security["fsGroup"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"] and not pod["enableServiceLinks"]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"] and container["resources"]["limits"]


def check_probes_follow(server: Server, index: Path, succeeds: Callable[[str], bool]) -> None:
    """The probes of a server of one index, which is damaged: it gets no more requests, and is not restarted.

    `succeeds` runs a probe by its name.
    """
    wait_until("the startup probe", lambda: succeeds("startupProbe"))
    assert succeeds("readinessProbe") and succeeds("livenessProbe")
    (generation,) = index.glob("generation-*")
    os.truncate(generation, 0)
    wait_until("the readiness probe to fail", lambda: not succeeds("readinessProbe"))
    assert succeeds("livenessProbe")
    server.stop()
    assert not succeeds("livenessProbe")


def check_scrape_file(file: Path, promtool: Path, folder: Path) -> None:
    """Prometheus accepts a scrape configuration, with its rules and the files that are mounted from Secrets."""
    text = file.read_text()
    for name in set(re.findall(r"/etc/prometheus/shortlist/([\w.-]+)", text)):
        (folder / name).touch()
    (folder / file.name).write_text(text.replace("/etc/prometheus/shortlist", str(folder)))
    for name in yaml.safe_load(text)["rule_files"]:
        shutil.copy(DEPLOY / "prometheus" / name, folder)
    run(promtool, "check", "config", "--syntax-only", folder / file.name)


def probed(probe: dict[str, Any], ports: dict[str | int, int]) -> bool:
    """What the kubelet finds: for HTTP, a status from 200 to 399, whatever the certificate; for gRPC, `SERVING`."""
    seconds = probe.get("timeoutSeconds", 1)
    if "grpc" in probe:
        with grpc.insecure_channel(f"127.0.0.1:{ports[probe['grpc']['port']]}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            try:
                answer = health.Check(health_pb2.HealthCheckRequest(service=probe["grpc"]["service"]), timeout=seconds)
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    http = probe["httpGet"]
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    try:
        url = f"{http['scheme'].lower()}://127.0.0.1:{ports[http['port']]}{http['path']}"
        with urllib.request.urlopen(url, timeout=seconds, context=trust) as answer:
            return bool(200 <= answer.status < 400)
    except (urllib.error.URLError, TimeoutError):
        return False
