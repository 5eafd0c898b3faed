"""A few lines of levelled messages on standard error, as Podman's --log-level words have them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TRACE, DEBUG, INFO, WARN, ERROR, FATAL, PANIC = range(7)
NAMES = ("trace", "debug", "info", "warn", "error", "fatal", "panic")
level = WARN

# The severities of syslog(3) for our levels, in the facility "user".
_SEVERITIES = (15, 15, 14, 12, 11, 10, 8)
_syslog: Any = None
#: Takes the lines in the place of standard error: rootless-oci's own log.
sink: Callable[[str, str], object] | None = None


def set_level(name: str) -> bool:
    """Set the level by its name; False where there is no such level."""
    global level
    name = "warn" if name.lower() == "warning" else name.lower()
    if name not in NAMES:
        return False
    level = NAMES.index(name)
    return True


def to_syslog() -> None:
    """Send every further message to the system's log as well."""
    global _syslog
    import socket

    from rootless.errors import RootlessError

    _syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        _syslog.connect("/dev/log")
    except OSError as error:
        _syslog.close()
        raise RootlessError(
            f"--syslog: /dev/log: {(error.strerror or str(error)).lower()}",
            hint="start a syslog service or journald, or leave it out",
        ) from None


def emit(at: int, message: str) -> None:
    """Write a message of a level that is wanted: to the sink, or to standard error and, with --syslog, to syslog(3)."""
    if at < level:
        return
    if sink is not None:
        sink(NAMES[at], message)
        return
    line = f"{NAMES[at].upper()}: {message}\n"
    if _syslog is not None:
        try:
            _syslog.send(
                f"<{_SEVERITIES[at]}>rootless[{os.getpid()}]: {message}".encode(
                    "utf-8", "surrogateescape"
                )
            )
        except OSError:
            pass
    try:
        os.write(2, line.encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # a closed standard error is no reason to fail


def debug(message: str) -> None:
    emit(DEBUG, message)


def info(message: str) -> None:
    emit(INFO, message)


def warn(message: str) -> None:
    emit(WARN, message)


def error(message: str) -> None:
    emit(ERROR, message)
