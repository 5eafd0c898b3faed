"""Profiles, compiled programs and their cache; the programs are run by a small BPF machine, not by the kernel."""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from rootless.data import data_path
from rootless.errors import SetupError
from rootless.runtime import seccomp
from tests.support import host
from tests.support.bpf import ALLOW, I386, X86_64, deny
from tests.support.bpf import run as run_bpf

AF_UNIX, AF_INET, AF_NETLINK, AF_ALG, AF_VSOCK = 1, 2, 16, 38, 40

DEFAULT: dict[str, Any] = json.loads(Path(data_path("config", "seccomp.json")).read_text())
PODMAN_CAPS = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
]


@pytest.fixture(scope="module")
def library() -> Any:
    host.require("libseccomp")
    return ctypes.CDLL("libseccomp.so.2")


@pytest.fixture
def number(library: Any) -> Any:
    def resolve(name: str, arch: int = X86_64) -> int:
        result: int = library.seccomp_syscall_resolve_name_arch(
            ctypes.c_uint32(arch), name.encode()
        )
        return result

    return resolve


def section(*rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(rules), **more}


@pytest.fixture
def on_x86_64() -> None:
    host.require("x86-64")


def default_program(
    tmp_path: Path, caps: list[str] = PODMAN_CAPS, machine: str = "x86_64"
) -> bytes:
    return seccomp.compile(seccomp.profile(DEFAULT, caps, machine), str(tmp_path / "cache"))


# the default profile


@pytest.mark.parametrize(
    "caps", [[], PODMAN_CAPS, ["CAP_AUDIT_WRITE"], ["CAP_SYS_ADMIN", "CAP_NET_RAW"]]
)
def test_case_25_no_af_alg_nor_af_vsock(
    on_x86_64: None, number: Any, tmp_path: Path, caps: list[str]
) -> None:
    program = default_program(tmp_path, caps)
    x32 = 0x40000000
    for call, arch in (
        (number("socket"), X86_64), (number("socket") | x32, X86_64), (359, I386)
    ):  # fmt: skip
        for family in range(46):
            expected = deny(errno.EAFNOSUPPORT) if family in (AF_ALG, AF_VSOCK) else ALLOW
            assert run_bpf(program, call, arch, family) == expected, (call, family)
        # The kernel looks at the lower half of the register only.
        for family in (AF_ALG, AF_VSOCK):
            for upper in (1, 0x80000000, 0xFFFFFFFF):
                assert run_bpf(program, call, arch, upper << 32 | family) == deny(
                    errno.EAFNOSUPPORT
                )


def test_case_25_socketcall(on_x86_64: None, number: Any, tmp_path: Path) -> None:
    """The family stands in memory: refused to 32-bit programs unless the container is a 32-bit one."""
    program = default_program(tmp_path)
    for what in range(21):
        assert run_bpf(program, 102, I386, what) == deny(errno.EPERM)
    assert run_bpf(default_program(tmp_path, machine="i686"), 102, I386, 1) == ALLOW


@pytest.mark.parametrize("name", ["keyctl", "add_key", "request_key"])
def test_case_25_no_keyrings(on_x86_64: None, number: Any, tmp_path: Path, name: str) -> None:
    program = default_program(tmp_path, [*PODMAN_CAPS, "CAP_SYS_ADMIN"])
    assert run_bpf(program, number(name)) == deny(errno.EPERM)


def test_audit_netlink_has_its_own_errno(on_x86_64: None, number: Any, tmp_path: Path) -> None:
    socket = number("socket")
    program = default_program(tmp_path)
    assert run_bpf(program, socket, X86_64, AF_NETLINK, 3, 9) == deny(errno.EINVAL)
    assert run_bpf(program, socket, X86_64, AF_NETLINK, 3, 0) == ALLOW
    program = default_program(tmp_path, [*PODMAN_CAPS, "CAP_AUDIT_WRITE"])
    assert run_bpf(program, socket, X86_64, AF_NETLINK, 3, 9) == ALLOW


def test_unknown_calls_look_like_an_old_kernel(on_x86_64: None, tmp_path: Path) -> None:
    assert run_bpf(default_program(tmp_path), 400) == deny(errno.ENOSYS)


@pytest.mark.needs("podmans-seccomp")
def test_default_profile_against_podmans(
    on_x86_64: None, number: Any, library: Any, tmp_path: Path
) -> None:
    """Every call is answered as Podman's profile answers it, but for what is listed here."""
    podman = seccomp.compile(
        seccomp.profile(json.loads(host.PODMANS_SECCOMP.read_text()), PODMAN_CAPS),
        str(tmp_path / "cache"),
    )
    ours = default_program(tmp_path)
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    changed = {
        library.seccomp_syscall_resolve_num_arch(X86_64, call).decode()
        for call in range(460)
        if library.seccomp_syscall_resolve_num_arch(X86_64, call)
        and run_bpf(ours, call) != run_bpf(podman, call)
    }
    stricter = {"keyctl", "add_key", "request_key", "perf_event_open", "quotactl_fd"}
    newer = {
        "futex_wait", "futex_waitv", "futex_wake", "futex_requeue", "set_mempolicy_home_node", "mseal", "cachestat",
        "map_shadow_stack", "fchmodat2", "uretprobe",
    }  # fmt: skip
    forbidden_by_both = {"userfaultfd", "vm86", "swapcontext", "readdir"}
    assert changed <= stricter | newer | forbidden_by_both


def test_every_capability_and_architecture_compiles(library: Any, tmp_path: Path) -> None:
    asked = {
        cap for rule in DEFAULT["syscalls"] for cap in rule.get("includes", {}).get("caps", ())
    }
    for size in (0, 1, 2, len(asked)):
        for caps in itertools.islice(itertools.combinations(sorted(asked), size), 4):
            assert default_program(tmp_path, list(caps))
    for machine in ("aarch64", "riscv64", "ppc64le", "i686"):
        assert default_program(tmp_path, machine=machine)


# profiles


def test_includes_and_excludes() -> None:
    def names(
        caps: list[str], machine: str = "x86_64", release: str = "6.1.0-9-amd64"
    ) -> list[str]:
        document = {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                {"names": ["always"], "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": {}},
                {
                    "names": ["both"],
                    "action": "SCMP_ACT_ALLOW",
                    "includes": {"caps": ["CAP_A", "CAP_B"]},
                },
                {
                    "names": ["without"],
                    "action": "SCMP_ACT_ALLOW",
                    "excludes": {"caps": ["CAP_A", "CAP_B"]},
                },
                {"names": ["arm"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
                {
                    "names": ["not-arm"],
                    "action": "SCMP_ACT_ALLOW",
                    "excludes": {"arches": ["arm64"]},
                },
                {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.1"}},
                {"names": ["old"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "6.1"}},
            ],
        }
        return [
            rule["names"][0]
            for rule in seccomp.profile(document, caps, machine, release)["syscalls"]
        ]

    assert names([]) == ["always", "without", "not-arm", "new"]
    assert names(["CAP_A"]) == ["always", "not-arm", "new"]
    assert names(["CAP_A", "CAP_B"], "aarch64", "5.19.0") == ["always", "both", "arm", "old"]


def test_a_plain_section_stays_what_it_is() -> None:
    plain = section(
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
        architectures=["SCMP_ARCH_X86_64"],
        flags=["SECCOMP_FILTER_FLAG_LOG"],
    )
    assert seccomp.profile(plain, []) == plain


def test_errno_names_win_over_numbers() -> None:
    document = {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "defaultErrnoRet": 1,
        "syscalls": [{"name": "read", "action": "SCMP_ACT_ERRNO", "errno": "EIO"}],
    }  # fmt: skip
    resolved = seccomp.profile(document, [])
    assert resolved["defaultErrnoRet"] == errno.ENOSYS
    assert resolved["syscalls"] == [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EIO}
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"architectures": ["SCMP_ARCH_X86"], "archMap": [{}]}, "both architectures and archMap"),
        ({"defaultErrno": "EFOO"}, "unknown errno 'EFOO'"),
        ({"syscalls": [{"name": "a", "names": ["b"]}]}, "both name and names"),
        ({"syscalls": [{"includes": {"minKernel": "six"}}]}, "'six' is not a kernel version"),
    ],
)
def test_profile_errors(document: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        seccomp.profile({"defaultAction": "SCMP_ACT_ALLOW", **document}, [])


# programs

ERRNO = "SCMP_ACT_ERRNO"


@pytest.mark.parametrize(
    ("action", "value", "expected"),
    [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x80000000),
        ("SCMP_ACT_TRAP", None, 0x00030000),
        ("SCMP_ACT_ERRNO", None, deny(errno.EPERM)),
        ("SCMP_ACT_ERRNO", 0, deny(0)),
        ("SCMP_ACT_ERRNO", 99, deny(99)),
        ("SCMP_ACT_TRACE", 7, 0x7FF00007),
        ("SCMP_ACT_LOG", None, 0x7FFC0000),
        ("SCMP_ACT_NOTIFY", None, 0x7FC00000),
    ],
)
@pytest.mark.usefixtures("on_x86_64", "library")
def test_actions(tmp_path: Path, action: str, value: int | None, expected: int) -> None:
    rule: dict[str, Any] = {"names": ["getcwd"], "action": action}
    if value is not None:
        rule["errnoRet"] = value
    program = seccomp.compile(section(rule), str(tmp_path))
    assert run_bpf(program, 79) == expected
    assert run_bpf(program, 80) == ALLOW


@pytest.mark.usefixtures("on_x86_64", "library")
@pytest.mark.parametrize(
    ("operator", "value", "hits", "misses"),
    [
        ("EQ", 5, (5,), (4, 6, 1 << 40 | 5)),
        ("NE", 5, (4, 6, 1 << 40 | 5), (5,)),
        ("LT", 5, (0, 4), (5, 6, 1 << 40)),
        ("LE", 5, (0, 5), (6, 1 << 40)),
        ("GE", 5, (5, 6, 1 << 40), (0, 4)),
        ("GT", 5, (6, 1 << 40), (0, 5)),
        ("MASKED_EQ", 0xF0, (0x50, 0x5F, 1 << 40 | 0x51), (0x40, 0x60)),
    ],
)
def test_operators(
    tmp_path: Path, operator: str, value: int, hits: tuple[int, ...], misses: tuple[int, ...]
) -> None:
    argument = {"index": 1, "value": value, "valueTwo": 0x50, "op": f"SCMP_CMP_{operator}"}
    program = seccomp.compile(
        section({"names": ["getcwd"], "action": ERRNO, "args": [argument]}), str(tmp_path)
    )
    for hit in hits:
        assert run_bpf(program, 79, X86_64, 0, hit) == deny(errno.EPERM), hit
    for miss in misses:
        assert run_bpf(program, 79, X86_64, 0, miss) == ALLOW, miss


def test_conditions_on_one_argument_are_alternatives_and_on_several_are_joined(
    on_x86_64: None, library: Any, tmp_path: Path
) -> None:
    def equal(index: int, value: int) -> dict[str, Any]:
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}

    either = {"names": ["getcwd"], "action": ERRNO, "args": [equal(0, 1), equal(0, 2)]}
    program = seccomp.compile(section(either), str(tmp_path))
    assert [run_bpf(program, 79, X86_64, value) for value in (1, 2, 3)] == [deny(1), deny(1), ALLOW]
    both = {"names": ["getcwd"], "action": ERRNO, "args": [equal(0, 1), equal(1, 2)]}
    program = seccomp.compile(section(both), str(tmp_path))
    assert [run_bpf(program, 79, X86_64, 1, value) for value in (2, 3)] == [deny(1), ALLOW]


def test_unknown_calls_are_ignored_and_other_architectures_killed(
    on_x86_64: None, library: Any, tmp_path: Path
) -> None:
    rule = {"names": ["no_such_call", "getcwd"], "action": ERRNO}
    program = seccomp.compile(section(rule), str(tmp_path))
    assert run_bpf(program, 79) == deny(errno.EPERM)
    assert run_bpf(program, 183, I386) == 0
    both = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert run_bpf(
        seccomp.compile(section(rule, architectures=both), str(tmp_path)), 183, I386
    ) == deny(1)


def test_calls_newer_than_all_that_a_section_knows_are_not_there(
    on_x86_64: None, number: Any, tmp_path: Path
) -> None:
    """As runc has it: who wrote the section has not decided on them, and EPERM would keep programs from the older call."""
    rule = {"names": ["read", "getcwd"], "action": "SCMP_ACT_ALLOW"}
    program = seccomp.compile(section(rule, default=ERRNO), str(tmp_path))
    last = number("getcwd")
    said = [run_bpf(program, call) for call in (0, last - 1, last, last + 1, 1000)]
    assert said == [ALLOW, deny(errno.EPERM), ALLOW, deny(errno.ENOSYS), deny(errno.ENOSYS)]
    assert run_bpf(program, 1 << 30) == run_bpf(program, 1000, I386) == 0  # no architecture of its
    open_errno = {"defaultErrnoRet": errno.EACCES}
    program = seccomp.compile(section(rule, default=ERRNO, **open_errno), str(tmp_path))
    assert run_bpf(program, 1000) == deny(errno.EACCES)
    program = seccomp.compile(section(default=ERRNO), str(tmp_path))
    assert run_bpf(program, 1000) == deny(errno.EPERM)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (section(default="ALLOW"), r"linux.seccomp.defaultAction: unknown action 'ALLOW'"),
        (section(default="SCMP_ACT_FOO"), "unknown action"),
        (section(defaultErrnoRet=3), "defaultAction: an errno is given for SCMP_ACT_ALLOW"),
        (section({"names": ["read"]}), r"syscalls\[0\].action: unknown action None"),
        (
            section({"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1}),
            "an errno is given",
        ),
        (section({"names": ["read"], "action": ERRNO, "errnoRet": 70000}), "70000 is not an errno"),
        (section(architectures=["SCMP_ARCH_VAX"]), r"architectures\[0\]: unknown architecture"),
        (
            section(
                {"names": ["read"], "action": ERRNO, "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}
            ),
            r"syscalls\[0\].args\[0\].index: 6 is not 0 to 5",
        ),
        (
            section({"names": ["read"], "action": ERRNO, "args": [{"index": 0, "op": "EQ"}]}),
            r"syscalls\[0\].args\[0\].op: unknown operator 'EQ'",
        ),
    ],
)
def test_compile_errors(library: Any, tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        seccomp.compile(wrong, str(tmp_path))


# the cache


@pytest.fixture
def compiled(library: Any, tmp_path: Path) -> tuple[dict[str, Any], bytes, Path]:
    rules = section({"names": ["read"], "action": ERRNO})
    program = seccomp.compile(rules, str(tmp_path / "new/cache"))
    (file,) = (tmp_path / "new/cache").iterdir()
    return rules, program, file


def test_a_compiled_program_is_found_again(
    compiled: tuple[dict[str, Any], bytes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules, program, file = compiled
    assert file.read_bytes() == program
    assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(ctypes, "CDLL", None)  # neither the library nor its binding is needed
    assert seccomp.compile(rules, str(file.parent)) == program
    # Where a filter is heard and how it is loaded is no part of the program.
    assert (
        seccomp.compile({**rules, "flags": [], "listenerPath": "/x"}, str(file.parent)) == program
    )


def test_another_section_is_another_program(compiled: tuple[dict[str, Any], bytes, Path]) -> None:
    _, program, file = compiled
    other = section({"names": ["write"], "action": ERRNO})
    assert seccomp.compile(other, str(file.parent)) != program


@pytest.mark.parametrize("harm", ["truncated", "empty", "huge", "readable", "link", "fifo"])
def test_a_file_that_is_not_ours_is_not_believed(
    compiled: tuple[dict[str, Any], bytes, Path], tmp_path: Path, harm: str
) -> None:
    rules, program, file = compiled
    if harm == "truncated":
        file.write_bytes(program[:-3])
    elif harm == "empty":
        file.write_bytes(b"")
    elif harm == "huge":
        file.write_bytes(bytes(8 * 5000))
    elif harm == "readable":
        file.write_bytes(bytes(8))
        file.chmod(0o644)
    else:
        file.unlink()
        if harm == "link":
            (tmp_path / "evil").write_bytes(bytes(8))
            file.symlink_to(tmp_path / "evil")
        else:
            os.mkfifo(file, 0o600)
    assert seccomp.compile(rules, str(file.parent)) == program
    assert file.is_file()
    assert file.read_bytes() == program


def test_no_cache_folder_is_no_error(library: Any) -> None:
    assert seccomp.compile(section({"names": ["read"], "action": ERRNO}), "/dev/null/cache")


# flags


def test_load_flags() -> None:
    spec_allow, log, listener = 1 << 2, 1 << 1, 1 << 3
    assert seccomp.load_flags(section()) == spec_allow
    assert seccomp.load_flags(section(flags=[])) == 0
    assert seccomp.load_flags(section(flags=["SECCOMP_FILTER_FLAG_LOG"])) == log
    notify = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
    assert seccomp.load_flags(section(notify, listenerPath="/s")) == spec_allow | listener
    with pytest.raises(SetupError, match="listenerPath"):
        seccomp.load_flags(section(notify))
    with pytest.raises(SetupError, match=r"flags\[0\]: unknown flag 'FOO'"):
        seccomp.load_flags(section(flags=["FOO"]))
