"""What goes into the machine: the package as it is shipped, and the tests."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TESTS = (
    "tests/vm/guest",
    "tests/vm/image.py",  # by tests/conftest.py
    "tests/integration/test_as_root.py",
    "tests/kernel/test_seccomp_kernel.py",
    "tests/kernel/test_capabilities_kernel.py",
    "tests/support",
    "tests/conftest.py",
    "pyproject.toml",
)


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
        "python3", "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)
    ]  # fmt: skip
    subprocess.run(command, check=True)
    (made,) = folder.glob("*.whl")
    return made


def _without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


def _disk_with_quotas() -> bytes:
    """An empty file system that keeps quotas; the machine's own root has no mke2fs."""
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(64 << 20)
        options = ("-q", "-F", "-t", "ext4", "-O", "quota,^has_journal")
        subprocess.run(["/sbin/mke2fs", *options, file.name], check=True)
        return gzip.compress(file.read(), 1)


def archive_of_tests() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path in _TESTS:
            archive.add(ROOT / path, path, filter=_without_caches)
        disk = _disk_with_quotas()
        entry = tarfile.TarInfo("tests/vm/guest/quota.img.gz")
        entry.size = len(disk)
        archive.addfile(entry, io.BytesIO(disk))
    return data.getvalue()
