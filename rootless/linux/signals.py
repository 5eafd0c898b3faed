"""Signals by name and number, as users write them: 15, TERM, SIGTERM, RTMIN+3; signal(7).

The names are constants of Linux on all machines that Python's own `signal` would need an enum and 2 ms for.
"""

from __future__ import annotations

from rootless.errors import Usage

_NAMES = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
)  # fmt: skip
#: glibc takes the kernel's first two for itself.
RTMIN, RTMAX = 34, 64

NUMBERS = {name: number for number, name in enumerate(_NAMES, 1)}
NUMBERS.update(IOT=6, CLD=17, POLL=29, UNUSED=31, RTMIN=RTMIN, RTMAX=RTMAX)


def parse(text: str) -> int:
    """The number of a signal; Podman's words where there is none."""
    if text.isascii() and text.isdigit():
        if not 1 <= int(text) <= RTMAX:
            raise Usage(f"valid signals are 1 through {RTMAX}")
        return int(text)
    name = text.upper().removeprefix("SIG")
    number = NUMBERS.get(name)
    if number is None:
        for sign, base in (("+", "RTMIN"), ("-", "RTMAX")):
            first, found, offset = name.partition(sign)
            if found and first == base and offset.isascii() and offset.isdigit():
                number = NUMBERS[base] + (int(offset) if sign == "+" else -int(offset))
    if number is None or not 1 <= number <= RTMAX or RTMIN - 3 < number < RTMIN:
        raise Usage(f"invalid signal: {text}")
    return number


def name(number: int) -> str:
    """SIGTERM for 15, SIGRTMIN+3 for 37, the number itself for what has no name."""
    if 1 <= number <= len(_NAMES):
        return f"SIG{_NAMES[number - 1]}"
    if number == RTMIN:
        return "SIGRTMIN"
    if number == RTMAX:
        return "SIGRTMAX"
    if RTMIN < number < RTMAX:
        middle = (RTMIN + RTMAX) // 2
        return f"SIGRTMIN+{number - RTMIN}" if number <= middle else f"SIGRTMAX-{RTMAX - number}"
    return str(number)
