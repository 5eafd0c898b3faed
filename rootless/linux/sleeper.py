"""A program of some hundred bytes that waits until one of its descriptors is ready, and then executes another.

A process that has nothing to do until then needs no interpreter: 10 KiB in the place of Python's 2.3 MiB, and of the
650 KiB of a monitor in C. What it has to do is known beforehand but for four system calls, so it is assembled here for
each sleep, by constants, and lives in a memory file; nothing is compiled at installation:

        prctl(PR_SET_NAME, name)
        fd = signalfd4(-1, signals, 8, SFD_CLOEXEC)
        ppoll({fd, descriptors…}, timeout, NULL)
    again:
        execve(path, arguments, environment)
        ppoll({}, one second, NULL)         the program is being replaced, or memory is short
        goto again

Signals that are to wake it must be blocked by whoever executes it (a mask outlasts execve(2)): they stay pending for the
program that follows. What it executes has its environment.

Instructions: Intel 64 Software Developer's Manual, volume 2; Arm Architecture Reference Manual, C6. Files: elf(5). System calls: syscall(2), "Architecture calling conventions".
"""

from __future__ import annotations

import errno
import os
from struct import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import NoReturn, Protocol

    class Assembler(Protocol):
        """The few instructions, for one kind of machine."""

        MACHINE: int  # e_machine of elf(5)
        prctl: int
        signalfd4: int
        ppoll: int
        execve: int
        code: bytearray

        def reserve(self, slots: int) -> None:
            """Make room for so many values of 8 bytes at the stack's end; an even number."""

        def store(self, slot: int, value: int) -> None:
            """Put a constant into a slot."""

        def store_result(self, slot: int) -> None:
            """Put the low half of the last call's result into a slot's low half."""

        def call(self, number: int, *arguments: int | Slot) -> None:
            """A system call with constants and slots' addresses."""

        def jump(self, target: int) -> None:
            """Go on at an offset of the code."""


_BASE = 0x400000
_DATA = _BASE + 64 + 2 * 56  # after the file's header and two program headers
_PAGE = 0x10000  # the largest of both machines
_PR_SET_NAME = 15
_SFD_CLOEXEC = 0o2000000
_POLLIN = 1
_MFD_CLOEXEC, _MFD_EXEC = 1, 0x10
_LONGEST_MS = 2**31 - 1


class Slot(int):
    """A slot of the stack, standing for its address."""


class _X86:
    MACHINE = 62
    prctl, signalfd4, ppoll, execve = 157, 289, 271, 59
    _ARGUMENTS = (7, 6, 2, 10, 8)  # rdi rsi rdx r10 r8

    def __init__(self) -> None:
        self.code = bytearray()

    def _load(self, register: int, value: int) -> None:
        # REX.W [+B] B8+r: mov r64, imm64
        self.code += pack("<BBQ", 0x48 | register >> 3, 0xB8 | register & 7, value % 2**64)

    def reserve(self, slots: int) -> None:
        self.code += b"\x48\x81\xec" + pack("<I", 8 * slots)  # sub rsp, imm32

    def store(self, slot: int, value: int) -> None:
        self._load(0, value)
        self.code += b"\x48\x89\x84\x24" + pack("<I", 8 * slot)  # mov [rsp+disp32], rax

    def store_result(self, slot: int) -> None:
        self.code += b"\x89\x84\x24" + pack("<I", 8 * slot)  # mov [rsp+disp32], eax

    def call(self, number: int, *arguments: int | Slot) -> None:
        for register, value in zip(self._ARGUMENTS, arguments, strict=False):
            if isinstance(value, Slot):
                # REX.W [+R] 8D /r: lea r64, [rsp+disp32]
                self.code += pack("<BBBBI", 0x48 | register >> 3 << 2, 0x8D, 0x84 | (register & 7) << 3, 0x24, 8 * value)  # fmt: skip
            else:
                self._load(register, value)
        self._load(0, number)
        self.code += b"\x0f\x05"  # syscall

    def jump(self, target: int) -> None:
        self.code += b"\xe9" + pack("<i", target - len(self.code) - 5)  # jmp rel32


class _Arm64:
    MACHINE = 183
    prctl, signalfd4, ppoll, execve = 167, 74, 73, 221

    def __init__(self) -> None:
        self.code = bytearray()

    def _emit(self, instruction: int) -> None:
        self.code += pack("<I", instruction)

    def _load(self, register: int, value: int) -> None:
        for part in range(4):
            # movz for the lowest 16 bits, movk for the others
            base = 0xF2800000 if part else 0xD2800000
            self._emit(base | part << 21 | (value >> 16 * part & 0xFFFF) << 5 | register)

    def reserve(self, slots: int) -> None:
        self._emit(
            0xD10003FF | (8 * slots + 15 & ~15) << 10
        )  # sub sp, sp, #imm12: a multiple of 16

    def store(self, slot: int, value: int) -> None:
        self._load(9, value)
        self._emit(0xF90003E9 | slot << 10)  # str x9, [sp, #8*slot]

    def store_result(self, slot: int) -> None:
        self._emit(0xB90003E0 | 2 * slot << 10)  # str w0, [sp, #4*2*slot]

    def call(self, number: int, *arguments: int | Slot) -> None:
        for register, value in enumerate(arguments):
            if isinstance(value, Slot):
                self._emit(0x910003E0 | 8 * value << 10 | register)  # add xN, sp, #imm12
            else:
                self._load(register, value)
        self._load(8, number)
        self._emit(0xD4000001)  # svc #0

    def jump(self, target: int) -> None:
        self._emit(0x14000000 | (target - len(self.code)) // 4 & 0x3FFFFFF)  # b


ASSEMBLERS: dict[str, type[Assembler]] = {"x86_64": _X86, "aarch64": _Arm64}
#: Descriptors that one sleeper can wait for: Arm adds no more than 4095 to the stack's address.
MOST = 400


class Sleep:
    """What a sleeper waits for and what it executes then."""

    __slots__ = ("name", "descriptors", "signals", "timeout_ms", "path", "arguments")

    def __init__(
        self,
        name: str,
        path: str,
        arguments: Sequence[str],
        *,
        descriptors: Sequence[int] = (),
        signals: Collection[int] = (),
        timeout_ms: int | None = None,
    ) -> None:
        """
        :param name: the sleeping process's (comm), of which 15 bytes are kept
        :param path: what it executes, with these arguments and its own environment
        :param descriptors: input on one of them wakes it
        :param signals: so does one of these
        :param timeout_ms: and so does the time, in milliseconds
        """
        self.name = name
        self.path = path
        self.arguments = arguments
        self.descriptors = descriptors
        self.signals = signals
        self.timeout_ms = None if timeout_ms is None else min(timeout_ms, _LONGEST_MS)


def program(kind: type[Assembler], sleep: Sleep) -> bytes:
    """The ELF file. It must be started with one argument, as `execute` does."""
    data = bytearray()

    def text(value: str) -> int:
        at = _DATA + len(data)
        data.extend(os.fsencode(value) + b"\0")
        return at

    comm, path = text(sleep.name[:15]), text(sleep.path)
    words = [text(word) for word in sleep.arguments]
    data.extend(bytes(-len(data) % 8))
    vector = _DATA + len(data)
    data.extend(pack(f"<{len(words) + 1}Q", *words, 0))
    entry = _DATA + len(data)
    code = _code(kind(), sleep, comm, path, vector)
    end = entry - _BASE + len(code)
    return (
        pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, kind.MACHINE, 1, entry, 64, 0, 0, 64, 56, 2, 64, 0, 0)
        + pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, end, end, _PAGE)  # PT_LOAD, readable and executable
        + pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK, not executable
        + data
        + code
    )  # fmt: skip


def _code(machine: Assembler, sleep: Sleep, name: int, path: int, arguments: int) -> bytes:
    """The instructions; `name`, `path` and `arguments` are the addresses of what `program` has laid out."""
    time, mask, polled = Slot(0), Slot(2), Slot(3)
    slots = 4 + len(sleep.descriptors)
    slots += slots % 2  # a stack has to be aligned to 16 bytes
    machine.reserve(slots)
    # A program starts with this on its stack: the count 1, its argument, NULL, the environment.
    environment = Slot(slots + 3)
    machine.call(machine.prctl, _PR_SET_NAME, name, 0, 0, 0)
    machine.store(mask, sum(1 << number - 1 for number in sleep.signals))
    # struct pollfd: int fd; short events; short revents
    machine.store(polled, _POLLIN << 32)
    machine.call(machine.signalfd4, -1, mask, 8, _SFD_CLOEXEC)
    machine.store_result(polled)
    for place, fd in enumerate(sleep.descriptors, polled + 1):
        machine.store(place, _POLLIN << 32 | fd)
    limit: int | Slot = 0
    if sleep.timeout_ms is not None:
        machine.store(0, sleep.timeout_ms // 1000)
        machine.store(1, sleep.timeout_ms % 1000 * 1_000_000)
        limit = time
    machine.call(machine.ppoll, polled, 1 + len(sleep.descriptors), limit, 0, 0)
    again = len(machine.code)
    machine.call(machine.execve, path, arguments, environment)
    machine.store(0, 1)
    machine.store(1, 0)
    machine.call(machine.ppoll, 0, 0, time, 0, 0)
    machine.jump(again)
    return bytes(machine.code)


def execute(sleep: Sleep, *, title: str, environment: Mapping[str, str]) -> NoReturn:
    """Become a process with `title` as its command line that sleeps, and then becomes what follows.

    :raises OSError: where that cannot be: ENOTSUP for another kind of machine, E2BIG for more than MOST descriptors,
        what the kernel says where memory files may not be executed (the sysctl vm.memfd_noexec)
    """
    machine = os.uname().machine
    if machine not in ASSEMBLERS:
        raise OSError(errno.ENOTSUP, f"no sleeper is known for {machine} machines")
    if (count := len(sleep.descriptors)) > MOST:
        raise OSError(errno.E2BIG, f"a sleeper waits for at most {MOST} descriptors, not {count}")
    image = program(ASSEMBLERS[machine], sleep)
    fd = _memory_file(sleep.name)
    try:
        os.write(fd, image)
        os.execve(fd, [title], environment)
    finally:
        os.close(fd)


def _memory_file(name: str) -> int:
    try:
        return os.memfd_create(name, _MFD_CLOEXEC | _MFD_EXEC)
    except OSError:
        # Before Linux 6.3 they are executable without being asked.
        return os.memfd_create(name, _MFD_CLOEXEC)
