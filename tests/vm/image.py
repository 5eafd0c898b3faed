"""The disk image of the machine that the tests run in: built once, by an ordinary user, and kept by what it is made of."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

_SCRIPT = Path(__file__).with_name("build-image.sh")
_PACKAGES = Path(__file__).with_name("packages.txt")
_BUILD_S = 1800


class Image:
    """A folder with disk.img, vmlinuz, initrd.img and the key that opens every account."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    if not base and shutil.disk_usage(Path.home()).free < 8 << 30:
        return Path(f"/var/tmp/rootless-test-{os.getuid()}")
    return Path(base or Path.home() / ".cache") / "rootless-test"


def image() -> Image:
    """The image, made where it is missing; one at a time, the others wait for it."""
    base = cache_folder()
    base.mkdir(parents=True, exist_ok=True)
    mirror = os.environ.get("ROOTLESS_TEST_MIRROR", "")
    made_of = _SCRIPT.read_bytes() + _PACKAGES.read_bytes() + mirror.encode()
    key = hashlib.sha256(made_of).hexdigest()[:16]
    folder = base / f"vm-{key}"
    with open(base / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in base.glob("vm-*"):  # made of another script, or left half made
                _remove(old)
            _build(folder)
    return Image(folder)


def _build(folder: Path) -> None:
    making = folder.with_name(f"{folder.name}.making")
    making.mkdir()
    key = str(making / "key")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    command = ["bash", str(_SCRIPT), str(making), f"{key}.pub"]
    if os.geteuid() != 0:
        command = [
            "unshare", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork", "--kill-child", *command
        ]  # fmt: skip
    with open(making / "build.log", "wb") as log:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=_BUILD_S, check=False
        )
    if done.returncode:
        tail = (making / "build.log").read_text(errors="replace")[-2000:]
        _remove(making)
        raise RuntimeError(f"the image of the test machine could not be built:\n{tail}")
    making.rename(folder)


def _remove(folder: Path) -> None:
    """Remove a folder in which subordinate ids own files."""
    command = ["rm", "-rf", "--one-file-system", str(folder)]
    if os.geteuid() != 0:
        command = ["unshare", "--map-root-user", "--map-auto", *command]
    subprocess.run(command, check=True)
