"""Folders made inside a container's root, never through a link that leads out of it."""

from __future__ import annotations

import errno
import os

from rootless.linux import fs

_MAX_LINKS = 40  # as many as the kernel follows


def make_dirs(
    root: int,
    path: str,
    mode: int = 0o755,
    owner: tuple[int, int] | None = None,
    links: int = 0,
) -> int:
    """Make a folder and its parents inside the root; an O_PATH descriptor of it. New ones get `owner`."""
    current = fs.open_in_root(root, "/", fs.O_PATH | os.O_DIRECTORY)
    walked = ""
    for name in path.split("/"):
        if not name:
            continue
        walked += "/" + name
        try:
            following = fs.open_in_root(root, walked, fs.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            try:
                os.mkdir(name, mode, dir_fd=current)
                if owner is not None:
                    os.chown(name, *owner, dir_fd=current, follow_symlinks=False)
                following = fs.open_in_root(root, walked, fs.O_PATH | os.O_DIRECTORY)
            except FileExistsError:
                following = _made_meanwhile(root, current, walked, mode, owner, links)
        os.close(current)
        current = following
    return current


def _made_meanwhile(
    root: int, parent: int, path: str, mode: int, owner: tuple[int, int] | None, links: int
) -> int:
    """A folder that was missing and is there: made by another, or a link that leads nowhere."""
    try:
        return fs.open_in_root(root, path, fs.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        folder, _, name = path.rpartition("/")
        target = dangling(parent, name, folder, links)
    return make_dirs(root, target, mode, owner, links + 1)


def dangling(parent: int, name: str, folder: str, links: int) -> str:
    """Where in the root a link that leads nowhere leads to; an error for anything else of that name."""
    if links >= _MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), f"{folder}/{name}")
    try:
        text = os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise NotADirectoryError(
            errno.ENOTDIR, os.strerror(errno.ENOTDIR), f"{folder}/{name}"
        ) from None
    return text if text.startswith("/") else f"{folder}/{text}"
