"""--version and features: what this runtime is and can do (features.md of the runtime-spec)."""

from __future__ import annotations

from rootless import __version__
from rootless import quickjson as json
from rootless.files import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.ocicli.commandline import Given

SPEC_MIN, SPEC_MAX = "1.0.0", "1.2.1"
_ARCHITECTURES = [
    f"SCMP_ARCH_{name}"
    for name in (
        *("AARCH64", "ARM", "LOONGARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32"),
        *("PPC", "PPC64", "PPC64LE", "RISCV64", "S390", "S390X", "X32", "X86", "X86_64"),
    )
]  # fmt: skip


def version() -> str:
    """The lines of --version, in the form that engines look through."""
    words = "+CAP +SECCOMP +SYSTEMD +APPARMOR +SELINUX"
    return f"rootless-oci version {__version__}\ncommit: {__version__}\nspec: {SPEC_MAX}\n{words}\n"


def run(settings: Given, given: Given) -> int:
    """The command."""
    write_all(1, (json.dumps(document(), indent=2) + "\n").encode())
    return 0


def document() -> dict[str, Any]:
    """What this runtime can do, in the form of the runtime-spec's features.md."""
    from rootless.runtime.capabilities import NAMES
    from rootless.runtime.mounts import known_options
    from rootless.runtime.namespaces import NAMESPACES

    return {
        "ociVersionMin": SPEC_MIN,
        "ociVersionMax": SPEC_MAX,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
        ],
        "mountOptions": known_options(),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": list(NAMES),
            "cgroup": {
                "v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True,
            },
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": False},
        },
        "annotations": {"run.oci.rootless.version": __version__},
        "potentiallyUnsafeConfigAnnotations": [
            "run.oci.keep_original_groups", "run.oci.pidfd_receiver",
        ],
    }  # fmt: skip


def _seccomp() -> dict[str, Any]:
    return {
        "enabled": True,
        "actions": [
            f"SCMP_ACT_{name}"
            for name in ("ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "NOTIFY", "TRACE", "TRAP")
        ],
        "operators": [
            f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
        ],
        "archs": _ARCHITECTURES,
        "knownFlags": [f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV")],
        "supportedFlags": [f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV")],
    }  # fmt: skip
