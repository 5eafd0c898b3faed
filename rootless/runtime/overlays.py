"""Overlays below the root: mount entries of type overlay (`-v DIR:DST:O`, images as mounts).

A runtime-spec entry has them as options, `lowerdir=A:B,upperdir=U,workdir=W`; without an upper folder they are read-only.
The folders are opened on the host side, so that the container's ids need not reach them by path.
"""

from __future__ import annotations

import errno
import os

from rootless.linux import libc
from rootless.linux import mount as m
from rootless.runtime import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HOW = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def split_lowers(text: str) -> list[str]:
    """The folders of a `lowerdir=`: a colon separates, a backslash keeps the next character."""
    found, one, position = [], "", 0
    while position < len(text):
        char = text[position]
        if char == "\\":
            position += 1
            one += text[position : position + 1]
        elif char == ":":
            found.append(one)
            one = ""
        else:
            one += char
        position += 1
    return [*found, one]


def lower_mount(lowers: list[str], spare: str) -> int:
    """A detached read-only mount of folders, the topmost first; `spare` is an empty one to mount on on the way."""
    if len(lowers) == 1:
        return m.open_tree(libc.AT_FDCWD, lowers[0], m.OPEN_TREE_CLONE)
    opened = [os.open(path, _HOW) for path in lowers]
    try:
        return _mount(
            [f"/proc/self/fd/{fd}" for fd in opened], [("userxattr", None)], os.path.split(spare)
        )
    finally:
        for fd in opened:
            os.close(fd)


def _mount(
    lowers: list[str], tail: list[tuple[str, str | None]], spare: tuple[str, str] | tuple[int, str]
) -> int:
    try:
        return m.new_filesystem(
            "overlay", [("source", "overlay"), *(("lowerdir+", one) for one in lowers), *tail]
        )
    except OSError as error:
        # EINVAL: before Linux 6.7 there is no `lowerdir+`, and a `lowerdir` string holds 255 bytes only.
        if error.errno != errno.EINVAL:
            raise
    words = ["lowerdir=" + ":".join(lowers)]
    words += [key if value is None else f"{key}={value}" for key, value in tail]
    folder, name = spare
    os.chdir(folder)
    m.mount("overlay", name, "overlay", 0, ",".join(words))
    return m.open_tree(libc.AT_FDCWD, name, m.OPEN_TREE_CLONE)


class Overlay:
    """One entry; `open` while the host's root is there, `mount` in the container's mount namespace."""

    __slots__ = ("_entry", "_folder", "_lowers", "_name", "_upper", "_work")

    def __init__(self, entry: dict[str, Any]) -> None:
        self._entry = entry
        self._lowers: list[int] = []
        self._upper = self._work = self._folder = -1
        self._name = ""

    def open(self) -> None:
        given = dict(
            word.split("=", 1) for word in self._entry.get("options") or [] if "dir=" in word
        )
        lowers = split_lowers(given["lowerdir"])
        self._lowers = [os.open(path, _HOW) for path in lowers]
        top = lowers[0]
        if "upperdir" in given:
            top = given["upperdir"]
            self._upper = os.open(top, _HOW)
            self._work = os.open(given["workdir"], _HOW)
        self._folder = os.open(os.path.dirname(top), _HOW)
        self._name = os.path.basename(top)

    def mount(self) -> int:
        """A detached mount with the entry's attributes."""
        made = self._make()
        options = mounts.Options(self._entry.get("options") or [])
        if options.set or options.clear:
            m.mount_setattr(made, options.set, options.clear)
        for kind, recursive in options.propagation:
            m.mount_setattr(made, propagation=kind, recursive=recursive)
        for fd in (*self._lowers, self._upper, self._work, self._folder):
            if fd >= 0:
                os.close(fd)
        return made

    def _make(self) -> int:
        lowers = [f"/proc/self/fd/{fd}" for fd in self._lowers]
        tail: list[tuple[str, str | None]] = [("userxattr", None)]
        if self._upper >= 0:
            tail += [
                ("upperdir", f"/proc/self/fd/{self._upper}"),
                ("workdir", f"/proc/self/fd/{self._work}"),
            ]
        return _mount(lowers, tail, (self._folder, self._name))
