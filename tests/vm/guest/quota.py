"""A disk of 64 MiB on which uid 1000 has a quota."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path

from tests.vm.guest.conftest import Command

#: quotactl(2), Q_SETQUOTA: of what device, and how many KiB; QIF_BLIMITS | QIF_ILIMITS.
_SET_QUOTA = """
import ctypes, struct, sys
limit = int(sys.argv[2])
block = struct.pack("8QI4x", limit, limit, 0, 500_000, 500_000, 0, 0, 0, 1 | 4)
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(179, 0x800008 << 8, sys.argv[1].encode(), 1000, block) < 0:
    sys.exit(f"quotactl: {ctypes.get_errno()}")
"""


@contextlib.contextmanager
def store_with_quota(sudo: Command, folder: Path, limit_kib: int) -> Iterator[Path]:
    """A private folder there, which `user` may fill up to the limit."""
    disk, place = folder / "disk", folder / "place"
    disk.write_bytes(gzip.decompress(Path(__file__).with_name("quota.img.gz").read_bytes()))
    place.mkdir()
    sudo.ok("mount", "-o", "loop,usrquota,nosuid", str(disk), str(place))
    try:
        loop = sudo.ok("findmnt", "-no", "SOURCE", str(place))
        sudo.ok("python3", "-c", _SET_QUOTA, loop, str(limit_kib))
        sudo.ok("mkdir", "-m", "700", f"{place}/store")
        sudo.ok("chown", "user:user", f"{place}/store")
        yield place / "store"
    finally:
        sudo.ok("umount", "-l", str(place))
