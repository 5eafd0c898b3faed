"""The members of an archive or a folder of images, found by name; nothing is opened by a path of the archive's own.

An archive is hostile (security cases 27, 31, 32): its members are looked up in an index made here, links lead to members
only, and each document that is read is bounded.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import NotFound, RootlessError
from rootless.files import write_all
from rootless.linux.fs import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from rootless.storage import compress, tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.image.store import ImageStore

_MEMBERS_MAX = 100_000
_LINKS_MAX = 8


class ArchiveError(RootlessError):
    """A file is not an archive of images, or must not be loaded."""


class Place:
    """Where a member's bytes are: descriptor, start, size."""

    __slots__ = ("fd", "size", "start")

    def __init__(self, fd: int, start: int, size: int) -> None:
        self.fd = fd
        self.start = start
        self.size = size

    def read(self, limit: int, what: str) -> bytes:
        if self.size > limit:
            raise ArchiveError(f"{what}: {self.size} bytes exceed the limit of {limit}")
        data = os.pread(self.fd, self.size, self.start)
        if len(data) != self.size:
            raise ArchiveError(f"{what}: cut off")
        return data

    def is_compressed(self) -> bool:
        return bool(compress.sniff(os.pread(self.fd, 6, self.start)))


class _FileInput(tar.Input):
    """A tar archive's headers from a seekable file, contents skipped."""

    __slots__ = ("_fd", "_position")

    def __init__(self, fd: int) -> None:
        super().__init__(lambda: b"")
        self._fd = fd
        self._position = 0

    @property
    def offset(self) -> int:
        return self._position

    def take(self, count: int) -> bytes:
        data = os.pread(self._fd, count, self._position)
        self._position += len(data)
        return data

    def skip(self, count: int) -> None:
        self._position += count


class TarMembers:
    """The members of an archive in a seekable file."""

    def __init__(self, fd: int, what: str) -> None:
        self.what = what
        self._fd = fd
        self._found: dict[str, Place] = {}
        self._links: dict[str, str] = {}
        end = os.fstat(fd).st_size
        source = _FileInput(fd)
        reader = tar.Reader(source)
        while (entry := reader.next()) is not None:
            name = member_name(os.fsdecode(entry.name))
            if len(self._found) + len(self._links) > _MEMBERS_MAX:
                raise ArchiveError(f"{what}: more than {_MEMBERS_MAX} members")
            if source.offset + entry.size > end:
                raise ArchiveError(f"{what}: the archive is cut off")
            # A later member of the same name counts, as for every tar.
            if entry.type == tar.REGULAR and entry.sparse is None:
                self._found[name] = Place(fd, source.offset, entry.size)
                self._links.pop(name, None)
            elif entry.type in (tar.SYMLINK, tar.HARDLINK):
                target = os.fsdecode(entry.linkname)
                if entry.type == tar.SYMLINK:
                    target = f"{name.rpartition('/')[0]}/{target}"
                self._links[name] = member_name(target)
                self._found.pop(name, None)
            source.skip(entry.size)

    def find(self, name: str) -> Place | None:
        """Return where a member is. Links, as docker writes them for repeated layers, lead to members only."""
        for _ in range(_LINKS_MAX):
            place = self._found.get(name)
            if place is not None:
                return place
            if name not in self._links:
                return None
            name = self._links[name]
        raise ArchiveError(f"{self.what}: {name}: a loop of links")

    def close(self) -> None:
        pass


class FolderMembers:
    """The files of a folder; neither a link nor `..` is followed."""

    def __init__(self, path: str) -> None:
        self.what = path
        self._folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: list[int] = []

    def find(self, name: str) -> Place | None:
        try:
            fd = openat2(
                self._folder,
                name,
                os.O_RDONLY | os.O_NONBLOCK,
                0,
                RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArchiveError(f"{self.what}/{name}: cannot read it: {error.strerror}") from error
        self._open.append(fd)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ArchiveError(f"{self.what}/{name}: not a regular file")
        return Place(fd, 0, status.st_size)

    def close(self) -> None:
        for fd in (self._folder, *self._open):
            os.close(fd)


def member_name(name: str) -> str:
    """A member's name without what is nothing; `..` at the top stays and so matches no name that is asked for."""
    parts: list[str] = []
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def open_members(store: ImageStore, source: str | int, what: str) -> TarMembers | FolderMembers:
    """Open a path or a descriptor; what is compressed or cannot be seeked is first written to a nameless file."""
    if isinstance(source, str):
        if os.path.isdir(source):
            return FolderMembers(source)
        try:
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFound(f"{source}: cannot read it: {(error.strerror or '').lower()}") from error
    else:
        fd = source
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise ArchiveError(f"{what}: is a folder")
    seekable = stat.S_ISREG(status.st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0
    if not seekable or compress.sniff(os.pread(fd, 6, 0)):
        fd = _spool(store, fd)
    try:
        return TarMembers(fd, what)
    except tar.TarError as error:
        raise ArchiveError(f"{what}: {error}") from error


def _spool(store: ImageStore, fd: int) -> int:
    store.make()
    out = store.blobs.nameless()
    limit = store.layers.limits.get("max_bytes", 256 << 30)
    total = 0
    for block in compress.inflate(lambda: os.read(fd, 1 << 18)):
        total += len(block)
        if total > limit:
            raise ArchiveError(f"the archive is larger than the limit of {limit} bytes")
        write_all(out, block)
    return out
