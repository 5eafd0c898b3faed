"""Which root file system a container gets: the kernel's overlay, fuse-overlayfs, or a copy; and why.

    overlay   native, with `userxattr`: where the file system of the store allows it, asked of the kernel once a boot
    fuse      fuse-overlayfs: where it does not, or where the owners of the image's files have to be shifted (keep-id)
    copy      all layers in one plain folder: where nothing else works (NFS), or as --storage-driver vfs asks for

The kind is recorded with the container, since what it has written is in that kind's form.
"""

from __future__ import annotations

import errno
import os

from rootless.errors import RootlessError, SetupError
from rootless.files import make_private_dir, write_atomic
from rootless.linux.idmap import IdMap, find_trusted, to_container, to_host
from rootless.runtime.rootfs import DirectoryRoot, FuseOverlayRoot, OverlayRoot
from rootless.state import remove_tree
from rootless.storage import forms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.options import CreateOptions
    from rootless.image.store import Image
    from rootless.runtime.rootfs import Root

    Range = tuple[int, int, int]

OVERLAY, FUSE, COPY, FOLDER = "overlay", "fuse", "copy", "folder"
#: What says nothing of overlays: the same try may succeed a moment later.
_PASSING = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EIO,
)


def choose(
    engine: Engine, options: CreateOptions, idmap: IdMap | None, image: Image | None = None
) -> str:
    """The kind for a new container; `idmap` is its own where it is not the user's default one."""
    if options.rootfs and not options.rootfs_overlay:
        return FOLDER
    driver = engine.settings.get("storage-driver") or engine.config.text("storage", "driver")
    if image is not None:
        settle_layers(engine, image)
    if driver == "vfs":
        return COPY
    if idmap is not None and _is_shifted(engine.idmap, idmap):
        return FUSE if fuse_program(engine) and _shifts_by_fuse(engine, idmap) else COPY
    if wants_fuse(engine):
        if not fuse_program(engine):
            raise RootlessError(
                f"mount_program {wants_fuse(engine)}: cannot be used",
                hint="install fuse-overlayfs, and see that /dev/fuse is open to users",
            )
        return FUSE
    if not native_refusal(engine):
        return OVERLAY
    return FUSE if fuse_program(engine) else COPY


def settle_layers(engine: Engine, image: Image) -> None:
    """Have those layers of an image in the user's own store that cannot be used where they are.

    fuse-overlayfs could show the owners of a store for others (xattr_permissions=2), but it loses modes: with 1.13, a
    file made with 0600 and then given to somebody has 0755.
    """
    odd = forms.odd_layers(engine.images.layers, image.layers)
    if not odd:
        return
    from rootless import log
    from rootless.image.adopt import adopt, check_own

    check_own(engine.images, image, odd)
    wanted = [chain for chain in odd if not engine.images.layers.is_own(chain)]
    if wanted:
        log.warn(
            f"image {image.id[:12]}: copying {len(wanted)} layers of a shared store, this once: "
            "their files belong to ids that this user's containers have not"
        )
        adopt(engine.images, image, wanted)


def _is_shifted(default: IdMap, own: IdMap) -> bool:
    """Whether files of the image have other owners on the disk than the container needs. Where a user has one id only,
    it is every file's, whatever the container calls it (--userns keep-id)."""
    if own == default:
        return False
    alone = all(len(ranges) == 1 and ranges[0][2] == 1 for ranges in (*_both(default), *_both(own)))
    return not alone or [r[0][1] for r in _both(default)] != [r[0][1] for r in _both(own)]


def _both(idmap: IdMap) -> tuple[list[Range], list[Range]]:
    return idmap.uids, idmap.gids


def wants_fuse(engine: Engine) -> str:
    """The mount program that a storage option or storage.conf names."""
    for option in engine.settings.get("storage-opt") or []:
        key, _, value = option.partition("=")
        if key.rpartition(".")[2] == "mount_program":
            return str(value)
    return engine.config.text("storage", "mount_program")


def fuse_program(engine: Engine) -> str:
    """The path of a fuse-overlayfs that can be used here; empty where there is none."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return ""
    named = wants_fuse(engine)
    if named:
        path = named if "/" in named else find_trusted(named) or ""
        return path if path and os.access(path, os.X_OK) else ""
    return find_trusted("fuse-overlayfs") or ""


def native_refusal(engine: Engine, *, fresh: bool = False) -> str:
    """Why the kernel mounts no overlay on the store's file system; empty where it does. Asked once a boot, or now.

    Raises what keeps it from being asked: no user namespaces, no space, no descriptors.
    """
    make_private_dir(engine.paths.data)
    make_private_dir(engine.paths.cache)
    cached = f"{engine.paths.cache}/overlay-{os.stat(engine.paths.data).st_dev}"
    try:
        with open(cached) as file:
            if not fresh:
                return file.read()
    except FileNotFoundError:
        pass
    refusal = _try_overlay(engine)
    write_atomic(cached, refusal.encode())
    return refusal


def _try_overlay(engine: Engine) -> str:
    from rootless.linux.userns import fork_in_userns
    from rootless.state import remove_tree

    make_private_dir(engine.paths.tmp)
    folder = f"{engine.paths.tmp}/probe.{os.getpid()}"
    os.mkdir(folder, 0o700)
    try:
        for name in ("lower", "upper", "work"):
            os.mkdir(f"{folder}/{name}")
        root = OverlayRoot([f"{folder}/lower"], f"{folder}/upper", f"{folder}/work", volatile=True)

        def mount() -> None:
            root.open()
            os.close(root.mount())

        try:
            fork_in_userns(IdMap([(0, os.geteuid(), 1)], [(0, os.getegid(), 1)]), mount).wait()
        except SetupError as error:
            if error.errno in _PASSING or error.stage in ("user namespace", "id map"):
                raise
            return error.message
        except OSError as error:
            if error.errno in _PASSING:
                raise
            return str(error)
        return ""
    finally:
        remove_tree(folder)


def _shifts_by_fuse(engine: Engine, idmap: IdMap) -> bool:
    """Whether the owners of the image's files, as they are on the disk, are all mapped: the program can then set them."""
    own = [to_host(ranges, 0) for ranges in (engine.idmap.uids, engine.idmap.gids)]
    return all(
        owner is not None and to_container(ranges, owner) is not None
        for owner, ranges in zip(own, (idmap.uids, idmap.gids), strict=True)
    )


def shift(default: list[Range], own: list[Range]) -> list[Range]:
    """(id by which a file on the disk is seen in the container's namespace, id that it has in the image, size)."""
    found: list[Range] = []
    for inside, host, size in own:
        for start, other, length in default:
            low, high = max(host, other), min(host + size, other + length)
            if low < high:
                found.append((inside + low - host, start + low - other, high - low))
    return sorted(found)


def root_of(
    engine: Engine, record: dict[str, Any], lowers: list[str], options: CreateOptions
) -> Root:
    """The root of one start."""
    folder = engine.containers.path(record["id"])
    kind = record.get("root") or OVERLAY
    if kind == FOLDER:
        return DirectoryRoot(options.image)
    if kind == COPY:
        return DirectoryRoot(f"{folder}/rootfs")
    if kind == OVERLAY:
        # What is not synced is mounted once only: no restart may follow.
        volatile = (
            options.rm and options.restart in ("", "no") and options.health_on_failure != "restart"
        )
        return OverlayRoot(lowers, f"{folder}/upper", f"{folder}/work", volatile=volatile)
    program = fuse_program(engine)
    if not program:
        raise RootlessError(
            f"container {record['name']}: needs fuse-overlayfs, which cannot be used any more",
            hint="install fuse-overlayfs, and see that /dev/fuse is open to users",
        )
    uids: list[Range] = []
    gids: list[Range] = []
    if record.get("idmap"):
        own = IdMap.from_json(record["idmap"])
        uids, gids = shift(engine.idmap.uids, own.uids), shift(engine.idmap.gids, own.gids)
    return FuseOverlayRoot(
        program, lowers, f"{folder}/upper", f"{folder}/work", f"{folder}/rootfs", uids, gids
    )


def renew(engine: Engine, identity: str) -> None:
    """Let the root of an ended `--rm` container be mounted again, which the kernel refuses after a mount without syncs.

    It has left a note of that below its work folder (Documentation/filesystems/overlayfs.rst, "Volatile mount").
    """
    if engine.containers.read(identity)["options"].get("rm"):
        remove_tree(f"{engine.containers.path(identity)}/work/work")


def copy_layers(
    engine: Engine,
    folder: str,
    lowers: list[str],
    idmap: IdMap | None,
    why: str = "copying the image's files for this container, since no overlay can be mounted here; "
    "fuse-overlayfs would avoid it",
) -> None:
    """Fill a new container's plain folder. What takes longer than a second is told, and `why`."""
    import time

    from rootless import log
    from rootless.linux.userns import fork_in_userns
    from rootless.storage.flatten import Flattener

    default = engine.idmap
    own = idmap or default
    began = time.monotonic()
    told = False

    def progress() -> None:
        nonlocal told
        if not told and time.monotonic() - began > 1:
            told = True
            if why:
                log.warn(why)

    def owner_of(ranges: list[Range], outer: list[Range], what: str) -> Any:
        def find(identity: int) -> int:
            host = to_host(ranges, identity)
            found = None if host is None else to_container(outer, host)
            if found is None and len(outer) == 1 == outer[0][2]:
                found = outer[0][0]  # a user's only id, whatever the container calls it
            if found is None:
                raise RootlessError(
                    f"{what} {identity} of the image is not mapped in this container",
                    hint="give it more ids: subordinate ids, or a wider --uidmap and --gidmap",
                )
            return found

        return find

    def fill() -> None:
        Flattener(
            opened[0],
            owner_of(own.uids, default.uids, "uid"),
            owner_of(own.gids, default.gids, "gid"),
            progress,
        ).run(opened[1:])

    how = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    opened: list[int] = []
    try:
        # Here, because folders of host root on the way are closed to the namespace's.
        opened.extend(os.open(path, how) for path in (f"{folder}/rootfs", *lowers))
        fork_in_userns(default, fill).wait()
    finally:
        for fd in opened:
            os.close(fd)
