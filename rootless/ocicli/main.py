"""The front door of `rootless-oci`: reads the command line, calls the one command, and writes what went wrong.

Errors go to standard error in one line and, with --log, into that file as runc writes it, where engines look for them.
"""

from __future__ import annotations

import os
import sys

from rootless.errors import CommandNotFound, RootlessError, Usage
from rootless.ocicli.commandline import Given, parse
from rootless.ocicli.commands import COMMANDS, GLOBAL, GLOBAL_SHORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "rootless-oci"


def main(words: list[str] | None = None) -> int:
    """Run a command line; its exit status."""
    words = sys.argv[1:] if words is None else words
    _open_standard_streams()
    settings = Given()
    try:
        settings = parse(words, GLOBAL, GLOBAL_SHORT, stops=True)
        return _run(settings)
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        return 130
    except RootlessError as error:
        message = error.message
        if isinstance(error, CommandNotFound):
            # The words that engines look for, to tell this from other failures.
            message = message.replace("'", "`").replace(" in the container", "")
            program, _, rest = message.partition(": its interpreter")
            if rest:
                message = f"exec {program}: no such file or directory: its interpreter{rest}"
            elif not message.endswith("no such file or directory"):
                message += ": no such file or directory"
        _report(settings, f"{message} ({error.hint})" if error.hint else message)
        return getattr(error, "oci_code", 1)
    except OSError as error:
        where = f"{_shown(error.filename)}: " if error.filename is not None else ""
        _report(settings, where + (error.strerror or str(error)).lower())
        return 1
    except Exception as error:
        if settings.switch("debug"):
            sys.excepthook(type(error), error, error.__traceback__)
        _report(settings, f"internal error: {type(error).__name__}: {error}")
        return 1


def _run(settings: Given) -> int:
    if settings.switch("version"):
        from rootless.ocicli.features import version

        os.write(1, version().encode())
        return 0
    if settings.switch("help") or not settings.words or settings.words[0] in ("help", "h"):
        from rootless.ocicli.help import overview

        os.write(1, overview().encode())
        return 0
    _check(settings)
    if log_target(settings.text("log"))[0] == "":
        raise Usage(f"--log {settings.text('log')}: neither a file nor file:, syslog: or journald:")
    name, *rest = settings.words
    command = COMMANDS.get(name)
    if command is None:
        raise Usage(f"No help topic for '{name}': no such command; see {NAME} --help")
    if rest[:1] in (["--help"], ["-h"]):
        from rootless.ocicli.help import of_command

        os.write(1, of_command(name, command).encode())
        return 0
    given = parse(rest, command.options, command.short, stops=command.stops)
    if len(given.words) < command.least:
        raise Usage(f'"{name}" requires a minimum of {command.least} argument: {command.words}')
    if len(given.words) > command.most:
        raise Usage(f'"{name}" requires a maximum of {command.most} arguments: {command.words}')
    module = __import__(f"rootless.ocicli.{command.module}", fromlist=["run"])
    status: int = getattr(module, command.function)(settings, given)
    return status


def _check(settings: Given) -> None:
    for option, allowed in (
        ("log-format", ("", "text", "json")),
        ("rootless", ("", "true", "false", "auto")),
        ("cgroup-manager", ("", "cgroupfs", "systemd", "disabled")),
        (
            "log-level",
            ("", "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"),
        ),
    ):
        if settings.text(option) not in allowed:
            raise Usage(
                f'invalid value "{settings.text(option)}" for --{option}: '
                f"one of {', '.join(allowed[1:])}"
            )
    from rootless import log

    log.sink = lambda level, message: record(settings, level, message)
    if settings.switch("debug"):
        log.set_level("debug")
    else:
        log.set_level(settings.text("log-level") or "warn")


def _report(settings: Given, message: str) -> None:
    message = " ".join(message.split())
    if settings.text("log"):
        record(settings, "error", message)
    elif settings.text("log-format") == "json":
        record(settings, "error", message)
        return
    _say(f"{message}\n")


def record(settings: Given, level: str, message: str) -> None:
    """Write a line to the log, or to standard error where there is none."""
    import time

    now = time.time()
    local = time.localtime(now)
    minutes = local.tm_gmtoff // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", local) + (zone if minutes else "Z")
    if settings.text("log-format") == "json":
        from rootless import quickjson as json

        line = json.dumps({"level": level, "msg": message, "time": stamp}, separators=(",", ":"))
    else:
        line = f'time="{stamp}" level={level} msg={_quoted(message)}'
    path = settings.text("log")
    kind, path = log_target(path)
    if not path:
        _say(f"{line}\n")
        return
    if kind != "file":
        from rootless.ocicli.logging import send

        send(kind, path, level, message)
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        _say(f"--log {path}: {(error.strerror or '').lower()}\n")
        return
    os.write(fd, f"{line}\n".encode("utf-8", "surrogateescape"))
    os.close(fd)


def log_target(text: str) -> tuple[str, str]:
    """--log as (file, syslog or journald; the path or the name to use there), as crun writes them."""
    kind, colon, rest = text.partition(":")
    if not colon or "/" in kind:
        return "file", text
    return (kind, rest) if kind in ("file", "syslog", "journald") else ("", "")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _say(text: str) -> None:
    try:
        os.write(2, text.encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # nobody is listening


def _shown(name: Any) -> str:
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else str(name)


def _open_standard_streams() -> None:
    """Give a closed 0, 1 or 2 a /dev/null, lest the next file opened become the container's standard output."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open("/dev/null", os.O_RDONLY if number == 0 else os.O_WRONLY)
            os.set_inheritable(number, True)
