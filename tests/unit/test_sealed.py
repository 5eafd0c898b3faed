"""rootless.sealed: which commands need a sealed interpreter, and where a copy finds its libraries."""

from __future__ import annotations

import os
from pathlib import Path

from rootless import sealed
from rootless.cli.table import ALIASES, COMMANDS, GROUPS

#: What starts a program of a container's, at once or through a monitor.
STARTING = ("run", "start", "restart", "exec", "init", "create", "container", "healthcheck", "auto-update", "build", "kube", "pod", "unshare", "generate", "quadlet")  # fmt: skip


def test_commands_that_start_programs_are_sealed() -> None:
    assert not sealed.WITHOUT & set(STARTING)
    known = {path.partition(" ")[0] for path in (*COMMANDS, *GROUPS, *ALIASES)}
    for word in sealed.WITHOUT:
        assert word.startswith("-") or word in known | {"help", "secret"}, word


def test_an_interpreter_of_the_system_is_left_alone() -> None:
    if os.stat("/proc/self/exe").st_uid != os.geteuid():
        from rootless.start import _is_writable_inside

        assert not _is_writable_inside(os.stat("/proc/self/exe").st_uid)


def test_libraries_beside_the_interpreter(tmp_path: Path) -> None:
    folder = os.path.dirname(os.path.realpath("/proc/self/exe"))
    for data, expected in (
        (b"\x7fELF\0libc.so.6\0$ORIGIN/../lib:/x\0rest", f"{folder}/../lib:/x"),
        (b"\x7fELF\0${ORIGIN}\0", folder),
        (b"\x7fELF\0libc.so.6\0", ""),
    ):
        path = tmp_path / "elf"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        assert sealed._library_folders(fd) == expected
        os.close(fd)
