"""--log syslog:NAME and --log journald:NAME: a line to the system's log (syslog(3), sd_journal_send(3))."""

from __future__ import annotations

import os

from rootless.linux import sockets

_PRIORITIES = {
    "panic": 0, "fatal": 2, "error": 3, "warning": 4, "warn": 4, "info": 6, "debug": 7, "trace": 7,
}  # fmt: skip
_USER = 1 << 3


def send(kind: str, name: str, level: str, message: str) -> None:
    """Send it; no error where nobody listens, as syslog(3) has it."""
    priority = _PRIORITIES.get(level, 3)
    if kind == "syslog":
        path, text = "/dev/log", f"<{_USER | priority}>{name}[{os.getpid()}]: {message}"
    else:
        path = "/run/systemd/journal/socket"
        one_line = message.replace("\n", " ")
        text = f"SYSLOG_IDENTIFIER={name}\nPRIORITY={priority}\nMESSAGE={one_line}\n"
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM | sockets.SOCK_CLOEXEC) as end:
        try:
            end.connect(path)
            end.send(text.encode("utf-8", "surrogateescape"))
        except OSError:
            pass
