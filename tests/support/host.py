"""What this host can do, asked of the kernel and the file system, never of the engine under test.

A test names what it needs: `@pytest.mark.needs("overlay", "pasta")`. Where something is missing it is skipped with that
name; with ROOTLESS_TEST_REQUIRE_ALL=1 it fails instead, but for the names in ROOTLESS_TEST_WITHOUT, which a kind of
machine is known not to have. `no-` before a name asks for a host without it, which nothing can provide: that only skips.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import quadlet

PODMANS_SECCOMP = Path("/usr/share/containers/seccomp.json")

# Programs of other engines and tools: a feature each, by their own name.
PROGRAMS = (
    "aardvark-dns",
    "apparmor_parser",
    "buildah",
    "busybox",
    "catatonit",
    "conmon",
    "crun",
    "curl",
    "debootstrap",
    "docker-registry",
    "dpkg",
    "fuse-overlayfs",
    "getsubids",
    "gpg",
    "htpasswd",
    "iperf3",
    "iptables",
    "mke2fs",
    "munged",
    "netavark",
    "newuidmap",
    "nft",
    "pasta",
    "podman",
    "qemu-system-x86_64",
    "runc",
    "skopeo",
    "slurmctld",
    "slurmd",
    "slirp4netns",
    "ssh",
    "sshd",
    "srun",
    "strace",
    "systemd-analyze",
    "tmux",
    "umoci",
    "wrk",
)

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/podman"


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


def _libseccomp() -> bool:
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    return True


def _programs_of_32_bits() -> bool:
    """Whether the kernel answers `int 0x80`; where it was built without, the caller gets SIGSEGV."""
    if not _x86_64():
        return False
    child = (
        "import ctypes, mmap;"
        "code = mmap.mmap(-1, 4096, prot=7);"
        "code.write(bytes.fromhex('53b814000000cd805bc3'));"  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()"
    )
    return _runs(sys.executable, "-c", child)


def _podmans_seccomp_profile() -> bool:
    return PODMANS_SECCOMP.exists()


def _podmans_quadlet() -> bool:
    return bool(quadlet.binary())


def _privileged_ports() -> bool:
    return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) > 80


def _syslog() -> bool:
    return Path("/dev/log").exists()


def _x86_64() -> bool:
    return platform.machine() == "x86_64"


def _internet() -> bool:
    return False  # by decision: no test leaves the machine


_PROBES: dict[str, Callable[[], bool]] = {
    "32-bit-programs": _programs_of_32_bits,
    "apparmor": _apparmor,
    "cgroup2": _cgroup2,
    "delegation": _delegation,
    "freezer": _freezer,
    "fuse": _fuse,
    "internet": _internet,
    "ipv6": _ipv6,
    "libseccomp": _libseccomp,
    "overlay": _overlay,
    "podman-5.4-quadlet": _podmans_quadlet,
    "podmans-seccomp": _podmans_seccomp_profile,
    "privileged-ports": _privileged_ports,
    "selinux": _selinux,
    "setuid-newuidmap": _setuid_newuidmap,
    "subids": _subids,
    "syslog": _syslog,
    "systemd": _user_manager,
    "tun": _tun,
    "userns": _userns,
    "vlan-filtering": _vlan_filtering,
    "x86-64": _x86_64,
}


@functools.cache
def has(feature: str) -> bool:
    if feature.startswith("no-"):
        return not has(feature.removeprefix("no-"))
    if probe := _PROBES.get(feature):
        return probe()
    if feature in PROGRAMS:
        return program(feature) is not None
    raise KeyError(f"no such feature: {feature}; the names are in tests/support/host.py")


def excused(feature: str) -> bool:
    """Whether a missing feature may skip tests even where everything is required."""
    if os.environ.get("ROOTLESS_TEST_REQUIRE_ALL") != "1" or feature.startswith("no-"):
        return True
    return feature in os.environ.get("ROOTLESS_TEST_WITHOUT", "").replace(",", " ").split()


def require(feature: str) -> None:
    """Skip the test that asks where the feature is missing; fail it where everything is required."""
    if has(feature):
        return
    if excused(feature):
        pytest.skip(f"this host lacks: {feature}")
    pytest.fail(f"this host lacks: {feature} (ROOTLESS_TEST_REQUIRE_ALL is set)", pytrace=False)
