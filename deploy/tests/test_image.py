"""The image: its steps in a fresh root, the Dockerfile in a real builder, and the server on a read-only root."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import DEPLOY, REPOSITORY, run
from roots import BASE, MINUTES, WORK, needs, remove

IMAGE = DEPLOY / "image"


@pytest.fixture(scope="session")
def root(shortlist: Path) -> Path:
    """The root that `rootfs` makes."""
    needs("debootstrap")
    folder = WORK / "root"
    remove(folder)
    started = time.monotonic()
    sizes = run(IMAGE / "rootfs", folder, BASE, env={**os.environ, "SHORTLIST_BINARY": str(shortlist)}, timeout=MINUTES)
    print(f"{sizes.splitlines()[-1]}, {time.monotonic() - started:.0f} s")
    return folder


def test_the_root_has_a_user_without_rights(root: Path) -> None:
    (line,) = [line for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("shortlist:")]
    assert line == "shortlist:x:10001:10001::/var/lib/shortlist:/usr/sbin/nologin"
    folder = (root / "var/lib/shortlist").stat()
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (10001, 10001, 0o750)
    assert (root / "usr/share/doc/shortlist/LICENSE").read_text() == (REPOSITORY / "LICENSE").read_text()
    assert not list((root / "tmp").iterdir())
    assert not (root / "etc/resolv.conf").exists(), "the resolver is that of the machine that built the image"


@pytest.fixture(scope="session")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume. The first server makes its sample catalog there."""
    return tmp_path_factory.mktemp("volume")


def test_a_read_only_root_with_a_volume_answers(root: Path, volume: Path) -> None:
    answer = run(IMAGE / "first-answer", root, volume, timeout=MINUTES)
    print(answer)
    assert "|   10 |" in answer
    assert answer.endswith("healthy, and drained after SIGTERM\n")
    # The index is in the volume, of the user of the image.
    manifests = list(volume.rglob("manifest-*.json"))
    assert manifests and {file.stat().st_uid for file in manifests} == {10001}


@pytest.fixture(scope="session")
def buildah() -> Iterator[Callable[..., str]]:
    """Runs buildah with a store of its own."""
    needs("buildah")
    store = WORK / "containers"
    remove(store)

    def buildah(*arguments: str | Path) -> str:
        options = ["--root", store / "store", "--runroot", store / "run", "--storage-driver", "vfs"]
        return run("buildah", *options, *arguments, timeout=MINUTES)

    yield buildah
    shutil.rmtree(store)


def test_the_dockerfile_builds_the_same_files(
    root: Path, volume: Path, buildah: Callable[..., str], shortlist: Path, tmp_path: Path
) -> None:
    """No registry of images is needed: the base system takes the place of both base images."""
    container = buildah("from", "scratch").strip()
    buildah("add", "--quiet", container, BASE, "/")
    buildah("commit", "--quiet", "--rm", container, "localhost/debian")
    binaries = tmp_path / "binaries"
    binaries.mkdir()
    shutil.copy(shortlist, binaries / "shortlist")
    options = ["--format", "docker", "--isolation", "chroot", "--volume", f"{binaries}:/binaries:ro"]
    for argument in ("RUST=localhost/debian", "DEBIAN=localhost/debian", "BINARY=/binaries/shortlist"):
        options += ["--build-arg", argument]
    buildah("bud", *options, "--tag", "localhost/shortlist", "--file", IMAGE / "Dockerfile", REPOSITORY)

    config = json.loads(buildah("inspect", "--type", "image", "localhost/shortlist"))["Docker"]["config"]
    assert config["User"] == "10001:10001"
    assert config["WorkingDir"] == "/var/lib/shortlist"
    assert config["Entrypoint"] == ["/usr/local/bin/shortlist"] and config["Cmd"] == ["serve"]
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/local/bin/shortlist", "health"]
    assert config["StopSignal"] == "SIGTERM"

    container = buildah("from", "localhost/shortlist").strip()
    mounted = Path(buildah("mount", container).strip())
    for name in ("usr/local/bin/shortlist", "usr/share/doc/shortlist/LICENSE"):
        assert (mounted / name).read_bytes() == (root / name).read_bytes(), name
    # Debian, without the sources and the build stage.
    assert not (mounted / "src").exists() and not (mounted / "out").exists()
    answer = run(IMAGE / "first-answer", mounted, volume, timeout=MINUTES)
    assert answer.endswith("healthy, and drained after SIGTERM\n")
    buildah("rm", container)
