"""What this host can do, asked of the kernel and the file system, never of the engine under test.

A test names what it needs: `@pytest.mark.needs("overlay", "pasta")`. Where something is missing it is skipped with that
name; with ROOTLESS_TEST_REQUIRE_ALL=1 it fails instead, but for the names in ROOTLESS_TEST_WITHOUT, which a kind of
machine is known not to have.
"""

from __future__ import annotations

import functools
import getpass
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

# Programs of other engines and tools: a feature each, by their own name.
PROGRAMS = (
    "aardvark-dns",
    "apparmor_parser",
    "buildah",
    "busybox",
    "catatonit",
    "crun",
    "curl",
    "debootstrap",
    "docker-registry",
    "fuse-overlayfs",
    "getsubids",
    "gpg",
    "iperf3",
    "iptables",
    "mke2fs",
    "netavark",
    "newuidmap",
    "nft",
    "pasta",
    "podman",
    "qemu-system-x86_64",
    "runc",
    "skopeo",
    "slirp4netns",
    "ssh",
    "sshd",
    "strace",
    "tmux",
    "umoci",
    "wrk",
)

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")


def _runs(*command: str) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _userns() -> bool:
    return _runs("unshare", "--user", "--map-root-user", "true")


def _subids() -> bool:
    return _runs("unshare", "--user", "--map-root-user", "--map-auto", "true")


def _overlay() -> bool:
    """Native overlay inside a user namespace, where our own files go by default."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("lower", "upper", "work", "merged"):
            Path(folder, name).mkdir()
        options = f"userxattr,lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        script = (
            f"mount -t overlay overlay -o {options} {folder}/merged && rm -rf {folder}/work/work"
        )
        return _runs("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)


def _cgroup2() -> bool:
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _delegation() -> bool:
    """A cgroup v2 group of our own, with the controllers that limits need."""
    if not _cgroup2():
        return False
    uid = os.getuid()
    group = Path(f"/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service")
    try:
        controllers = (group / "cgroup.controllers").read_text().split()
    except OSError:
        return False
    return {"memory", "pids"} <= set(controllers) and os.access(group / "cgroup.procs", os.W_OK)


def _user_manager() -> bool:
    return _runs("systemctl", "--user", "--quiet", "is-system-running", "--wait") or (
        Path(f"/run/user/{os.getuid()}/systemd/private").exists()
    )


def _freezer() -> bool:
    return _delegation()


def _ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()


def _fuse() -> bool:
    return _opens("/dev/fuse")


def _tun() -> bool:
    return _opens("/dev/net/tun")


def _selinux() -> bool:
    return Path("/sys/fs/selinux/enforce").exists()


def _apparmor() -> bool:
    return Path("/sys/kernel/security/apparmor/profiles").exists()


def _setuid_newuidmap() -> bool:
    path = program("newuidmap")
    # Debian gives it the set-uid bit, others file capabilities.
    return path is not None and (
        bool(os.stat(path).st_mode & stat.S_ISUID) or "security.capability" in os.listxattr(path)
    )


def _vlan_filtering() -> bool:
    return _runs("unshare", "-Urn", program("ip") or "ip", "link", "add", "b", "type", "bridge", "vlan_filtering", "1")  # fmt: skip


def _internet() -> bool:
    return False  # by decision: no test leaves the machine


_PROBES: dict[str, Callable[[], bool]] = {
    "apparmor": _apparmor,
    "cgroup2": _cgroup2,
    "delegation": _delegation,
    "freezer": _freezer,
    "fuse": _fuse,
    "internet": _internet,
    "ipv6": _ipv6,
    "overlay": _overlay,
    "selinux": _selinux,
    "setuid-newuidmap": _setuid_newuidmap,
    "subids": _subids,
    "systemd": _user_manager,
    "tun": _tun,
    "userns": _userns,
    "vlan-filtering": _vlan_filtering,
}


@functools.cache
def has(feature: str) -> bool:
    if probe := _PROBES.get(feature):
        return probe()
    if feature in PROGRAMS:
        return program(feature) is not None
    raise KeyError(f"no such feature: {feature}; the names are in tests/support/host.py")


def excused(feature: str) -> bool:
    """Whether a missing feature may skip tests even where everything is required."""
    if os.environ.get("ROOTLESS_TEST_REQUIRE_ALL") != "1":
        return True
    return feature in os.environ.get("ROOTLESS_TEST_WITHOUT", "").replace(",", " ").split()


def require(feature: str) -> None:
    """Skip the test that asks where the feature is missing; fail it where everything is required."""
    if has(feature):
        return
    if excused(feature):
        pytest.skip(f"this host lacks: {feature}")
    pytest.fail(f"this host lacks: {feature} (ROOTLESS_TEST_REQUIRE_ALL is set)", pytrace=False)


def subordinate_range() -> tuple[int, int]:
    """The first id and the size of this user's subordinate uids."""
    with open("/etc/subuid", encoding="utf-8") as file:
        for line in file:
            name, first, size = line.strip().split(":")
            if name in (getpass.getuser(), str(os.getuid())):
                return int(first), int(size)
    raise LookupError("no subordinate ids in /etc/subuid")
