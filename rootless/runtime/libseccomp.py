"""The compiler behind `seccomp.compile`: a `linux.seccomp` section in, a BPF program out, by way of libseccomp.

A module of its own because a cached program needs none of this: the hot path loads neither it nor the library.
What is ignored (unknown system calls) and what is refused follows crun and runc.
"""

from __future__ import annotations

import ctypes
import os
import struct

from rootless.errors import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ACTIONS = {
    "KILL": 0x00000000,
    "KILL_THREAD": 0x00000000,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x00030000,
    "ERRNO": 0x00050000,
    "TRACE": 0x7FF00000,
    "NOTIFY": 0x7FC00000,
    "LOG": 0x7FFC0000,
    "ALLOW": 0x7FFF0000,
}
_WITH_VALUE = ("ERRNO", "TRACE")
_OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
_ATTR_OPTIMIZE = 8
_UNKNOWN_SYSCALL = -1
_EPERM = 1
_EEXIST = 17
_ENOSYS = 38
# linux/bpf_common.h, linux/audit.h
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_GREATER, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_X86_64, _X32_BIT = 0xC000003E, 1 << 30


class _Compare(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


def translate(section: dict[str, Any]) -> bytes:
    """Compile a runtime-spec seccomp section to the classic BPF program that the kernel takes."""
    library = _library()
    default = _action(section.get("defaultAction"), section.get("defaultErrnoRet"), "defaultAction")
    context = library.seccomp_init(default)
    if not context:
        raise SetupError("linux.seccomp.defaultAction: libseccomp refuses it", stage="seccomp")
    try:
        # A tree over the system calls in the place of a list: shorter for every call, and quicker to load, because
        # the kernel runs the program once for each call number to find those that are always allowed.
        library.seccomp_attr_set(context, _ATTR_OPTIMIZE, 2)
        _add_architectures(library, context, section.get("architectures") or [])
        for index, rule in enumerate(section.get("syscalls") or []):
            _add_rule(library, context, rule, f"syscalls[{index}]", default)
        return _for_newer_calls(library, section) + _export(library, context)
    finally:
        library.seccomp_release(context)


def _library() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise SetupError(
            f"cannot load libseccomp.so.2, which a seccomp profile needs: {error}",
            stage="seccomp",
            hint="install libseccomp2 (libseccomp on Fedora), or run with --security-opt seccomp=unconfined",
        ) from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.restype = None
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_arch_native.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Compare)
    ]  # fmt: skip
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def _action(name: object, value: object, where: str) -> int:
    short = name.removeprefix("SCMP_ACT_") if isinstance(name, str) else ""
    if short == name or short not in _ACTIONS:
        raise SetupError(f"linux.seccomp.{where}: unknown action {name!r}", stage="seccomp")
    if short not in _WITH_VALUE:
        if value is not None:
            raise SetupError(
                f"linux.seccomp.{where}: an errno is given for {name}", stage="seccomp"
            )
        return _ACTIONS[short]
    if value is None:
        value = _EPERM
    if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
        raise SetupError(f"linux.seccomp.{where}: {value!r} is not an errno", stage="seccomp")
    return _ACTIONS[short] | value


def _add_architectures(library: Any, context: int, names: list[str]) -> None:
    for index, name in enumerate(names):
        token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
        if token == 0:
            raise SetupError(
                f"linux.seccomp.architectures[{index}]: unknown architecture {name!r}",
                stage="seccomp",
            )
        result = library.seccomp_arch_add(context, token)
        if result not in (0, -_EEXIST):  # the native one is there from the start
            raise SetupError(
                f"linux.seccomp.architectures[{index}]: {name}: {os.strerror(-result)}",
                stage="seccomp",
            )


def _add_rule(library: Any, context: int, rule: dict[str, Any], where: str, default: int) -> None:
    action = _action(rule.get("action"), rule.get("errnoRet"), f"{where}.action")
    if action == default:
        return  # libseccomp refuses a rule that says what would be done without it
    compares = _compares(rule.get("args") or [], where)
    for name in rule.get("names") or []:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_SYSCALL:
            continue
        for some in compares:
            array = (_Compare * len(some))(*some)
            result = library.seccomp_rule_add_array(context, action, number, len(some), array)
            if result < 0:
                raise SetupError(
                    f"linux.seccomp.{where}: cannot add {name}: {os.strerror(-result)}",
                    stage="seccomp",
                )


def _compares(arguments: list[dict[str, Any]], where: str) -> list[list[_Compare]]:
    """The argument conditions of each rule to add: all of them at once, or one by one where they share an argument."""
    conditions = []
    for index, argument in enumerate(arguments):
        name = argument.get("op")
        operator = name.removeprefix("SCMP_CMP_") if isinstance(name, str) else ""
        if operator == name or operator not in _OPERATORS:
            raise SetupError(
                f"linux.seccomp.{where}.args[{index}].op: unknown operator {name!r}",
                stage="seccomp",
            )
        number = argument.get("index")
        if not isinstance(number, int) or not 0 <= number < 6:
            raise SetupError(
                f"linux.seccomp.{where}.args[{index}].index: {number!r} is not 0 to 5",
                stage="seccomp",
            )
        value, value_two = argument.get("value") or 0, argument.get("valueTwo") or 0
        conditions.append(_Compare(number, _OPERATORS[operator], value, value_two))
    # libseccomp takes one condition per argument; runc and crun make several on one argument alternatives.
    if len({condition.arg for condition in conditions}) < len(conditions):
        return [[condition] for condition in conditions]
    return [conditions]


def _for_newer_calls(library: Any, section: dict[str, Any]) -> bytes:
    """What comes before the program: ENOSYS for every call that is newer than all that the section knows of.

    Whoever wrote it did not decide on those. With EPERM a C library that tries a new call first does not fall back on the
    old one; runc has it so. Only where the section leaves the errno open, and only for the machine's own calls.
    """
    if section.get("defaultAction") != "SCMP_ACT_ERRNO":
        return b""
    if section.get("defaultErrnoRet") is not None:
        return b""
    names = [name for rule in section.get("syscalls") or [] for name in rule.get("names") or []]
    last = max((library.seccomp_syscall_resolve_name(name.encode()) for name in names), default=0)
    if last <= 0:
        return b""
    native = library.seccomp_arch_native()
    steps = [(_RETURN, 0, 0, _ACTIONS["ERRNO"] | _ENOSYS)]
    steps.insert(0, (_JUMP_IF_GREATER, 0, 1, last))
    if native == _X86_64:
        steps.insert(0, (_JUMP_IF_AT_LEAST, len(steps), 0, _X32_BIT))
    steps.insert(0, (_LOAD, 0, 0, 0))  # seccomp_data.nr
    steps.insert(0, (_JUMP_IF_EQUAL, 0, len(steps), native))
    steps.insert(0, (_LOAD, 0, 0, 4))  # seccomp_data.arch
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _export(library: Any, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        result = library.seccomp_export_bpf(context, fd)
        if result < 0:
            raise SetupError(
                f"linux.seccomp: cannot compile: {os.strerror(-result)}", stage="seccomp"
            )
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
