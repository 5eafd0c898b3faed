"""What a volume asks of init beyond being mounted: content and owner from the image at its first use, `U`, a subpath.

A mount entry says so in a property `rootless` that other runtimes pass over:

    firstUse   the volume's folder; the file `used` in it says that this has been done. Empty where the container's ids
               could not write it, and the caller has written it already
    copyUp     with firstUse: an empty volume gets the image's content of the place it is mounted on
    chown      all of it becomes the process's user's (`-v …:U`)
    subpath    a folder or file inside the source, found without leaving it
    detached   the source is this descriptor, a mount that is attached nowhere (see mounts.open_source)

Sources are opened by path while the host's root is there, everything else goes by descriptor (security cases 9, 33).
"""

from __future__ import annotations

import errno
import fcntl
import os

from rootless.errors import SetupError
from rootless.linux import fs
from rootless.runtime import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USED = "used"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Duty:
    """One entry's wishes. `open` on the host side, `fill` before the mount, `give` once the user is known."""

    __slots__ = ("_data", "_entry", "_folder", "_new", "_wishes")

    def __init__(self, entry: dict[str, Any]) -> None:
        self._entry = entry
        self._wishes: dict[str, Any] = entry["rootless"]
        self._folder = self._data = -1
        # Set where the image has no such place: the volume's root becomes the process's user's.
        self._new = False

    def open(self) -> None:
        try:
            if self._wishes.get("firstUse"):
                self._folder = os.open(self._wishes["firstUse"], _FOLDER)
            is_chowned = self._wishes.get("chown") and self._entry["type"] == "bind"
            if "firstUse" in self._wishes or is_chowned:
                self._data = mounts.open_below(
                    self._entry["source"], self._wishes.get("subpath", "")
                )
        except OSError as error:
            raise self._failed("use", error) from error

    def fill(self, root: int) -> None:
        """Give a volume that was never used the owner, mode and content of its place in the image."""
        if "firstUse" not in self._wishes:
            return
        try:
            if self._folder < 0:
                self._fill(root)
                return
            # Several containers may start with one new volume at once.
            fcntl.flock(self._folder, fcntl.LOCK_EX)
            try:
                if USED not in os.listdir(self._folder):
                    self._fill(root)
                    how = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                    os.close(os.open(USED, how, 0o600, dir_fd=self._folder))
            finally:
                fcntl.flock(self._folder, fcntl.LOCK_UN)
        except OSError as error:
            raise self._failed("copy the image's files to", error) from error

    def _fill(self, root: int) -> None:
        try:
            below = fs.open_in_root(root, self._entry["destination"], _FOLDER)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            self._new = True
        else:
            try:
                # What is there already is never overwritten (CVE-2020-1726).
                if self._wishes.get("copyUp") and not os.listdir(self._data):
                    mounts.copy_up(below, self._data)
                mounts.copy_attributes(below, self._data, os.fstat(below))
            finally:
                os.close(below)

    def give(self, uid: int, gid: int) -> None:
        """Chown what is to be the process's user's; the container's root has been entered by now."""
        try:
            if self._wishes.get("chown"):
                if self._data < 0:
                    self._data = fs.open_in_root(-100, self._entry["destination"], _FOLDER)
                chown_tree(self._data, uid, gid)
            elif self._new:
                os.fchown(self._data, uid, gid)
        except OSError as error:
            raise self._failed("chown", error) from error
        finally:
            for fd in (self._folder, self._data):
                if fd >= 0:
                    os.close(fd)
            self._folder = self._data = -1

    def _failed(self, verb: str, error: OSError) -> SetupError:
        place = (
            f"{self._entry.get('source') or self._entry['type']} at {self._entry['destination']}"
        )
        return SetupError(
            f"cannot {verb} {place}: {os.strerror(error.errno or 0).lower()}",
            stage="mount",
            errno=error.errno or 0,
            hint="files of ids that the container does not map cannot be chowned"
            if verb == "chown" and error.errno in (errno.EPERM, errno.EINVAL)
            else "",
        )


def chown_tree(fd: int, uid: int, gid: int) -> None:
    """Chown a file, or a folder with all in it, following no link and leaving what has the owner already."""
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) != (uid, gid):
        os.fchown(fd, uid, gid)
    if status.st_mode & 0o170000 != 0o040000:
        return
    with os.scandir(fd) as entries:
        listed = [
            (entry.name, entry.is_dir(follow_symlinks=False), entry.stat(follow_symlinks=False))
            for entry in entries
        ]
    for name, is_folder, status in listed:
        if is_folder:
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            try:
                chown_tree(below, uid, gid)
            finally:
                os.close(below)
        elif (status.st_uid, status.st_gid) != (uid, gid):
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
