"""deploy/ray/rebuild.py with a real Ray on this machine, and a command in place of `shortlist` that fails at first."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import check_flags, needs_commands
from conftest import DEADLINE, DEPLOY, free_ports, wait_until

SCRIPT = DEPLOY / "ray/rebuild.py"
# Ray starts in seconds, and on a busy machine in a minute.
MINUTES = 5 * 60.0

# Records each call. The first one of shard 0 takes its worker along, as a node that fails does; that of shard 1
# fails; and the one that the file `broken` names always fails.
COMMAND = """#!/bin/sh
set -eu
cd "$(dirname "$0")"
echo "$*" >> calls
shard=map
while [ $# -gt 0 ]; do
    [ "$1" != --shard ] || shard=$(echo "$2" | tr / -)
    shift
done
first() { mkdir "once-$shard" 2> /dev/null; }
[ "$shard" != "$(cat broken)" ] || { echo "error: shard $shard is broken" >&2; exit "$(cat code)"; }
if [ "$shard" = 0-2 ] && first; then kill -9 $PPID; sleep 60; fi
if [ "$shard" = 1-2 ] && first; then echo "error: no space left on device" >&2; exit 1; fi
echo "a note" >&2
echo "{\\"generation\\": 7, \\"of\\": \\"$shard\\"}"
"""


def processes_of(folder: str) -> list[int]:
    """The processes whose command lines name the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if folder.encode() in text:
            found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A Ray of this machine with two processors. None of its processes is left."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip(f"no ray: pip install -r {DEPLOY}/ray/requirements.txt")
    # The paths of its sockets may have 107 bytes.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    (port,) = free_ports(1)
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    command += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
    command += ["--object-store-memory=100000000", "--node-ip-address=127.0.0.1"]
    log = Path(folder) / "start.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:

        def is_up() -> bool:
            assert process.poll() is None, log.read_text()
            return "Ray runtime started" in log.read_text()

        wait_until("ray", is_up, MINUTES)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(DEADLINE)
        try:
            wait_until("the end of ray", lambda: not processes_of(folder), 20)
        finally:
            for left in processes_of(folder):
                os.kill(left, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    path = tmp_path / "shortlist"
    path.write_text(COMMAND)
    path.chmod(0o755)
    (tmp_path / "broken").write_text("none")
    (tmp_path / "code").write_text("1")
    return path


def rebuild(ray_address: str, fake: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the summary."""
    command = [sys.executable, SCRIPT, "--shortlist", fake, "--at", "s3://bucket/videos", "--index", "videos"]
    command += ["--shards", "2", "--address", ray_address, "--cpus", "1", "--nats", "nats://a:4222", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MINUTES)
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout.count("\n") == 1, done.stderr
    line = done.stdout
    return done.returncode, json.loads(line)


def calls(fake: Path) -> list[str]:
    return (fake.parent / "calls").read_text().splitlines()


def test_a_lost_worker_and_a_failed_command_are_tried_again(ray_address: str, fake: Path) -> None:
    code, summary = rebuild(ray_address, fake, "--scratch", "/scratch")
    assert code == 0 and summary["ok"], summary
    build = "rebuild --at s3://bucket/videos --index videos --shard {} --json --scratch /scratch --nats nats://a:4222"
    assert sorted(calls(fake)[:-1]) == sorted(2 * [build.format("0/2")] + 2 * [build.format("1/2")])
    assert calls(fake)[-1] == (
        "cluster apply --at s3://bucket/videos --index videos --shards 2 --json --nats nats://a:4222"
    )
    assert [row["what"] for row in summary["shards"]] == ["shard 0/2", "shard 1/2"]
    for row, name in zip([*summary["shards"], summary["map"]], ["0-2", "1-2", "map"], strict=True):
        assert row["ok"] and row["exit_code"] == 0 and row["problem"] is None
        assert row["result"] == {"generation": 7, "of": name}


def test_a_shard_that_fails_leaves_the_map_as_it_is(ray_address: str, fake: Path) -> None:
    (fake.parent / "broken").write_text("1-2")
    code, summary = rebuild(ray_address, fake, "--retries", "1")
    assert code == 1 and not summary["ok"] and summary["map"] is None
    assert summary["shards"][0]["ok"]
    assert "shard 1-2 is broken" in summary["shards"][1]["problem"]
    assert len([call for call in calls(fake) if "--shard 1/2" in call]) == 2
    assert not [call for call in calls(fake) if call.startswith("cluster")]


def test_wrong_arguments_are_not_tried_again(ray_address: str, fake: Path) -> None:
    (fake.parent / "broken").write_text("1-2")
    (fake.parent / "code").write_text("2")
    code, summary = rebuild(ray_address, fake)
    assert code == 1 and summary["shards"][1]["exit_code"] == 2
    assert "shard 1-2 is broken" in summary["shards"][1]["problem"]
    assert len([call for call in calls(fake) if "--shard 1/2" in call]) == 1
    missing = fake.with_name("missing")
    code, summary = rebuild(ray_address, missing)
    assert code == 1 and "missing" in summary["shards"][0]["problem"]


def test_the_map_may_be_left_alone(ray_address: str, fake: Path) -> None:
    code, summary = rebuild(ray_address, fake, "--no-apply", "--of", "1")
    assert code == 0 and summary["map"] is None
    assert all(call.endswith("--json --of 1 --nats nats://a:4222") for call in calls(fake))


def test_the_number_of_shards_is_checked() -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip(f"no ray: pip install -r {DEPLOY}/ray/requirements.txt")
    command = [sys.executable, SCRIPT, "--at", "s3://bucket/videos", "--index", "videos", "--shards", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MINUTES)
    assert done.returncode == 2 and "divides 64" in done.stderr


def test_the_commands_have_these_flags(ray_address: str, fake: Path, shortlist: Path) -> None:
    needs_commands(shortlist, "cluster")
    flags = ["--of", "1", "--scratch", "/scratch", "--nats-credentials", "/file", "--nats-ca", "/file"]
    rebuild(ray_address, fake, *flags)
    for call in calls(fake):
        check_flags(shortlist, call.split())
