"""Is an unpacked layer still what its archive said? Each file's kind, size, mode, owner and link; and nothing besides.

Runs in the helper with the layer's folder as root, on the archive made again by its recipe, which reads every file's content.
"""

from __future__ import annotations

import os
import stat

from rootless.storage import tar
from rootless.storage.extract import CHOWN, OPAQUE, SQUASH, WHITEOUT, Owners, clean, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {tar.REGULAR: stat.S_IFREG, tar.DIRECTORY: stat.S_IFDIR, tar.SYMLINK: stat.S_IFLNK}
_KINDS[tar.FIFO] = stat.S_IFIFO


class Verifier:
    """Compares entries with the files; `problem` is the first difference."""

    def __init__(self, owners: Owners | None) -> None:
        # None where files have other owners and modes by intent: a store for others, or of another map.
        self._owners = owners
        # By inode, since an archive may lead through its own symbolic links.
        self._known = {os.lstat(b".").st_ino}
        # An archive may name a folder twice: the last one counts.
        self._folders: dict[bytes, tar.Entry] = {}
        self.problem = ""

    def run(self, blocks: Iterator[bytes]) -> None:
        source = tar.Input(lambda: next(blocks, b""))
        reader = tar.Reader(source)
        while (entry := reader.next()) is not None:
            if not self.problem:
                self._entry(entry)
            for _ in source.pieces(entry.size):
                pass
        reader.finish()
        for path, entry in self._folders.items():
            if not self.problem and self._owners is not None:
                self._permissions(entry, path, os.lstat(path or b"."), self._owners)
        if not self.problem:
            self._strangers(b".")

    def _entry(self, entry: tar.Entry) -> None:
        path = clean(entry.name)
        if WHITEOUT in path:
            self._whiteout(path)
            return
        if entry.type in (tar.CHAR, tar.BLOCKDEV):
            return  # nobody here can make them
        try:
            status = os.lstat(path or b".")
        except (FileNotFoundError, NotADirectoryError):
            self.problem = f"{show(path)} is missing"
            return
        self._parents(path)
        self._known.add(status.st_ino)
        if entry.type == tar.HARDLINK:
            if status.st_ino != os.lstat(clean(entry.linkname)).st_ino:
                self.problem = f"{show(path)} is no link any more to {show(entry.linkname)}"
        elif stat.S_IFMT(status.st_mode) != _KINDS[entry.type]:
            self.problem = f"{show(path)} is of another kind"
        elif entry.type == tar.REGULAR and status.st_size != entry.real_size:
            self.problem = f"{show(path)} has another size"
        elif entry.type == tar.SYMLINK and os.readlink(path) != entry.linkname:
            self.problem = f"{show(path)} leads elsewhere"
        elif entry.type == tar.DIRECTORY:
            self._folders[path] = entry
        elif self._owners is not None:
            self._permissions(entry, path, status, self._owners)

    def _permissions(
        self, entry: tar.Entry, path: bytes, status: os.stat_result, owners: Owners
    ) -> None:
        if entry.type != tar.SYMLINK and stat.S_IMODE(status.st_mode) != entry.mode:
            self.problem = (
                f"{show(path)} has mode {stat.S_IMODE(status.st_mode):04o} for {entry.mode:04o}"
            )
            return
        action = owners.action(entry)
        wanted = (entry.uid, entry.gid) if action == CHOWN else (0, 0)
        if action != SQUASH and (status.st_uid, status.st_gid) != wanted:
            self.problem = f"{show(path)} belongs to another"

    def _parents(self, path: bytes) -> None:
        """Folders that have no entry of their own are known by what is in them."""
        while parent := path.rpartition(b"/")[0]:
            inode = os.stat(parent).st_ino
            if inode in self._known:
                return
            self._known.add(inode)
            path = parent

    def _whiteout(self, path: bytes) -> None:
        parent, _, base = path.rpartition(b"/")
        if not base.startswith(WHITEOUT) or (base.startswith(b".wh..wh.") and base != OPAQUE):
            return
        self._parents(path)
        for name in (base, base[len(WHITEOUT) :]):
            # In either form, or as the folder of this layer that takes the place of the one below.
            try:
                self._known.add(os.lstat(parent + b"/" + name if parent else name).st_ino)
            except FileNotFoundError:
                continue

    def _strangers(self, folder: bytes) -> None:
        for entry in os.scandir(folder):
            if entry.inode() not in self._known:
                self.problem = f"{show(entry.path.removeprefix(b'./'))} is none of the image's"
                return
            if entry.is_dir(follow_symlinks=False):
                self._strangers(entry.path)
                if self.problem:
                    return
