"""`save` beside what test_load.py reads back: names, folders that are there already; `rmi --force`; `commit --change`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import Engine
from tests.support.images import file

pytestmark = pytest.mark.needs("userns", "subids")

NAME = "localhost/saved:1"


@pytest.fixture
def engine(fresh: Engine, tmp_path: Path) -> Engine:
    path = images.docker_archive(tmp_path / "i.tar", [images.layer([file("f", b"1")])], [NAME])
    fresh.ok("load", "-q", "-i", str(path))
    return fresh


def test_further_words_are_names(engine: Engine, tmp_path: Path) -> None:
    engine.ok("save", "-q", "--uncompressed", "-o", str(tmp_path / "o.tar"), NAME, "other:2")
    with tarfile.open(tmp_path / "o.tar") as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        [entry] = json.loads(member.read())
    assert entry["RepoTags"] == [NAME, "localhost/other:2"]
    assert "unknown:1: image not known" in engine.fails(
        "save", "-m", "-o", str(tmp_path / "p.tar"), NAME, "unknown:1"
    )


def test_folders_and_archives_that_are_there(engine: Engine, tmp_path: Path) -> None:
    engine.ok("tag", NAME, "two:2")
    for name in (NAME, "two:2", NAME):
        engine.ok("save", "-q", "--format", "oci-dir", "-o", str(tmp_path / "o"), name)
        engine.ok("save", "-q", "--format", "docker-dir", "-o", str(tmp_path / "d"), name)
        engine.ok("save", "-q", "--format", "oci-archive", "-o", str(tmp_path / "a.tar"), name)
    entries = json.loads((tmp_path / "o/index.json").read_text())["manifests"]
    names = sorted(one["annotations"]["org.opencontainers.image.ref.name"] for one in entries)
    assert names == [NAME, "localhost/two:2"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    for kind in ("oci-dir", "docker-dir"):
        said = engine.fails("save", "-q", "--format", kind, "-o", str(tmp_path / "mine"), NAME)
        assert "is neither empty nor" in said
    engine.ok("rmi", NAME, "two:2")
    assert sorted(engine("load", "-i", str(tmp_path / "o")).lines) == [
        f"Loaded image: {NAME}", "Loaded image: localhost/two:2",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["oci-dir", "docker-dir", "oci-archive", "docker-archive"])
@pytest.mark.parametrize("is_there", [False, True])
def test_what_fails_leaves_nothing(
    fresh: Engine, tmp_path: Path, kind: str, is_there: bool
) -> None:
    data = [images.layer([file(str(size), os.urandom(size << 20))]) for size in (2, 8)]
    path = images.docker_archive(tmp_path / "i.tar", data, [NAME])
    fresh.ok("load", "-q", "-i", str(path))
    place = tmp_path / "o"
    if is_there and kind.endswith("dir"):
        place.mkdir()
    command = [
        *fresh.program,
        "save",
        "-q",
        "--uncompressed",
        "--format",
        kind,
        "-o",
        str(place),
        NAME,
    ]
    if kind == "docker-dir":
        command.remove("--uncompressed")
    script = 'ulimit -f 12000; exec "$@"'  # 6 MB, as a quota would have it
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command],
        env=fresh.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (125, 1), done
    assert "File too large" in done.stderr or "file too large" in done.stderr
    assert [one.name for one in tmp_path.glob("o*")] == (["o"] if place.is_dir() else [])
    assert not list(place.glob("*")) and place.exists() == (is_there and kind.endswith("dir"))


@pytest.mark.parametrize("kind", ["oci-dir", "docker-dir"])
def test_a_killed_save_leaves_no_half_a_blob(fresh: Engine, tmp_path: Path, kind: str) -> None:
    """What has a blob's name is not written again by the next save."""
    path = images.docker_archive(
        tmp_path / "i.tar", [images.layer([file("f", os.urandom(30 << 20))])], [NAME]
    )
    fresh.ok("load", "-q", "-i", str(path))
    place = tmp_path / "o"
    process = fresh.popen("save", "-q", "--format", kind, "-o", str(place), NAME)
    for _ in range(3000):
        if any(one.stat().st_size > 1 << 20 for one in place.rglob("*") if one.is_file()):
            break
        threading.Event().wait(0.005)
    process.kill()
    process.wait()
    for one in place.rglob("*"):
        if len(one.name) == 64:
            assert hashlib.sha256(one.read_bytes()).hexdigest() == one.name


def test_forced_removal_of_what_is_not_there(engine: Engine) -> None:
    engine.ok("rmi", "--force", "nosuch")
    engine.fails("rmi", "nosuch", code=1)


@pytest.mark.needs("overlay")
def test_commit_writes_the_id_and_health_checks(engine: Engine, tmp_path: Path) -> None:
    engine.ok("create", "--name", "c", NAME, "true")
    path = tmp_path / "iid"
    change = 'HEALTHCHECK --retries=2 CMD ["true"]'
    engine.ok("commit", "-q", "-f", "docker", "-c", change, "--iidfile", str(path), "c", "healthy")
    [found] = engine("image", "inspect", "healthy").json
    assert path.read_text() == found["Id"]
    assert found["HealthCheck"] == {"Test": ["CMD", "true"], "Retries": 2}
    result = engine("commit", "-q", "-c", change, "c")
    assert result.code == 0
    assert "HEALTHCHECK is not part of OCI images" in result.err
