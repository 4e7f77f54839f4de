"""A server with the configuration of a deployment, whose paths and ports are those of a test."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import trustme

from conftest import DEPLOY, Server, run, wait_until


def make_credentials(shortlist: Path, folder: Path) -> Path:
    """What deploy/compose/credentials makes."""
    run(
        DEPLOY / "compose/credentials",
        folder,
        "search.example",
        env={"PATH": "/usr/bin:/bin", "SHORTLIST": str(shortlist)},
    )
    return folder


def write_certificate(name: str, certificate: Path, key: Path, authority: Path) -> None:
    """Writes the certificate of a server, for one name or address, its key, and its authority."""
    made = trustme.CA()
    issued = made.issue_cert(name)
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    made.cert_pem.write_to_path(authority)


def moved(settings: str, paths: Mapping[str, Path]) -> str:
    """Settings with other folders, and with free ports of the same addresses."""
    for old, new in paths.items():
        assert old in settings, f"{old} is not in the settings"
        settings = settings.replace(old, str(new))
    return re.sub(r'"(\d+\.\d+\.\d+\.\d+):\d+"', r'"\1:0"', settings)


def port(server: Server, what: str) -> int:
    """The port of its own that the server gave to `admin` or `metrics`."""

    def found() -> int | None:
        for line in server.log().splitlines():
            fields = json.loads(line)["fields"]
            if fields["message"] == "listens on a port of its own" and fields["what"] == what:
                return int(fields["address"].rpartition(":")[2])
        return None

    return wait_until(f"the port {what}", found)
