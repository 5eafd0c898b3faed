"""Called by host root: containers get subordinate ids, never host root's. `pytest -m root`, on a machine to spoil."""

from __future__ import annotations

import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.root
MAP = ("host", "cat", "/proc/self/uid_map")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    engine.program = [
        *engine.program, "--root", str(engine.data), "--runroot", str(engine.run)
    ]  # fmt: skip
    yield engine
    engine.ok("rm", "--all", "--force", "--time", "0", "--volumes")
    leaks = engine.leaks()
    engine.close()
    assert leaks == []


@pytest.mark.parametrize(
    "options",
    ["", "--privileged", "--userns auto", "--userns nomap", "--userns host", "--uidmap 0:100:10"],
)
def test_no_container_holds_host_root(engine: Engine, options: str) -> None:
    out = engine.ok("run", "--rm", "--network", "none", *options.split(), *MAP)
    for line in out.splitlines():
        assert int(line.split()[1]) >= 1000


@pytest.mark.parametrize("network", ["pasta", "slirp4netns", "bridge"])
def test_published_port(engine: Engine, network: str) -> None:
    engine.ok(
        "run", "-d", "--name", "web", "--network", network, "-p", "127.0.0.1::8000",
        "host", "sh", "-c", "cd /etc && echo ready && exec python3 -m http.server 8000",
    )  # fmt: skip
    port = engine.ok("port", "web", "8000").rpartition(":")[2]
    for _ in range(50):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/hostname", timeout=5) as page:
                assert page.status == 200
            break
        except OSError:
            engine.ok("exec", "web", "sleep", "0.1")
    else:
        pytest.fail("no answer")
    engine.ok("stop", "-t", "0", "web")
    engine.ok("start", "web")
    assert engine.ok("exec", "web", "id", "-u") == "0"


@pytest.mark.parametrize("options", ["", "--userns auto", "--storage-driver vfs"])
def test_writable_places(engine: Engine, options: str) -> None:
    before = options.split() if "driver" in options else []
    after = [] if before else options.split()
    script = "touch /x /v/x /o/x /i/x /t/x && stat -c %u /x /v/x /o/x /i/x"
    out = engine.ok(
        *before, "run", "--rm", "--network", "none", *after, "-v", "vol:/v", "-v", "/tmp:/o:O",
        "--mount", "type=image,src=host,dst=/i,rw=true", "--tmpfs", "/t", "host", "sh", "-c", script,
    )  # fmt: skip
    assert out.split() == ["0"] * 4
    engine.ok("volume", "rm", "vol")


def test_a_store_that_root_fills_serves_a_user_with_one_id(
    engine: Engine, tmp_path: Path, busybox_archive: Path
) -> None:
    shared = engine.folder / "srv"
    root = [*engine.program[:1], "--root", str(shared), "--storage-opt", "force_mask=shared"]
    subprocess.run([*root, "load", "-q", "-i", str(busybox_archive)], check=True)
    os.chmod(engine.folder, 0o755)
    home = engine.folder / "nobody"
    home.mkdir()
    os.chown(home, 65534, 65534)
    option = f"additionalimagestore={shared}"
    done = subprocess.run(
        [
            "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
            *engine.program[:1], "--root", f"{home}/data", "--runroot", f"{home}/run",
            "--storage-opt", option, "run", "--rm", "--network", "none",
            "localhost/busybox", "sh", "-c", "stat -c '%u %g' /etc/passwd /home/app; touch /etc/passwd",
        ],
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0 0\n0 0\n"), done.stderr
