"""`rootless bundle` by itself: what is run elsewhere, by others, depends on nothing of where it was made."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import REPOSITORY, Engine
from tests.support.oci import make_rootfs

pytestmark = pytest.mark.needs("userns", "busybox", "overlay")
SPARSE = 64 << 20


@pytest.fixture
def image(rootless: Engine, tmp_path: Path) -> str:
    """Busybox and a file that is a hole, with some bytes in its middle and at its end."""
    make_rootfs(tmp_path / "rootfs")
    with (tmp_path / "rootfs/sparse").open("wb") as file:
        file.seek(SPARSE // 2)
        file.write(b"middle")
        file.truncate(SPARSE)
    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        archive.add(tmp_path / "rootfs", arcname=".")
    rootless.ok("import", "-c", "CMD=sh", str(tmp_path / "root.tar"), "localhost/box")
    return "localhost/box"


@pytest.fixture
def elsewhere(rootless: Engine) -> Iterator[Path]:
    """A folder on another file system than the store's, and of another kind."""
    folder = Path(tempfile.mkdtemp(prefix=f"{rootless.word}-", dir="/dev/shm"))
    yield folder
    rootless.ok("unshare", "rm", "-rf", str(folder / "bundle"))
    shutil.rmtree(folder)


def test_on_another_file_system(rootless: Engine, image: str, elsewhere: Path) -> None:
    """copy_file_range(2) does not copy between them; holes stay holes."""
    bundle = elsewhere / "bundle"
    assert rootless.ok("bundle", image, str(bundle)) == str(bundle)
    sparse = bundle / "rootfs/sparse"
    assert sparse.stat().st_size == SPARSE
    assert sparse.stat().st_blocks * 512 < SPARSE // 2
    data = sparse.read_bytes()
    assert data[SPARSE // 2 : SPARSE // 2 + 6] == b"middle" and data.count(0) == SPARSE - 6
    oci = [f"{REPOSITORY}/bin/rootless-oci", f"--root={elsewhere}/oci"]
    words = [*oci, "run", f"--bundle={bundle}", "one"]
    limits = (100, 200)
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        env=rootless.env, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits),
    )  # fmt: skip
    assert done.returncode == 0, done
    shutil.rmtree(elsewhere / "oci")


def test_its_limits_are_the_callers(rootless: Engine, image: str, tmp_path: Path) -> None:
    """A node's hard limits may be lower than those of the host that made it; what was asked for stays."""
    rootless.ok("bundle", image, str(tmp_path / "one"))
    rootless.ok("bundle", "--ulimit", "nofile=100:200", image, str(tmp_path / "two"))
    made = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two")]
    asked = {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}
    assert [one["process"]["rlimits"] for one in made] == [[], [asked]]
    rootless.ok("unshare", "rm", "-rf", str(tmp_path / "one"), str(tmp_path / "two"))
