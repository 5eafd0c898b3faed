"""The tests of tests/vm/guest, run in a machine that has systemd as PID 1, before and after it restarts."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.vm.image import image
from tests.vm.machine import Machine

ROOT = Path(__file__).parents[2]
_PYTEST = "ROOTLESS_TEST_MACHINE=1 python3 -m pytest -p no:cacheprovider -q -rfE"


def wheel(folder: Path) -> Path:
    """The package as it is shipped, built from a copy so that nothing is left in the checkout."""
    source = folder / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "tests", "build", "dist"),
    )
    (source / "tests").mkdir()
    command = [
        "python3",
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True)
    (made,) = folder.glob("*.whl")
    return made


def archive_of_tests() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path in (
            "tests/vm/guest",
            "tests/kernel/test_seccomp_kernel.py",
            "tests/kernel/test_capabilities_kernel.py",
        ):
            archive.add(
                ROOT / path,
                path,
                filter=lambda entry: None if "__pycache__" in entry.name else entry,
            )
        for path in ("tests/support", "tests/conftest.py", "pyproject.toml"):
            archive.add(
                ROOT / path,
                path,
                filter=lambda entry: None if "__pycache__" in entry.name else entry,
            )
    return data.getvalue()


@pytest.mark.vm
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.needs("qemu-system-x86_64", "debootstrap", "mke2fs", "ssh", "subids")
def test_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One test for all, since they share a machine whose start takes a minute; what failed in it is printed."""
    if os.environ.get("ROOTLESS_TEST_MACHINE"):
        pytest.skip("this is the machine")
    started = time.monotonic()
    with Machine(image()) as machine:
        booted = time.monotonic()
        package = wheel(tmp_path)
        machine.run(f"cat > /tmp/{package.name}", data=package.read_bytes(), user="root")
        install = (
            "pip install -q --root-user-action=ignore --no-deps --no-index --break-system-packages"
        )
        machine.run(f"{install} /tmp/{package.name}", user="root")
        machine.put(archive_of_tests(), "checkout")
        results = []
        for phase in ("not after_reboot", "after_reboot"):
            if phase == "after_reboot":
                machine.reboot()
            done = machine.run(
                f"cd checkout && {_PYTEST} -m '{phase}' tests", check=False, timeout=2400
            )
            results.append((phase, done))
        with capsys.disabled():
            seconds = time.monotonic() - booted
            print(f"\nmachine: {booted - started:.0f} s to a log-in, {seconds:.0f} s of tests")
            for phase, done in results:
                print(
                    f"machine, {phase}: {done.stdout.splitlines()[-1] if done.stdout else done.stderr}"
                )
        for phase, done in results:
            assert done.returncode == 0, f"in the machine, {phase}:\n{done.stdout}\n{done.stderr}"
