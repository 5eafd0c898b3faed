"""The `host` image: this machine, as a root file system that needs no download.

One small layer holds a private copy of the world-readable part of /etc and empty writable folders; /usr, /opt and
what else makes up the machine's programs are bound read-only by `mounts()`. (Files of host root have no owner in a
user namespace, so an overlay over them could not be written to: hence the binds.) Nobody's home and no secret is in it.

It is made anew when /etc has changed, told by the times of its folders and of a few files that are edited in place.
`run host` comes through `ensure` each time: lean, and a few hundred stat calls when nothing has changed.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import RootlessError
from rootless.files import read_record, write_all, write_json
from rootless.image.store import HOST_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.image.store import Image, ImageStore

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Programs and libraries; what is a link on the host becomes one, what is a folder is bound.
_TOP = ("usr", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu")
_FOLDERS = (
    ("dev", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/backups", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/local", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/opt", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
)
_LINKS = (("var/run", "/run"), ("var/lock", "/run/lock"))
# Empty in the copy: the runtime mounts its own over them, or they say which machine this is.
_EMPTIED = frozenset(("etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id"))
# Not copied even where somebody made them readable.
_SECRET_NAMES = frozenset(
    (
        ".pwd.lock",
        "credstore",
        "credstore.encrypted",
        "gshadow",
        "gshadow-",
        "krb5.keytab",
        "opasswd",
        "private",
        "shadow",
        "shadow-",
        "sudoers",
        "sudoers.d",
        "system-connections",
    )
)
_SECRET_ENDS = ("_key", ".key", ".keytab")
# Files that are written in place, which does not show in their folder's time.
_WATCHED = (
    "/etc/passwd",
    "/etc/group",
    "/etc/profile",
    "/etc/environment",
    "/etc/bash.bashrc",
    "/etc/nsswitch.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/localtime",
    "/etc/locale.conf",
    "/etc/default/locale",
    "/etc/ssl/certs/ca-certificates.crt",
)
_FILE_MAX = 4 << 20
_TOTAL_MAX = 64 << 20
_VERSION = 1


def ensure(store: ImageStore) -> Image:
    """Return the host image, made or made anew where needed."""
    cached = f"{store.root}/host.json"
    try:
        known = read_record(cached, {"version": int, "node": str, "stamps": dict, "image": str})
    except (FileNotFoundError, RootlessError):
        known = {}  # it can be made anew
    if known.get("version") == _VERSION and known.get("node") == os.uname().nodename:
        if all(_stamp(path) == stamp for path, stamp in known["stamps"].items()):
            image = store.get(known["image"])
            if image is not None and store.layers.has(image.layers[0]):
                return image
    return _make(store, cached)


def mounts() -> list[dict[str, Any]]:
    """The read-only binds that complete the image, as the runtime-spec's mounts."""
    found = []
    for name in _TOP:
        path = f"/{name}"
        try:
            status = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            found.append(
                {
                    "destination": path,
                    "type": "bind",
                    "source": path,
                    "options": ["rbind", "rro", "nosuid", "nodev", "rprivate"],
                }
            )
    return found


def _stamp(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0


def _make(store: ImageStore, cached: str) -> Image:
    import time

    from rootless.image.collecting import Bringing
    from rootless.oci.image import emit, rfc3339
    from rootless.oci.manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
    from rootless.storage.layers import chain_ids

    store.make()
    folders: list[str] = []
    data = _archive(folders)
    diff_id = _digest(data)
    shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
    created = rfc3339(int(time.time()))
    machine = os.uname().machine
    config = emit(
        {
            "created": created,
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
            "os": "linux",
            "config": {"Env": [f"PATH={_PATH}"], "Cmd": [shell], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [
                {
                    "created": created,
                    "created_by": "rootless host",
                    "comment": "/etc of this machine",
                }
            ],
        }
    )
    manifest = emit(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": _digest(config), "size": len(config)},
            "layers": [{"mediaType": OCI_LAYER, "digest": diff_id, "size": len(data)}],
        }
    )
    with Bringing(store):
        chain = chain_ids([diff_id])[0]
        if not store.layers.has(chain):
            _unpack(store, chain, diff_id, data)
        image = store.add_image(config, manifest, [HOST_NAME], host=True)
        stamps = {
            path: _stamp(path) for path in (*folders, *_WATCHED, *(f"/{one}" for one in _TOP))
        }
        value = {
            "version": _VERSION,
            "node": os.uname().nodename,
            "image": image.id,
            "stamps": stamps,
        }
        write_json(cached, value)
    # Containers may still use the former one; collect() removes it with its layer when none does.
    return image


def _digest(data: bytes) -> str:
    from rootless.oci.digest import sha256

    return sha256(data)


def _unpack(store: ImageStore, chain: str, diff_id: str, data: bytes) -> None:
    with store.helper() as helper:
        staging = store.layers.begin(chain, "", diff_id, helper)
        if staging is None:
            return
        fd = os.memfd_create("host", os.MFD_CLOEXEC)
        try:
            write_all(fd, data)
            staging.start(fd, size=len(data), compression="")
            staging.commit(staging.finish())
        except BaseException:
            staging.abort()
            raise
        finally:
            os.close(fd)


def _archive(folders: list[str]) -> bytes:
    """Make the layer's tar archive; note the folders of /etc that were read."""
    from rootless.storage import tar

    archive = _Archive(folders)
    for name, mode in _FOLDERS:
        archive.add(f"{name}/", tar.DIRECTORY, mode)
    for name, target in _LINKS:
        archive.add(name, tar.SYMLINK, 0o777, link=target)
    for name in _TOP:
        try:
            status = os.lstat(f"/{name}")
        except OSError:
            continue
        if stat.S_ISLNK(status.st_mode):
            archive.add(name, tar.SYMLINK, 0o777, link=os.readlink(f"/{name}"))
        elif stat.S_ISDIR(status.st_mode):
            archive.add(f"{name}/", tar.DIRECTORY, 0o755)
    archive.copy("etc")
    for name in sorted(_EMPTIED):
        archive.add(name, tar.REGULAR, 0o644)
    if not os.path.lexists("/etc/mtab"):
        archive.add("etc/mtab", tar.SYMLINK, 0o777, link="../proc/self/mounts")
    return b"".join([*archive.parts, tar.END])


class _Archive:
    """A tar archive in memory, with what of this host everybody may read."""

    def __init__(self, folders: list[str]) -> None:
        self.folders = folders
        self.parts: list[bytes] = []
        self.room = _TOTAL_MAX

    def add(
        self,
        name: str,
        kind: bytes,
        mode: int,
        *,
        mtime: int = 0,
        data: bytes = b"",
        link: str = "",
    ) -> None:
        from rootless.storage import tar

        entry = tar.Entry(os.fsencode(name), kind)
        entry.mode = mode
        entry.mtime = mtime
        entry.size = len(data)
        entry.linkname = os.fsencode(link)
        self.parts += (tar.header(entry), data, bytes(-len(data) % tar.BLOCK))

    def copy(self, folder: str) -> None:
        """A folder with what is in it, but for secrets and what is not ours to read."""
        from rootless.storage import tar

        self.folders.append(f"/{folder}")
        status = os.stat(f"/{folder}")
        self.add(f"{folder}/", tar.DIRECTORY, status.st_mode & 0o755, mtime=status.st_mtime_ns)
        try:
            entries = sorted(os.scandir(f"/{folder}"), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            name = f"{folder}/{entry.name}"
            if name in _EMPTIED or entry.name in _SECRET_NAMES or entry.name.endswith(_SECRET_ENDS):
                continue
            try:
                self._copy_entry(name, entry)
            except OSError:
                continue  # gone meanwhile, or not ours to read after all

    def _copy_entry(self, name: str, entry: os.DirEntry[str]) -> None:
        from rootless.storage import tar

        status = entry.stat(follow_symlinks=False)
        mode, mtime = status.st_mode, status.st_mtime_ns
        if stat.S_ISLNK(mode):
            self.add(name, tar.SYMLINK, 0o777, mtime=mtime, link=os.readlink(entry.path))
        elif stat.S_ISDIR(mode):
            if mode & 0o005 == 0o005:
                self.copy(name)
        elif stat.S_ISREG(mode) and mode & 0o004 and status.st_size <= min(self.room, _FILE_MAX):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(entry.path, flags)
            try:
                data = os.read(fd, _FILE_MAX)
            finally:
                os.close(fd)
            self.room -= len(data)
            self.add(name, tar.REGULAR, mode & 0o755, mtime=mtime, data=data)
