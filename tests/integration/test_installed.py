"""An installed tree that its users cannot write to: what the commands of a container's life load is in the one file of compiled code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import REPOSITORY, Engine
from tests.support.oci import Runtime

pytestmark = pytest.mark.needs("userns", "busybox", "overlay")

INSTALL = "import sys; sys.path.insert(0, sys.argv[1]); import rootless.precompile as p; sys.exit(p.main())"
# As bin/rootless does it, but for its end: then each module of ours that came from elsewhere is named in a file.
PROBE = """
import atexit, os, sys
sys.path.append(sys.argv.pop(1))
folder, out = sys.path[-1], sys.argv.pop(1)
process = os.getpid()
def tell():
    if os.getpid() != process:
        return
    with open(out, "a") as file:
        for name, module in sys.modules.items():
            if name.startswith("rootless.") and not module.__cached__.endswith(".bin"):
                print(name, file=file)
atexit.register(tell)
from rootless.start import main
main(sys.argv.pop(1))
"""
#: These two find the file.
BEFORE = {"rootless.start", "rootless.precompiled"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("installed")
    for name in ("rootless", "slirp", "config"):
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    subprocess.run([sys.executable, "-I", "-c", INSTALL, str(folder)], check=True)
    for path in folder.rglob("__pycache__"):
        path.chmod(0o555)
    yield folder
    for path in folder.rglob("__pycache__"):
        path.chmod(0o755)


def program(installed: Path, out: Path, name: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", PROBE, str(installed), str(out), name]


def test_what_rootless_oci_loads_is_in_one_file(installed: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    runtime = Runtime(program(installed, out, "rootless-oci"))
    try:
        assert runtime.go("echo", "hello").out == "hello\n"
        name = runtime.start()
        runtime.ok("exec", name, "true")
        runtime.ok("state", name)
        runtime.ok("kill", name, "KILL")
        runtime.wait_for(name, "stopped")
        runtime.ok("delete", name)
        runtime.clear()
    finally:
        runtime.close()
    assert set(out.read_text().split()) - BEFORE == set()


def test_what_the_engine_loads_is_in_one_file(installed: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    engine = Engine(program=program(installed, out, "rootless"))
    try:
        engine.ok("run", "--rm", "host", "true")  # makes the image, which loads more
        out.unlink()
        engine.ok("run", "--rm", "host", "true")
        engine.ok("run", "-d", "--name", "c", "host", "sleep", "1000")
        engine.ok("exec", "c", "true")
        engine.ok("ps")
        engine.ok("stop", "--time", "0", "c")
        engine.ok("start", "c")
        engine.ok("rm", "--force", "--time", "0", "c")
    finally:
        engine.close()
    assert set(out.read_text().split()) - BEFORE == set()
