"""Unpacks one layer's tar stream into the current root.

The caller has forked, entered the user namespace and changed its root to the layer's folder, so that no name, link or
race leads outside: plain relative paths are safe here, and the kernel resolves an archive's own symlinks as a
container would. Nothing is imported, and no name looked up, from here on (security case 12).

Invariant: what is written is owned by mapped ids only; what the archive said beyond that is in the recipe and, where
an owner could not be given, in the xattr OWNER beside the file.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.linux import tree
from rootless.storage import tar
from rootless.storage.tar import TarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.storage.recipe import Recorder

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
OPAQUE_XATTR = b"user.overlay.opaque"
# "uid:gid:mode", as containers/storage and fuse-overlayfs write and read it.
OWNER_XATTR = b"user.containers.override_stat"
# On the root of a layer whose files all have another owner and mode than their image says.
MASKED_XATTR = b"user.rootless.masked"

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Kept from an archive; trusted.* cannot be set here, user.overlay.* and the owner record would steer overlayfs or us.
_XATTR_PREFIXES = (b"user.", b"security.capability", b"system.posix_acl_")
_XATTR_FORBIDDEN = (
    b"user.overlay.",
    b"user.containers.",
    b"user.fuseoverlayfs.",
    b"user.rootless.",
)
_XATTR_IGNORED_ERRORS = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ENODATA)

# Zeros at least this long are not written.
_HOLE = 1 << 16
_ZEROS = memoryview(bytes(1 << 20))

# What happens to an owner.
ROOT = 0
CHOWN = 1
SQUASH = 2


class Limits:
    """What one layer may hold; a layer above it is refused, whatever its digest."""

    __slots__ = ("max_bytes", "max_entries", "reserve")

    def __init__(
        self,
        max_bytes: int = 256 << 30,
        max_entries: int = 10_000_000,
        reserve: int = 16 << 20,
    ) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        # Free bytes that an unpack leaves on the file system, so that a bomb does not choke the user's own programs.
        self.reserve = reserve


class Owners:
    """Which owners of an archive can be given in this namespace.

    `single` marks a map of one id, where every owner is squashed and recorded; with ranges an owner outside of them
    is an error unless `ignore` is set.
    """

    __slots__ = ("_known", "gids", "ignore", "mask", "single", "uids")

    def __init__(
        self,
        uids: list[tuple[int, int, int]],
        gids: list[tuple[int, int, int]],
        single: bool,
        ignore: bool = False,
        mask: int | None = None,
    ) -> None:
        # The mode that every file gets instead of its own, in a store for others.
        self.mask = mask
        self.uids = uids
        self.gids = gids
        self.single = single
        self.ignore = ignore
        self._known: dict[tuple[int, int], int] = {(0, 0): ROOT if mask is None else SQUASH}

    def action(self, entry: tar.Entry) -> int:
        key = (entry.uid, entry.gid)
        action = self._known.get(key)
        if action is None:
            action = self._known[key] = self._decide(entry)
        return action

    def mode(self, entry: tar.Entry) -> int:
        """The mode that a file or folder gets."""
        return entry.mode if self.mask is None else self.mask

    def _decide(self, entry: tar.Entry) -> int:
        if not self.single and self.mask is None:
            uid_ok = _mapped(self.uids, entry.uid)
            if uid_ok and _mapped(self.gids, entry.gid):
                return CHOWN
            if not self.ignore:
                what, identity, table = (
                    ("gid", entry.gid, "/etc/subgid")
                    if uid_ok
                    else ("uid", entry.uid, "/etc/subuid")
                )
                mapped = sum(size for _, _, size in (self.gids if uid_ok else self.uids))
                raise TarError(
                    f"{show(entry.name)}: its owner, {what} {identity}, is outside the id mapping of {mapped} ids",
                    hint=f"ask for a larger range in {table}, or squash owners with --storage-opt ignore_chown_errors=true",
                )
        return SQUASH


def _mapped(ranges: list[tuple[int, int, int]], identity: int) -> bool:
    return any(start <= identity < start + size for start, _, size in ranges)


def show(name: bytes) -> str:
    """A name from an archive as text that cannot steer a terminal."""
    text = name.decode("utf-8", "replace")
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= 200 else text[:200] + "…"


def clean(name: bytes) -> bytes:
    """Make a member's name relative and free of `.` and `..`; b"" is the root itself.

    A name that climbs above the root is refused, as the other engines do, although it could reach nothing.
    """
    if name[:1] not in b"./" and b"/." not in name and b"//" not in name:
        return name.rstrip(b"/")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise TarError(f"{show(name)}: a path in the archive leads outside of it")
            parts.pop()
        else:
            parts.append(part)
    return b"/".join(parts)


class Extractor:
    """Writes entries below the current folder, which is also the root."""

    __slots__ = (
        "_dirs",
        "_limits",
        "_made",
        "_opaque",
        "_owners",
        "_recorder",
        "_whiteouts",
        "count",
        "skipped",
    )

    def __init__(
        self, owners: Owners, limits: Limits, recorder: Recorder | None, *, whiteouts: bool = True
    ) -> None:
        self._owners = owners
        # Off where the archive is no layer: then `.wh.x` is a file like any other.
        self._whiteouts = whiteouts
        self._limits = limits
        self._recorder = recorder
        # Times of folders are set last: each file made inside changes them.
        self._dirs: dict[bytes, int] = {}
        self._made: set[bytes] = {b""}
        self._opaque: set[bytes] = set()
        self.count = 0
        self.skipped = 0

    def run(self, reader: tar.Reader) -> None:
        os.umask(0)
        limit = self._limits.max_entries
        if self._owners.mask is not None:
            # OWNER on the root is how fuse-overlayfs knows such a layer; an entry of its own may follow.
            self._record_root(b".")
            try:
                os.setxattr(b".", MASKED_XATTR, b"1")
            except OSError as error:
                raise TarError(
                    f"force_mask: this file system keeps no owners beside its files: {os.strerror(error.errno or 0).lower()}"
                ) from error
        while (entry := reader.next()) is not None:
            self.count += 1
            if self.count > limit:
                raise TarError(f"the layer holds more than {limit} entries")
            if entry.size > self._limits.max_bytes:
                # Said before any of it is written: the bytes may come for ever.
                raise TarError(
                    f"{show(entry.name)}: its {entry.size} bytes make the layer larger than the limit of "
                    f"{self._limits.max_bytes} bytes"
                )
            try:
                self._entry(entry, reader.input)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                    raise
                raise TarError(
                    f"cannot unpack {show(entry.name)}: {os.strerror(error.errno or 0).lower()}"
                ) from error
        reader.finish()
        for path, mtime in reversed(self._dirs.items()):
            try:
                os.utime(path or b".", ns=(mtime, mtime), follow_symlinks=False)
            except FileNotFoundError:
                continue

    def _entry(self, entry: tar.Entry, source: tar.Input) -> None:
        path = clean(entry.name)
        parent, _, base = path.rpartition(b"/")
        if self._whiteouts and WHITEOUT in path:
            if any(part.startswith(b".wh..wh.") and part != OPAQUE for part in path.split(b"/")):
                # aufs' own book-keeping
                self._skip_content(entry, source)
                return
            if base.startswith(WHITEOUT):
                self._whiteout(entry, parent, base, source)
                return
        kind = entry.type
        if not path:
            if kind != tar.DIRECTORY:
                raise TarError("the root of the archive is not a folder")
        elif parent not in self._made:
            self._make_parents(parent)
        if kind == tar.REGULAR:
            self._file(entry, path, source)
            return
        if kind == tar.DIRECTORY:
            self._directory(entry, path)
            if entry.size:
                self._skip_content(entry, source)
            return
        if kind == tar.HARDLINK:
            self._hardlink(entry, path)
            return
        if kind == tar.SYMLINK:
            if not entry.linkname:
                raise TarError(f"{show(path)}: a symbolic link to nothing")
            self._replace(path, lambda: os.symlink(entry.linkname, path))
        elif kind == tar.FIFO:
            self._replace(path, lambda: os.mkfifo(path, entry.mode))
        else:
            self._device(entry, path)
            return
        self._set_owner_and_times(entry, path)

    def _file(self, entry: tar.Entry, path: bytes, source: tar.Input) -> None:
        mode = self._owners.mode(entry)
        try:
            fd = os.open(path, _CREATE, mode)
        except FileExistsError:
            self._remove(path)
            fd = os.open(path, _CREATE, mode)
        try:
            size = entry.size
            if entry.sparse is None:
                if size:
                    if size < _HOLE:
                        for piece in source.pieces(size):
                            done = os.write(fd, piece)
                            while done < len(piece):
                                done += os.write(fd, piece[done:])
                    else:
                        self._large(fd, size, source)
                    if self._recorder is not None:
                        self._recorder.file(path, 0, size)
            else:
                self._sparse(entry, path, fd, source)
            action = self._owners.action(entry)
            if action:
                if action == CHOWN:
                    os.fchown(fd, entry.uid, entry.gid)
                else:
                    self._record_owner(fd, entry)
            if mode & 0o6000:
                # write(2) and chown(2) clear these bits, but for real root.
                os.fchmod(fd, mode)
            if entry.xattrs:
                self._set_xattrs(fd, entry.xattrs)
            mtime = entry.mtime
            os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)

    def _large(self, fd: int, size: int, source: tar.Input) -> None:
        """Write a large file; long runs of zeros become holes."""
        at_hole = False
        for piece in source.pieces(size):
            length = len(piece)
            at_hole = length >= _HOLE and piece[0] == 0 and piece == _ZEROS[:length]
            if at_hole:
                os.lseek(fd, length, os.SEEK_CUR)
                continue
            done = 0
            while done < length:
                done += os.write(fd, piece[done:])
        if at_hole:
            os.ftruncate(fd, size)

    def _sparse(self, entry: tar.Entry, path: bytes, fd: int, source: tar.Input) -> None:
        for offset, length in entry.sparse or ():
            os.lseek(fd, offset, os.SEEK_SET)
            for piece in source.pieces(length):
                done = 0
                while done < len(piece):
                    done += os.write(fd, piece[done:])
            if length and self._recorder is not None:
                self._recorder.file(path, offset, length)
        os.ftruncate(fd, entry.real_size)

    def _directory(self, entry: tar.Entry, path: bytes) -> None:
        here = path or b"."
        mode = self._owners.mode(entry)
        opaque = False
        try:
            if not path:
                raise FileExistsError
            os.mkdir(path, mode)
        except FileExistsError:
            status = os.lstat(here)
            if stat.S_ISDIR(status.st_mode):
                os.chmod(here, mode)
            else:
                # A folder over a whiteout of the same layer hides the lower one whole.
                opaque = stat.S_ISCHR(status.st_mode)
                self._remove(path)
                os.mkdir(path, mode)
        self._made.add(path)
        action = self._owners.action(entry)
        if action == CHOWN:
            os.chown(here, entry.uid, entry.gid, follow_symlinks=False)
        elif action == SQUASH:
            self._record_owner(here, entry)
        elif not path:
            os.chown(here, 0, 0, follow_symlinks=False)
        if mode & 0o6000:
            # mkdir(2) does not give these bits, and chown(2) takes them.
            os.chmod(here, mode)
        if entry.xattrs:
            self._set_xattrs(here, entry.xattrs)
        if opaque:
            self._set_opaque(path)
        self._dirs[path] = entry.mtime

    def _hardlink(self, entry: tar.Entry, path: bytes) -> None:
        target = clean(entry.linkname)
        if not target:
            raise TarError(f"{show(path)}: a hard link to the root of the archive")
        if target == path:
            return

        def make() -> None:
            try:
                os.link(target, path, follow_symlinks=False)
            except FileNotFoundError:
                raise TarError(
                    f"{show(path)}: a hard link to {show(target)}, which is not in this layer"
                ) from None

        self._replace(path, make)

    def _device(self, entry: tar.Entry, path: bytes) -> None:
        """No user namespace may make device nodes: the recipe alone keeps them, as rootless Podman does."""
        if entry.type == tar.CHAR and entry.major == 0 and entry.minor == 0:
            # Overlay's whiteout in disguise.
            raise TarError(f"{show(path)}: a whiteout device in the archive")
        self.skipped += 1

    def _whiteout(self, entry: tar.Entry, parent: bytes, base: bytes, source: tar.Input) -> None:
        if entry.size:
            self._skip_content(entry, source)
        if base == OPAQUE:
            if parent and parent not in self._made:
                self._make_parents(parent)
            self._set_opaque(parent)
            return
        name = base[len(WHITEOUT) :]
        if name in (b"", b".", b".."):
            raise TarError(f"{show(entry.name)}: a whiteout of nothing")
        if parent and parent not in self._made:
            self._make_parents(parent)
        path = parent + b"/" + name if parent else name
        try:
            os.mknod(path, stat.S_IFCHR, 0)
        except FileExistsError:
            # A whiteout is for lower layers only: a folder of this layer hides theirs, a file does so anyway.
            if stat.S_ISDIR(os.lstat(path).st_mode):
                self._set_opaque(path)
        except PermissionError:
            # Kernels before 5.8 and some file systems: fuse-overlayfs understands the plain name.
            _touch(parent, base)

    def _set_opaque(self, path: bytes) -> None:
        if path in self._opaque:
            return
        self._opaque.add(path)
        here = path or b"."
        if not stat.S_ISDIR(os.lstat(here).st_mode):
            raise TarError(f"{show(path)}: an opaque folder that is none")
        try:
            os.setxattr(here, OPAQUE_XATTR, b"y", follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            _touch(path, OPAQUE)

    def _skip_content(self, entry: tar.Entry, source: tar.Input) -> None:
        if entry.sparse is not None and self._recorder is not None:
            self._recorder.spoil("content that belongs to no file")
        for piece in source.pieces(entry.size):
            if self._recorder is not None:
                self._recorder.raw(bytes(piece))

    def _make_parents(self, path: bytes) -> None:
        """Make folders that the archive left out; one that is there, or a link to one, is taken as it is."""
        if path in self._made:
            return
        try:
            os.mkdir(path, 0o755)
        except FileNotFoundError:
            self._make_parents(path.rpartition(b"/")[0])
            os.mkdir(path, 0o755)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(path).st_mode):
                self._remove(path)
                os.mkdir(path, 0o755)
            else:
                self._made.add(path)
                return
        if self._owners.mask is not None:
            self._record_root(path)
        self._made.add(path)

    def _record_root(self, path: bytes) -> None:
        """Note root and 0755 for a folder that has no entry."""
        entry = tar.Entry(path, tar.DIRECTORY)
        entry.mode = 0o755
        self._record_owner(path, entry)

    def _replace(self, path: bytes, make: object) -> None:
        assert callable(make)
        try:
            make()
        except FileExistsError:
            self._remove(path)
            make()

    def _remove(self, path: bytes) -> None:
        """Make way for an entry of the same name."""
        status = os.lstat(path)
        if self._recorder is not None and not stat.S_ISCHR(status.st_mode):
            self._recorder.spoil("an entry replaces an earlier one")
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(path)
            return
        prefix = path + b"/"
        self._made = {made for made in self._made if made != path and not made.startswith(prefix)}
        self._opaque -= {made for made in self._opaque if made == path or made.startswith(prefix)}
        for made in [made for made in self._dirs if made == path or made.startswith(prefix)]:
            del self._dirs[made]
        tree.remove(None, path)

    def _set_owner_and_times(self, entry: tar.Entry, path: bytes) -> None:
        if self._owners.action(entry) == CHOWN:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if entry.xattrs:
            self._set_xattrs(path, entry.xattrs)
        os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)

    def _record_owner(self, where: int | bytes, entry: tar.Entry) -> None:
        value = b"%d:%d:%04o" % (entry.uid, entry.gid, entry.mode)
        # The recipe has it too; file systems without user xattrs lose it at commit only.
        _set_xattr(where, OWNER_XATTR, value)

    def _set_xattrs(self, where: int | bytes, xattrs: dict[bytes, bytes]) -> None:
        for name, value in xattrs.items():
            if not name.startswith(_XATTR_PREFIXES) or name.startswith(_XATTR_FORBIDDEN):
                continue
            if name == b"security.capability":
                if self._owners.mask is not None:
                    continue  # another user's namespace could not use it
                value = namespace_capability(value)
            _set_xattr(where, name, value)


def _set_xattr(where: int | bytes, name: bytes, value: bytes) -> None:
    try:
        if isinstance(where, int):
            os.setxattr(where, name, value)
        else:
            os.setxattr(where, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _XATTR_IGNORED_ERRORS:
            raise


def _touch(folder: bytes, name: bytes) -> None:
    path = folder + b"/" + name if folder else name
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def namespace_capability(value: bytes) -> bytes:
    """Strip the root id of a v3 file capability: the kernel adds this namespace's own (capabilities(7))."""
    if len(value) == 24 and value[3] == 3:
        return value[:3] + b"\x02" + value[4:20]
    return value
