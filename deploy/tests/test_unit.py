"""The systemd unit: what systemd says of it, and the life of a server in it, in a system that boots systemd."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import DEPLOY, run
from roots import BASE, MINUTES, WORK, make_base, needs, remove

SYSTEMD = DEPLOY / "systemd"
UNIT = SYSTEMD / "shortlist.service"
# Exposure of the unit in tenths. `systemd-analyze security` finds 1.2 of 10.
THRESHOLD = 15

# Runs in the system, in /check. What a server does in its life: a start with all listeners, searches on all threads,
# the copy on huge pages, writes, a rebuild with its lower priority, a publication that it finds by itself, and signals.
LIFE = """#!/bin/bash
set -eux
cd /check
catalog=(--embeddings videos.npy --ids video_ids.npy --attributes attributes.parquet)
build=("${catalog[@]}" --training-queries users_train.npy --out /var/lib/shortlist/videos)
admin=(--addr 127.0.0.1:50052)
runuser -u shortlist -- shortlist build "${build[@]}"
systemctl start shortlist
until shortlist health; do systemctl is-active shortlist; sleep 0.1; done
pid() { systemctl show --property MainPID --value shortlist; }
pid > pid.started
for file in status mountinfo limits environ; do cp "/proc/$(pid)/$file" "$file"; done
for row in {0..19}; do shortlist query --vector "users_test.npy:$row" -k 100 > /dev/null; done
shortlist upsert "${catalog[@]}"
shortlist query --vector users_test.npy -k 1 --json > first
id=$(grep -o '"videoId":"[0-9]*"' first | head -1 | tr -dc 0-9)
shortlist takedown "$id"
shortlist restore "$id"
shortlist delete "$id"
shortlist rebuild "${admin[@]}" --follow
shortlist query --vector users_test.npy --exact
runuser -u shortlist -- shortlist build "${build[@]}"
served='"dir":"[^"]*","generation":"3"'
until shortlist status "${admin[@]}" --json | grep -E "$served"; do systemctl is-active shortlist; sleep 0.1; done
shortlist status "${admin[@]}" --json > status.json
pid > pid.lived
touch lived

systemctl reload shortlist
until journalctl --unit shortlist --output cat | grep SIGHUP; do systemctl is-active shortlist; sleep 0.1; done
shortlist query --vector users_test.npy
pid > pid.reloaded
touch reloaded
"""
CHECK = """
[Unit]
Description=Life of a server
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=300
ExecStart=/check/life
StandardOutput=file:/check/log
StandardError=inherit
ExecStopPost=/bin/sh -c 'cp /var/log/shortlist/audit.jsonl /check/; systemctl stop shortlist; \
    systemctl show --property=NRestarts,Result,ExecMainStatus shortlist > /check/result; \
    journalctl --unit shortlist --output cat > /check/journal; systemctl --no-block poweroff'
"""


def test_systemd_accepts_the_unit(shortlist: Path, tmp_path: Path) -> None:
    """`verify` wants the programs to be there, so a copy of the unit names this binary."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/shortlist", str(shortlist)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_exposure_is_low() -> None:
    report = run("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={THRESHOLD}", UNIT)
    print(report.splitlines()[-1])


def test_the_unit_waits_longer_than_the_server_drains() -> None:
    """Both are in seconds, such as `30s`."""
    (stop,) = [line for line in UNIT.read_text().splitlines() if line.startswith("TimeoutStopSec=")]
    (drain,) = [
        line for line in (SYSTEMD / "shortlist.toml").read_text().splitlines() if line.startswith("drain_timeout")
    ]
    assert int(stop.split("=")[1].removesuffix("s")) > int(drain.split('"')[1].removesuffix("s"))


@pytest.fixture(scope="session")
def life(shortlist: Path) -> Path:
    """What remains of a system that booted, ran `LIFE` and powered off: the folder /check."""
    needs("debootstrap", "systemd-nspawn")
    root = WORK / "system"
    remove(root)
    root.mkdir(parents=True)
    make_base()
    run("tar", "--extract", "--file", BASE, "--directory", root, "--numeric-owner")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    packages = "DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends systemd systemd-sysv"
    run("chroot", root, "sh", "-c", f"(apt-get update -qq && {packages}) 2>&1", timeout=MINUTES)

    # As deploy/README.md says.
    installed = {
        shortlist: "usr/local/bin/shortlist",
        UNIT: "etc/systemd/system/shortlist.service",
        SYSTEMD / "shortlist.sysusers": "usr/lib/sysusers.d/shortlist.conf",
        SYSTEMD / "shortlist.tmpfiles": "usr/lib/tmpfiles.d/shortlist.conf",
        SYSTEMD / "shortlist.toml": "etc/shortlist/shortlist.toml",
    }
    for source, name in installed.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / name)
    # A call that the filter does not allow ends the server, so that none goes unnoticed.
    drop_in = root / "etc/systemd/system/shortlist.service.d/kill.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nSystemCallErrorNumber=kill\n")
    check = root / "check"
    # What searches read takes more than a huge page, 2 MiB.
    run(shortlist, "synth", "--videos", "6000", "--dim", "400", "--users", "1000", "--out", check)
    check.chmod(0o755)
    (check / "life").write_text(LIFE)
    (check / "life").chmod(0o755)
    (root / "etc/systemd/system/check.service").write_text(CHECK)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "check.service").symlink_to("/etc/systemd/system/check.service")

    # A network of its own, so that no port is taken.
    boot = [
        "systemd-nspawn",
        "--quiet",
        "--directory",
        root,
        "--register=no",
        "--keep-unit",
        "--private-network",
        "--boot",
    ]
    done = subprocess.run(boot, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=MINUTES)
    if not (check / "log").exists():
        pytest.skip(f"systemd does not boot in a container here: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    return check


def told(life: Path) -> str:
    """What happened in the system, for the message of a test that fails."""
    return "\n".join((life / name).read_text() for name in ("log", "journal", "result") if (life / name).exists())


def test_the_filters_allow_what_a_server_does(life: Path) -> None:
    assert (life / "lived").exists(), told(life)
    assert (life / "pid.started").read_text() == (life / "pid.lived").read_text(), told(life)
    assert (life / "result").read_text().split() == ["Result=success", "NRestarts=0", "ExecMainStatus=0"], told(life)
    (index,) = json.loads((life / "status.json").read_text())["indexes"]
    assert index["serving"] and index["writable"] and index["generation"] == "3"
    # The copy in memory needs /proc/meminfo and the control groups.
    assert index["memory"] == "MEMORY_MODE_RESIDENT", told(life)
    # Nothing failed that the server goes on without, such as a limit, a priority or an advice to the kernel.
    problems = [line for line in (life / "journal").read_text().splitlines() if '"WARN"' in line or '"ERROR"' in line]
    assert not problems
    assert len((life / "audit.jsonl").read_text().splitlines()) >= 5


def test_the_sandbox_is_there(life: Path) -> None:
    status = dict(line.split(":\t", 1) for line in (life / "status").read_text().splitlines() if ":\t" in line)
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    mounts = {line.split()[4]: line.split()[5].split(",") for line in (life / "mountinfo").read_text().splitlines()}
    assert "ro" in mounts["/"] and "/etc/shortlist" not in mounts
    assert "rw" in mounts["/var/lib/shortlist"] and "rw" in mounts["/var/log/shortlist"]
    (files,) = [line for line in (life / "limits").read_text().splitlines() if line.startswith("Max open files")]
    soft, hard = files.split()[3:5]
    assert soft == hard, "the server raises its limit"


def test_a_reload_keeps_the_process(life: Path) -> None:
    assert (life / "reloaded").exists(), told(life)
    assert (life / "pid.reloaded").read_text() == (life / "pid.started").read_text()
