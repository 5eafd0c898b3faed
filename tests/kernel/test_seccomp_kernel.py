"""Filters under the real kernel: each test body runs in a forked child that ends under its filter."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.data import data_path
from rootless.errors import SetupError
from rootless.linux.idmap import IdMap
from rootless.linux.prctl import PR_SET_NO_NEW_PRIVS, prctl
from rootless.linux.userns import fork_in_userns
from rootless.runtime import seccomp
from rootless.runtime.sync import Channel
from tests.support import bpf

libc = ctypes.CDLL(None, use_errno=True)


pytestmark = pytest.mark.needs("libseccomp")


def in_child(body: Callable[[], object]) -> int:
    """The wait status of a child that runs `body`; its traceback goes to standard error."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def passes(body: Callable[[], object]) -> None:
    assert in_child(body) == 0


def rules(*listed: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(listed), **more}


def error_of(call: Callable[[], object]) -> int:
    try:
        call()
    except OSError as error:
        return error.errno or 0
    return 0


def load(section: dict[str, Any], folder: Path) -> int | None:
    program = seccomp.compile(section, str(folder))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    return seccomp.load(program, seccomp.load_flags(section))


def default_section(*caps: str) -> dict[str, Any]:
    document = json.loads(Path(data_path("config", "seccomp.json")).read_text())
    return seccomp.profile(document, caps)


def test_an_errno_is_what_the_program_sees(tmp_path: Path) -> None:
    def body() -> None:
        load(
            rules({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 88}),
            tmp_path,
        )
        assert error_of(lambda: os.mkdir("/tmp/x")) == 88
        assert error_of(lambda: os.rmdir("/nowhere")) == errno.ENOENT

    passes(body)


@pytest.mark.parametrize(
    ("action", "number"),
    [("SCMP_ACT_KILL_PROCESS", signal.SIGSYS), ("SCMP_ACT_TRAP", signal.SIGSYS)],
)
def test_a_kill_kills(tmp_path: Path, action: str, number: int) -> None:
    def body() -> None:
        load(rules({"names": ["getcwd"], "action": action}), tmp_path)
        os.getcwd()

    assert os.WTERMSIG(in_child(body)) == number


def test_arguments_are_compared(tmp_path: Path) -> None:
    only_tcp = {
        "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EAFNOSUPPORT,
        "args": [{"index": 0, "value": socket.AF_INET, "op": "SCMP_CMP_NE"}],
    }  # fmt: skip

    def body() -> None:
        load(rules(only_tcp), tmp_path)
        socket.socket(socket.AF_INET).close()
        assert error_of(lambda: socket.socket(socket.AF_UNIX)) == errno.EAFNOSUPPORT

    passes(body)


def test_a_filter_needs_no_new_privs_or_a_capability(tmp_path: Path) -> None:
    program = seccomp.compile(rules(), str(tmp_path))

    def unprivileged() -> None:
        if os.geteuid():
            assert error_of(lambda: seccomp.load(program)) == errno.EACCES

    passes(unprivileged)

    def as_root_of_a_namespace() -> None:
        assert seccomp.load(program) is None

    uid, gid = os.getuid(), os.getgid()
    fork_in_userns(IdMap([(0, uid, 1)], [(0, gid, 1)]), as_root_of_a_namespace).wait()


def test_flags_that_the_kernel_does_not_know_are_left_out(tmp_path: Path) -> None:
    program = seccomp.compile(rules(), str(tmp_path))

    def body() -> None:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        assert seccomp.load(program, 1 << 31) is None

    passes(body)


def test_load_needs_no_files(tmp_path: Path) -> None:
    """Security case 12: after the change of root nothing is imported or looked up."""
    program = seccomp.compile(
        rules({"names": ["openat", "open"], "action": "SCMP_ACT_KILL_PROCESS"}), str(tmp_path)
    )
    deny_all_files = seccomp.compile(
        rules(
            {
                "names": ["openat", "open", "stat", "newfstatat", "readlink"],
                "action": "SCMP_ACT_ERRNO",
            }
        ),
        str(tmp_path),
    )

    def body() -> None:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        seccomp.load(deny_all_files)
        seccomp.load(program)
        os._exit(0)

    passes(body)


# the default profile


@pytest.mark.needs("x86-64")
def test_case_25_sockets_under_the_default_profile(tmp_path: Path) -> None:
    def body() -> None:
        load(default_section(), tmp_path)
        socket.socket(socket.AF_INET).close()
        socket.socket(socket.AF_INET6).close()
        socket.socket(socket.AF_UNIX).close()
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
        for family in (socket.AF_ALG, socket.AF_VSOCK):
            refused = error_of(functools.partial(socket.socket, family, socket.SOCK_SEQPACKET))
            assert refused == errno.EAFNOSUPPORT
            # By the raw call, since nothing else puts a value into the upper half of the register.
            number = ctypes.c_ulong(1 << 32 | family)
            assert (
                libc.syscall(ctypes.c_long(41), number, ctypes.c_ulong(5), ctypes.c_ulong(0)) == -1
            )
            assert ctypes.get_errno() == errno.EAFNOSUPPORT

    passes(body)


def int80(call: int, first: int, second: int) -> int:
    """Make a 32-bit system call from a 64-bit process; its arguments must lie below 4 GB."""
    import mmap

    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # mov eax, edi; mov ebx, esi; mov ecx, edx; int 0x80; ret, with rbx kept
    code.write(bytes.fromhex("53 89f8 89f3 89d1 cd80 5b c3"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_uint)(address)
    return int(function(call, first, second))


def low_memory(data: bytes) -> int:
    """The address of a copy of `data` that a 32-bit pointer can name."""
    map_32bit = 0x40
    mmap = libc.mmap
    mmap.restype = ctypes.c_void_p
    mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    address = int(mmap(None, 4096, 3, 0x22 | map_32bit, -1, 0))
    ctypes.memmove(address, data, len(data))
    return address


@pytest.mark.needs("32-bit-programs")
def test_case_25_32_bit_socketcall(tmp_path: Path) -> None:
    arguments = struct.pack("<3I", socket.AF_ALG, socket.SOCK_SEQPACKET, 0)

    def body() -> None:
        load(default_section(), tmp_path)
        assert int80(102, 1, low_memory(arguments)) == -errno.EPERM
        assert int80(359, socket.AF_ALG, socket.SOCK_SEQPACKET) == -errno.EAFNOSUPPORT
        assert int80(359, socket.AF_UNIX, socket.SOCK_STREAM) >= 0

    passes(body)


@pytest.mark.needs("x86-64")
def test_case_25_keyrings_under_the_default_profile(tmp_path: Path) -> None:
    def body() -> None:
        load(default_section("CAP_SYS_ADMIN"), tmp_path)
        for number in (248, 249, 250):
            assert libc.syscall(number, 0, 0, 0, 0, 0) == -1
            assert ctypes.get_errno() == errno.EPERM

    passes(body)


def test_a_program_runs_under_the_default_profile(tmp_path: Path) -> None:
    """Python, a shell and a thread, in a user namespace made under the filter."""

    def body() -> None:
        load(default_section(), tmp_path)
        os.execv(
            "/bin/sh",
            ["sh", "-c", f"unshare -Ur true && {sys.executable} -c 'import threading, ssl'"],
        )

    passes(body)


# notification


def agent(server: socket.socket, answers: list[dict[str, Any]], replies: int) -> None:
    """Take the listener's descriptor and answer `replies` calls with errno 77 (seccomp_unotify(2))."""
    connection, _ = server.accept()
    with connection:
        data, fds, _, _ = socket.recv_fds(connection, 65536, 2)
    answers.append({"fds": len(fds), "message": json.loads(data)})
    import fcntl

    receive, send = 0xC0502100, 0xC0182101
    for _ in range(replies):
        notice = bytearray(80)
        fcntl.ioctl(fds[0], receive, notice)
        identity = struct.unpack_from("<Q", notice)[0]
        fcntl.ioctl(fds[0], send, bytearray(struct.pack("<QqiI", identity, 0, -77, 0)))
    os.close(fds[0])


def test_the_listener_reaches_its_agent(tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    # `write` is watched too: nothing that the child does between load and publish may be a call that waits.
    section = rules(
        {"names": ["mkdir", "mkdirat", "write"], "action": "SCMP_ACT_NOTIFY"},
        listenerPath=path, listenerMetadata="meta",
    )  # fmt: skip
    program, flags = seccomp.compile(section, str(tmp_path)), seccomp.load_flags(section)
    answers: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        thread = threading.Thread(target=agent, args=(server, answers, 2))
        thread.start()
        listener = seccomp.Listener()
        ours, theirs = Channel.pair()
        pid = os.fork()
        if pid == 0:
            try:
                prctl(PR_SET_NO_NEW_PRIVS, 1)
                listener.wait(lambda fd: theirs.send(b"l", fd=fd))
                fd = seccomp.load(program, flags)
                assert fd is not None
                listener.publish(fd)
                first = error_of(lambda: os.mkdir("/tmp/never"))
                second = error_of(lambda: os.write(1, b"x") and None)
                os._exit(0 if (first, second) == (77, 77) else 3)
            finally:
                os._exit(1)
        _, _, fd = ours.receive()
        seccomp.send_listener(
            section,
            fd,
            pid,
            {"ociVersion": "1.2.0", "id": "c", "status": "creating", "bundle": "/b"},
        )
        os.close(fd)
        ours.close()
        theirs.close()
        assert os.waitpid(pid, 0)[1] == 0
        thread.join()
    assert answers == [
        {
            "fds": 1,
            "message": {
                "ociVersion": "0.2.0", "fds": ["seccompFd"], "pid": pid, "metadata": "meta",
                "state": {"ociVersion": "1.2.0", "id": "c", "status": "creating", "bundle": "/b"},
            },
        }
    ]  # fmt: skip


def test_an_absent_agent_is_named(tmp_path: Path) -> None:
    section = rules(listenerPath=str(tmp_path / "nobody"))
    with pytest.raises(SetupError, match=r"seccomp agent .*/nobody: no such file"):
        seccomp.send_listener(section, 0, 1, {})


def test_no_program_is_loaded_at_import() -> None:
    code = "import sys; import rootless.runtime.seccomp; print('rootless.runtime.libseccomp' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


# crun


CRUN = """
mount -t tmpfs none /sys/fs/cgroup/unified 2>/dev/null # crun gives up on a hybrid hierarchy
crun --cgroup-manager disabled --root state create -b . probe </dev/null >/dev/null || exit
cp state/probe/seccomp.bpf .
crun --cgroup-manager disabled --root state delete -f probe
"""


def by_crun(section: dict[str, Any], folder: Path) -> bytes:
    """The program that crun makes of a section."""
    (folder / "rootfs").mkdir(parents=True)
    (folder / "rootfs/sh").touch(mode=0o755)  # looked for, never run
    (folder / "state").mkdir()
    subprocess.run(["crun", "spec", "--rootless"], cwd=folder, check=True)
    config = json.loads((folder / "config.json").read_text())
    config["linux"]["seccomp"] = section
    config["process"].update(terminal=False, args=["/sh"])
    for kind in ("uidMappings", "gidMappings"):
        config["linux"][kind] = [{"containerID": 0, "hostID": 0, "size": 1}]
    (folder / "config.json").write_text(json.dumps(config))
    subprocess.run(["unshare", "-Urm", "sh", "-c", CRUN], cwd=folder, check=True, timeout=60)
    return (folder / "seccomp.bpf").read_bytes()


@pytest.mark.peer
@pytest.mark.needs("userns", "crun", "x86-64")
def test_crun_makes_the_same_of_the_default_profile(tmp_path: Path) -> None:
    """Every call number of three architectures, and every family of socket, get the same answer."""
    section = default_section("CAP_CHOWN", "CAP_SYS_CHROOT")
    theirs = by_crun(section, tmp_path / "bundle")
    ours = seccomp.compile(section, str(tmp_path))
    for arch, first in ((bpf.X86_64, 0), (bpf.X86_64, 0x40000000), (bpf.I386, 0)):
        for number in range(first, first + 560):
            assert bpf.run(ours, number, arch) == bpf.run(theirs, number, arch), number
    for arch, number in (
        (bpf.X86_64, 41),
        (bpf.X86_64, 0x40000029),
        (bpf.I386, 359),
        (bpf.I386, 102),
    ):
        for family in [*range(70), (1 << 32) + 38, 2**64 - 1]:
            for protocol in (0, 9):
                arguments = (family, 3, protocol)
                assert bpf.run(ours, number, arch, *arguments) == bpf.run(
                    theirs, number, arch, *arguments
                )
    for persona in (0, 1, 8, 131072, 131080, 4294967295, 2**64 - 1):
        assert bpf.run(ours, 135, bpf.X86_64, persona) == bpf.run(theirs, 135, bpf.X86_64, persona)
