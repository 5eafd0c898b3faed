"""Trees of folders that a container has made: walked by descriptors, however deep they are, through no link.

A program in a container can nest folders deeper than any path can name (PATH_MAX) and than descriptors or Python's
stack would reach (`while mkdir d && cd d; do :; done`), and rename them while they are walked. Each folder is opened by
its name in the one above (security case 14), and only the innermost ones stay open; the way back is `..`, which has to
be the folder that we came from. Lean: `rm` uses it.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Folders that a walk has open at once.
MOST_OPEN = 32


class Passed:
    """A folder on the way down: its descriptor, or -1 and what it must turn out to be."""

    __slots__ = ("fd", "identity")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.identity = (0, 0)

    def close(self) -> None:
        if self.fd < 0:
            return  # since the walk was last as deep as this
        status = os.fstat(self.fd)
        self.identity = (status.st_dev, status.st_ino)
        os.close(self.fd)
        self.fd = -1

    def reopen(self, below: int) -> None:
        """Come back from the folder `below`. Raises ESTALE where that has been moved away from here."""
        self.fd = os.open("..", FOLDER, dir_fd=below)
        status = os.fstat(self.fd)
        if (status.st_dev, status.st_ino) != self.identity:
            raise OSError(errno.ESTALE, "a folder was moved while it was read")


class _Level(Passed):
    """One with what is still to be done in it."""

    __slots__ = ("folders", "name")

    def __init__(self, name: str | bytes, fd: int, folders: list[str]) -> None:
        super().__init__(fd)
        self.name = name
        self.folders = folders


def walk(
    parent: int | None,
    name: str | bytes,
    enter: Callable[[int | None, str | bytes], tuple[int, list[str]] | None],
    leave: Callable[[int | None, str | bytes], None],
) -> None:
    """Visit the folder `name` of the open folder `parent` (None: the working directory) and all folders below it.

    `enter` opens one and tells the names of the folders in it, or None to pass it over; `leave` comes after those.
    """
    levels: list[_Level] = []
    wanted: str | bytes | None = name
    try:
        while True:
            if wanted is not None:
                entered = enter(levels[-1].fd if levels else parent, wanted)
                if entered is not None:
                    levels.append(_Level(wanted, *entered))
                    if len(levels) > MOST_OPEN:
                        levels[-1 - MOST_OPEN].close()
            if not levels:
                return
            level = levels[-1]
            if level.folders:
                wanted = level.folders.pop()
                continue
            wanted = None
            above = levels[-2] if len(levels) > 1 else None
            if above is not None and above.fd < 0:
                above.reopen(level.fd)
            os.close(level.fd)
            levels.pop()
            leave(above.fd if above is not None else parent, level.name)
            if above is None:
                return
    finally:
        for level in levels:
            if level.fd >= 0:
                os.close(level.fd)


def remove(parent: int | None, name: str | bytes, *, force: bool = False) -> None:
    """Remove `name` and all in it; with `force`, also what is in folders that forbid it by their modes.

    Raises FileNotFoundError where it is not there.
    """
    os.stat(name, dir_fd=parent, follow_symlinks=False)

    def enter(above: int | None, child: str | bytes) -> tuple[int, list[str]] | None:
        fd = _open_or_remove(above, child)
        if fd is None:
            return None
        try:
            return fd, _remove_files(fd, force)
        except BaseException:
            os.close(fd)
            raise

    def leave(above: int | None, child: str | bytes) -> None:
        try:
            os.rmdir(child, dir_fd=above)
        except FileNotFoundError:
            pass

    walk(parent, name, enter, leave)


def _open_or_remove(parent: int | None, name: str | bytes) -> int | None:
    """Open a folder; anything else, and a folder that is closed and empty, is removed instead."""
    try:
        return os.open(name, FOLDER, dir_fd=parent)
    except FileNotFoundError:
        return None
    except PermissionError:
        try:
            os.rmdir(name, dir_fd=parent)  # overlay's work folder has mode 0 and is empty
            return None
        except OSError:
            os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(name, dir_fd=parent)
        return None


def _remove_files(folder: int, force: bool) -> list[str]:
    """Remove what is no folder; the names of the folders."""
    with os.scandir(folder) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    if listed and force:
        os.fchmod(folder, 0o700)
    for name, is_folder in listed:
        if not is_folder:
            try:
                os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                pass
    return [name for name, is_folder in listed if is_folder]


def size(path: str) -> int:
    """The lengths of all regular files below a folder, in bytes; a file with several names counts once.

    What vanishes meanwhile counts nothing.
    """
    total = 0
    seen: set[tuple[int, int]] = set()

    def enter(above: int | None, name: str | bytes) -> tuple[int, list[str]] | None:
        nonlocal total
        try:
            fd = os.open(name, FOLDER, dir_fd=above)
        except (FileNotFoundError, NotADirectoryError):
            return None
        folders = []
        try:
            for child in os.listdir(fd):
                try:
                    status = os.stat(child, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                key = (status.st_dev, status.st_ino)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(child)
                elif stat.S_ISREG(status.st_mode) and (status.st_nlink == 1 or key not in seen):
                    total += status.st_size
                    if status.st_nlink > 1:
                        seen.add(key)
        except BaseException:
            os.close(fd)
            raise
        return fd, folders

    walk(None, path, enter, lambda above, name: None)
    return total
