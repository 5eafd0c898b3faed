"""What goes into the machine: the package as it is shipped, and the tests."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TESTS = (
    "tests/vm/guest",
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


def archive_of_tests() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path in _TESTS:
            archive.add(ROOT / path, path, filter=_without_caches)
    return data.getvalue()
