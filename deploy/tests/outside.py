"""Brokers and a bucket, as `.ci/cluster install` brings them, and just enough of their protocols to try them."""

import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conftest import DEADLINE, REPOSITORY


def tool(name: str) -> Path:
    """The path of a program. Skips the test, with the reason, if it is not there."""
    folder = Path(os.environ.get("SHORTLIST_CLUSTER_TOOLS", REPOSITORY / "target/cluster/venv/bin"))
    if not (folder / name).is_file():
        reason = f"no {name} in {folder}: `.ci/cluster install` brings it"
        assert "SHORTLIST_CLUSTER_REQUIRED" not in os.environ, reason
        pytest.skip(reason)
    return folder / name


class Broker:
    """A connection to a broker of NATS with a file of credentials: text lines, one reply per request."""

    def __init__(self, port: int, credentials: str) -> None:
        token, seed = re.findall(r"^-----BEGIN[^\n]+\n(\S+)$", credentials, flags=re.MULTILINE)
        # Two bytes say what the seed is, and two are a checksum.
        key = Ed25519PrivateKey.from_private_bytes(base64.b32decode(seed + "=" * (-len(seed) % 8))[2:34])
        self.connection = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.lines = self.connection.makefile("rb")
        nonce = json.loads(self.lines.readline().removeprefix(b"INFO "))["nonce"]
        signature = base64.urlsafe_b64encode(key.sign(nonce.encode())).decode().rstrip("=")
        self.send("CONNECT " + json.dumps({"jwt": token, "sig": signature, "verbose": False, "headers": True}))
        self.send("PING")
        answer = self.lines.readline()
        if answer.startswith(b"-ERR"):
            raise PermissionError(answer.decode())

    def send(self, line: str) -> None:
        self.connection.sendall(line.encode() + b"\r\n")

    def request(self, subject: str, body: Any) -> Any:
        """The reply in JSON. A broker that refuses the subject fails the test."""
        text = json.dumps(body) if body is not None else ""
        self.send("SUB _INBOX.tests 1")
        self.send("UNSUB 1 1")
        self.send(f"PUB {subject} _INBOX.tests {len(text)}\r\n{text}")
        while True:
            line = self.lines.readline()
            if line.startswith(b"MSG "):
                body = self.lines.read(int(line.split()[-1]))
                self.lines.readline()
                return json.loads(body)
            if line.startswith(b"-ERR"):
                raise PermissionError(line.decode())
            assert line, "the broker closed the connection"

    def close(self) -> None:
        self.connection.close()


def put(address: str, path: str, variables: dict[str, str], headers: dict[str, str]) -> int:
    """Puts an object of one byte with the signature of AWS, and returns the status."""
    body, region = b"x", "us-east-1"
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {"host": address, "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), "x-amz-date": stamp}
    names = ";".join(sorted(signed))
    lines = [f"{name}:{signed[name]}" for name in sorted(signed)]
    request = "\n".join(["PUT", path, "", *lines, "", names, signed["x-amz-content-sha256"]])
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + variables["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"Credential={variables['AWS_ACCESS_KEY_ID']}/{scope}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    all_headers = {**signed, **headers, "Authorization": authorization}
    sent = urllib.request.Request(f"http://{address}{path}", body, all_headers, method="PUT")
    try:
        with urllib.request.urlopen(sent, timeout=DEADLINE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def variables(file: Path) -> dict[str, str]:
    """The variables of an env_file."""
    return dict(re.findall(r"^(\w+)=(.*)$", file.read_text(), flags=re.MULTILINE))
