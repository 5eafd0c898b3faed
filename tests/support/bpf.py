"""A machine for the classic BPF programs that libseccomp emits, so that a filter can be asked without the kernel."""

from __future__ import annotations

import struct

X86_64 = 0xC000003E
I386 = 0x40000003
ALLOW = 0x7FFF0000


def deny(number: int) -> int:
    """SECCOMP_RET_ERRNO with an errno."""
    return 0x00050000 | number


def run(program: bytes, number: int, arch: int = X86_64, *args: int) -> int:
    """What a program says to a system call."""
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<iIQ6Q", number, arch, 0, *(value & 2**64 - 1 for value in padded))
    accumulator = position = 0
    while True:
        code, yes, no, value = struct.unpack_from("<HBBI", program, position * 8)
        position += 1
        if code == 0x20:  # load a word
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x05:
            position += value
        elif code == 0x06:
            return int(value)
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
            }
            position += yes if holds[code] else no
