"""System call filters: the runtime-spec's `linux.seccomp` (config-linux.md), compiled, cached and loaded; seccomp(2).

A compiled program is kept in a folder of the caller's by the digest of what it was made from, so that an ordinary
start loads neither libseccomp nor its binding. `load` needs no import, no file and no name look-up: it may be called
after the change of root. The order that init has to keep: a process without no_new_privs may load a filter only as
long as it has CAP_SYS_ADMIN, so before its capabilities are dropped; with no_new_privs it comes last, before execve.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

from rootless import quickjson as json
from rootless.errors import SetupError
from rootless.files import make_dirs, write_atomic
from rootless.linux import libc
from rootless.linux import seccomp as kernel
from rootless.linux import sockets as socket
from rootless.linux.prctl import PR_SET_PDEATHSIG, prctl
from rootless.linux.sched import CLONE_FILES, clone

try:
    # hashlib costs 4 ms, since it loads OpenSSL; this is what it calls.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Section = dict[str, Any]

# What a profile's `arches` call a machine of uname(2), and its name in archMap.
_MACHINES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "i386": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "armv6l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "mips64": ("mips64", "SCMP_ARCH_MIPS64"),
    "loongarch64": ("loong64", "SCMP_ARCH_LOONGARCH64"),
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": kernel.FILTER_FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": kernel.FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": kernel.FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": kernel.FILTER_FLAG_WAIT_KILLABLE_RECV,
}
# What of a section does not change the program.
_NOT_COMPILED = ("flags", "listenerPath", "listenerMetadata")
_INSTRUCTION_BYTES = 8
_MAX_BYTES = 4096 * _INSTRUCTION_BYTES  # BPF_MAXINSNS
_FORMAT = "2"


# profiles


def profile(
    document: dict[str, Any], caps: Iterable[str], machine: str = "", release: str = ""
) -> Section:
    """Resolve a profile of the field's format for a container with the bounding set `caps` into a section.

    That format is the runtime-spec's with `archMap`, and with rules bound to capabilities, architectures and kernel
    versions by `includes` and `excludes`; a plain section comes out as it went in.
    """
    if not machine or not release:
        host = os.uname()
        machine = machine or host.machine
        release = release or host.release
    arch, native = _MACHINES.get(machine, (machine, ""))
    held = frozenset(caps)
    section: Section = {"defaultAction": document.get("defaultAction")}
    default_errno = _errno(document.get("defaultErrno"), document.get("defaultErrnoRet"))
    if default_errno is not None:
        section["defaultErrnoRet"] = default_errno
    architectures = _architectures(document, native)
    if architectures:
        section["architectures"] = architectures
    for key in ("flags", "listenerPath", "listenerMetadata"):
        if document.get(key):
            section[key] = document[key]
    section["syscalls"] = [
        _plain_rule(rule)
        for rule in document.get("syscalls") or ()
        if _applies(rule, held, arch, release)
    ]
    return section


def _architectures(document: dict[str, Any], native: str) -> list[str]:
    listed: list[str] = document.get("architectures") or []
    mapped = document.get("archMap") or []
    if listed and mapped:
        raise SetupError(
            "seccomp profile: both architectures and archMap are given", stage="seccomp"
        )
    for entry in mapped:
        if entry.get("architecture") == native:
            return [native, *(entry.get("subArchitectures") or [])]
    return listed


def _applies(rule: dict[str, Any], held: frozenset[str], arch: str, release: str) -> bool:
    excludes = rule.get("excludes")
    if excludes:
        if arch in (excludes.get("arches") or ()):
            return False
        if not held.isdisjoint(excludes.get("caps") or ()):
            return False
        if excludes.get("minKernel") and _is_at_least(release, excludes["minKernel"]):
            return False
    includes = rule.get("includes")
    if includes:
        if includes.get("arches") and arch not in includes["arches"]:
            return False
        if not held.issuperset(includes.get("caps") or ()):
            return False
        if includes.get("minKernel") and not _is_at_least(release, includes["minKernel"]):
            return False
    return True


def _is_at_least(release: str, wanted: str) -> bool:
    return _version(release) >= _version(wanted)


def _version(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    digits = ""
    for character in rest:
        if not character.isdigit():
            break
        digits += character
    try:
        return int(major), int(digits or 0)
    except ValueError:
        raise SetupError(
            f"seccomp profile: {release!r} is not a kernel version", stage="seccomp"
        ) from None


def _plain_rule(rule: dict[str, Any]) -> dict[str, Any]:
    names = rule.get("names")
    if rule.get("name"):  # the older form of the format
        if names:
            raise SetupError(
                f"seccomp profile: both name and names are given for {rule['name']}",
                stage="seccomp",
            )
        names = [rule["name"]]
    plain: dict[str, Any] = {"names": names or [], "action": rule.get("action")}
    value = _errno(rule.get("errno"), rule.get("errnoRet"))
    if value is not None:
        plain["errnoRet"] = value
    if rule.get("args"):
        plain["args"] = rule["args"]
    return plain


def _errno(name: str | None, value: int | None) -> int | None:
    """An errno given by its name, which is the same on every architecture, before its number."""
    if not name:
        return value
    number = getattr(errno, name, None)
    if not isinstance(number, int):
        raise SetupError(f"seccomp profile: unknown errno {name!r}", stage="seccomp")
    return number


# programs


def compile(section: Section, cache_dir: str) -> bytes:
    """The BPF program of a `linux.seccomp` section, from `cache_dir` where it has been compiled before."""
    path = f"{cache_dir}/seccomp-{_key(section)}"
    program = _cached(path)
    if program is None:
        from rootless.runtime import libseccomp

        program = libseccomp.translate(section)
        try:
            make_dirs(cache_dir)
            write_atomic(path, program)
        except OSError:
            pass  # a full or read-only folder costs the next start 30 ms, not this one its container
    return program


def _key(section: Section) -> str:
    compiled = {key: value for key, value in section.items() if key not in _NOT_COMPILED}
    text = json.dumps([_FORMAT, os.uname().machine, _library_version(), compiled], sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _library_version() -> str:
    """Which libseccomp would compile, told by its file's name, because asking it would mean to load it."""
    multiarch = getattr(sys.implementation, "_multiarch", "")
    for folder in (f"/usr/lib/{multiarch}", "/usr/lib64", "/usr/lib", "/lib64", "/lib"):
        try:
            return os.readlink(f"{folder}/libseccomp.so.2")
        except OSError:
            continue
    return ""


def _cached(path: str) -> bytes | None:
    """A program that was stored by ourselves; anything else that lies there is compiled again and replaced."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_uid != os.geteuid()
            or status.st_mode & 0o077
            or not 0 < status.st_size <= _MAX_BYTES
            or status.st_size % _INSTRUCTION_BYTES
        ):
            return None
        program = os.read(fd, status.st_size)
        return program if len(program) == status.st_size else None
    except OSError:
        return None
    finally:
        os.close(fd)


def load_flags(section: Section) -> int:
    """The flags of seccomp(2) that a section asks for; as runc and crun do, SPEC_ALLOW where it names none at all."""
    names = section.get("flags")
    flags = kernel.FILTER_FLAG_SPEC_ALLOW if names is None else 0
    for index, name in enumerate(names or ()):
        if name not in _FLAGS:
            raise SetupError(
                f"linux.seccomp.flags[{index}]: unknown flag {name!r}", stage="seccomp"
            )
        flags |= _FLAGS[name]
    notifies = section.get("defaultAction") == "SCMP_ACT_NOTIFY" or any(
        rule.get("action") == "SCMP_ACT_NOTIFY" for rule in section.get("syscalls") or ()
    )
    if notifies and not section.get("listenerPath"):
        raise SetupError("linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs one", stage="seccomp")
    if section.get("listenerPath"):
        flags |= kernel.FILTER_FLAG_NEW_LISTENER
        if flags & kernel.FILTER_FLAG_TSYNC:
            # seccomp(2): both give a result in the same return value, unless told to give an error for threads.
            flags |= kernel.FILTER_FLAG_TSYNC_ESRCH
    return flags


def load(program: bytes, flags: int = 0) -> int | None:
    """Put the calling thread under `program` for good; the listener's descriptor where NEW_LISTENER is asked for."""
    listens = flags & kernel.FILTER_FLAG_NEW_LISTENER
    try:
        result = kernel.set_mode_filter(program, flags)
    except OSError as error:
        # The other flags are wishes that an older kernel need not know.
        if error.errno != errno.EINVAL or not flags or listens:
            raise
        result = kernel.set_mode_filter(program, 0)
    return result if listens else None


# notification

_NOT_YET, _TAKEN = -1, -2
_TAKING_S = 10.0


class Listener:
    """How the descriptor of a notifying filter leaves the process that has just loaded it.

    That process cannot send it: from the moment that it has one, each of its system calls may be one that waits for an
    answer by the agent, who has not got the descriptor yet. So a helper forked before shares its table of descriptors and
    sends it; the number goes through shared memory, which is no call. The memory is made before the first fork.
    """

    __slots__ = ("_helper", "_number", "_word")

    def __init__(self) -> None:
        import mmap

        self._word = mmap.mmap(-1, mmap.PAGESIZE)  # MAP_SHARED | MAP_ANONYMOUS
        self._number = libc.c_int.from_buffer(self._word)
        self._number.value = _NOT_YET
        self._helper = 0

    def wait(self, send: Callable[[int], object]) -> None:
        """Before `load`: fork the helper, which calls `send` with the descriptor."""
        self._helper = clone(CLONE_FILES)
        if self._helper:
            return
        status = 1
        try:
            prctl(PR_SET_PDEATHSIG, 9)
            deadline = time.monotonic() + _TAKING_S
            while self._number.value == _NOT_YET and time.monotonic() < deadline:
                time.sleep(0.0005)
            if self._number.value >= 0:
                send(self._number.value)
                status = 0
        finally:
            self._number.value = _TAKEN
            os._exit(status)

    def publish(self, fd: int) -> None:
        """Directly after `load`: no system call until the helper has sent it."""
        self._number.value = fd
        while self._number.value != _TAKEN:
            pass  # a millisecond; the helper gives up after a time
        os.waitpid(self._helper, 0)


def send_listener(section: Section, fd: int, pid: int, state: dict[str, Any]) -> None:
    """Give the descriptor to the agent at `listenerPath` with the container process state; closes nothing."""
    path = section["listenerPath"]
    message = {
        "ociVersion": "0.2.0",  # of the container process state itself, as crun has it
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": section.get("listenerMetadata", ""),
        "state": state,
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as agent:
        try:
            agent.connect(path)
            data = json.dumps(message).encode()
            sent = agent.sendmsg([data], socket.rights((fd,)))
            if sent < len(data):
                agent.sendall(data[sent:])
        except OSError as error:
            raise SetupError(
                f"linux.seccomp.listenerPath: failed to connect with seccomp agent {path}: "
                f"{os.strerror(error.errno or 0).lower()}",
                stage="seccomp",
                errno=error.errno or 0,
            ) from error
