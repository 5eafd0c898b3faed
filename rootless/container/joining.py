"""Namespaces that a container joins: another container's, and any that a path leads to (`ns:PATH`).

A namespace belongs to a user namespace, and only who has rights in that one may enter. So that one is joined as well;
or, where the container is to have ids of its own, its user namespace is made below that one.
"""

from __future__ import annotations

import errno
import os

from rootless import quickjson as json
from rootless.container.status import check_access, status_of
from rootless.errors import InvalidState, RootlessError
from rootless.files import read_json
from rootless.linux import nsfs
from rootless.linux.fs import RESOLVE_NO_SYMLINKS, openat2
from rootless.linux.idmap import IdMap, read_map
from rootless.linux.libc import AT_EMPTY_PATH, AT_FDCWD
from rootless.linux.mount import OPEN_TREE_CLONE, open_tree
from rootless.linux.prctl import PR_SET_DUMPABLE, prctl
from rootless.linux.sched import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER, setns
from rootless.runtime import launch, sync
from rootless.state import process_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.engine import Engine
    from rootless.container.options import CreateOptions


class Joined:
    """Namespaces to join, held by descriptors so that no pid can change hands."""

    __slots__ = ("paths", "idmap", "shm", "descriptors", "owner", "outer")

    def __init__(self) -> None:
        self.owner = ""  # whose they are, in words
        self.idmap = IdMap([], [])
        self.paths: dict[str, str] = {}
        self.shm = -1
        self.descriptors: list[int] = []
        self.outer: tuple[int, IdMap] | None = None  # a user namespace to make the container's in

    def hold(self, kind: str, fd: int) -> None:
        self.descriptors.append(fd)
        self.paths[kind] = f"/proc/self/fd/{fd}"

    def close(self) -> None:
        for fd in self.descriptors:
            os.close(fd)


#: Options that may name namespaces, and the name of each kind in /proc/PID/ns.
_JOINABLE = (
    ("network", "net"),
    ("pid", "pid"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroupns", "cgroup"),
    ("userns", "user"),
)
_SPEC = {"net": "network"}


def join(engine: Engine, options: CreateOptions, *, own_ids: bool = False) -> Joined | None:
    """Open what `container:NAME` and `ns:PATH` modes name. All of it has to belong to one user namespace, which is joined
    as well; with `own_ids`, the container's is to be made in that one."""
    joined = Joined()
    try:
        for attribute, name in _JOINABLE:
            kind, _, value = getattr(options, attribute).partition(":")
            if kind == "container":
                found = _of_container(engine, joined, name, value)
            elif kind == "ns":
                found = _of_path(joined, name, value)
            else:
                continue
            if not found:
                # What the host has is ours already, and nobody may enter it from a namespace below.
                setattr(options, attribute, "host")
        if own_ids and "user" in joined.paths:
            _make_below(joined, options)
    except BaseException:
        joined.close()
        raise
    return joined if joined.paths else None


def _of_container(engine: Engine, joined: Joined, name: str, other: str) -> bool:
    """Take one namespace of another container; False where it is the host's."""
    identity = engine.containers.lookup(other)
    live = engine.containers.read_live(identity)
    init = process_of(live, "init") if live else None
    if init is None or not init.is_alive():
        raise InvalidState(
            f"cannot join the {name} namespace of container {other}: it does not run"
        )
    check_access(status_of(engine, identity))
    if os.stat(f"/proc/{init.pid}/ns/{name}").st_ino == os.stat(f"/proc/self/ns/{name}").st_ino:
        return False
    userns = os.open(f"/proc/{init.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    idmap = launch.idmap_of(read_json(f"{engine.containers.path(identity)}/config.json"))
    _take_owner(joined, userns, f"container {other}", idmap or engine.idmap)
    if name != "user":
        fd = os.open(f"/proc/{init.pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        joined.hold(_SPEC.get(name, name), fd)
    if name == "ipc":
        joined.shm = _copy_shm(init.pid, joined.descriptors[0])
        if joined.shm >= 0:
            joined.descriptors.append(joined.shm)
    if not init.is_alive():
        raise InvalidState(
            f"cannot join the {name} namespace of container {other}: it has just ended"
        )
    return True


def _take_owner(joined: Joined, userns: int, owner: str, idmap: IdMap | None = None) -> None:
    """The user namespace that a namespace belongs to: the first one is joined, any other is an error."""
    if "user" not in joined.paths:
        joined.hold("user", userns)
        joined.owner = owner
        joined.idmap = idmap or _map_of(userns, owner)
        return
    is_same = os.fstat(joined.descriptors[0]).st_ino == os.fstat(userns).st_ino
    os.close(userns)
    if not is_same:
        raise RootlessError(
            f"cannot join namespaces of both {joined.owner} and {owner}: they are in different user namespaces",
            hint="join all namespaces of one container",
        )


# paths


def _of_path(joined: Joined, name: str, path: str) -> bool:
    """Take the namespace that a path leads to; False where it is ours, which means the host's."""
    said = f"{'network' if name == 'net' else name} namespace {path}"
    try:
        # Not waiting for whoever writes to a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise RootlessError(
            f"cannot join the {said}: {(error.strerror or '').lower()}",
            hint="it has to be a file of /proc/PID/ns or one that is bound to such a file",
        ) from None
    try:
        own = os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            here, there = os.fstat(own), os.fstat(fd)
            wanted = nsfs.kind(own)
        finally:
            os.close(own)
        try:
            fits = nsfs.kind(fd) == wanted
        except OSError:
            fits = False
        if not fits:
            raise RootlessError(
                f"cannot join the {said}: it is none",
                hint=f"the file wanted is one as /proc/PID/ns/{name}",
            )
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
            os.close(fd)
            return False
        if name == "user":
            _check_rights(fd, -1, said)
            _take_owner(joined, fd, said)
            return True
        try:
            userns = nsfs.owner(fd)
        except PermissionError:
            raise _denied(
                said, "a user namespace that is not below the one of this command"
            ) from None
        if os.fstat(userns).st_ino == os.stat("/proc/self/ns/user").st_ino:
            os.close(userns)
            _check_rights(-1, fd, said)
        else:
            try:
                _check_rights(userns, fd, said)
            except BaseException:
                os.close(userns)
                raise
            _take_owner(joined, userns, said)
    except BaseException:
        os.close(fd)
        raise
    joined.hold(_SPEC.get(name, name), fd)
    return True


def _check_rights(userns: int, fd: int, said: str) -> None:
    """Enter and leave again in a child: whether we may is for the kernel to say."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            prctl(PR_SET_DUMPABLE, 0)
            if userns >= 0:
                setns(userns, CLONE_NEWUSER)
            if fd >= 0:
                setns(fd)
            status = 0
        except OSError as error:
            status = error.errno or 1
        finally:
            os._exit(status)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number in (errno.EPERM, errno.EACCES):
        raise _denied(said, _owner_in_words(userns))
    if number:
        raise RootlessError(f"cannot join the {said}: {os.strerror(number).lower()}")


def _denied(said: str, owner: str) -> RootlessError:
    return RootlessError(
        f"cannot join the {said}: it belongs to {owner}",
        hint="only one made in a user namespace of yours will do, as by `unshare --map-auto -rn`",
    )


def _owner_in_words(userns: int) -> str:
    if userns < 0:
        return (
            "the host's root" if os.geteuid() else "the host, where this command lacks the right to"
        )
    uid = nsfs.owner_uid(userns)
    if uid == os.geteuid():
        return "a user namespace that this command may not enter"
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with uid {uid}"


def _map_of(userns: int, said: str) -> IdMap:
    """A user namespace's map to our ids: the kernel shows it by a process in there only."""
    waits, goes = os.pipe2(os.O_CLOEXEC)
    entered, enters = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.close(goes)
            os.close(entered)
            prctl(PR_SET_DUMPABLE, 0)
            setns(userns, CLONE_NEWUSER)
            os.write(enters, b"x")
            os.read(waits, 1)
        finally:
            os._exit(0)
    os.close(waits)
    os.close(enters)
    try:
        if not os.read(entered, 1):
            raise _denied(said, _owner_in_words(userns))
        idmap = IdMap(read_map(child, "uid_map"), read_map(child, "gid_map"))
    finally:
        os.close(goes)
        os.close(entered)
        os.waitpid(child, 0)
    if not idmap.uids or not idmap.gids:
        raise RootlessError(
            f"cannot join the {said}: no ids are mapped in its user namespace",
            hint="make it by `unshare --map-auto -rn`",
        )
    return idmap


def _make_below(joined: Joined, options: CreateOptions) -> None:
    """The container's own user namespace is made in the one that would be joined."""
    for kind in joined.paths:
        if kind not in ("user", "network", "uts"):
            option = "--userns" if options.userns else "--uidmap"
            raise RootlessError(
                f"{option} and a joined {kind} namespace exclude each other: that goes with its user namespace",
                hint=f"leave {option} out, or give the container a {kind} namespace of its own",
            )
    if "network" not in joined.paths:
        raise RootlessError(
            "--userns and a joined UTS namespace exclude each other where the network is not joined as well",
            hint="leave --userns out, or use --uts private",
        )
    joined.outer = joined.descriptors[0], joined.idmap
    del joined.paths["user"]


def addresses_in(pid: int) -> dict[str, Any]:
    """What a joined network has got from whoever made it: the addresses of its first interface, and its MAC address.

    Empty where it cannot be looked into.
    """
    reads, writes = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            prctl(PR_SET_DUMPABLE, 0)
            for name, flag in (("user", CLONE_NEWUSER), ("net", CLONE_NEWNET)):
                path = f"/proc/{pid}/ns/{name}"
                if os.stat(path).st_ino != os.stat(f"/proc/self/ns/{name}").st_ino:
                    setns(os.open(path, os.O_RDONLY | os.O_CLOEXEC), flag)
            os.write(writes, json.dumps(_first_interface()).encode())
        finally:
            os._exit(0)
    os.close(writes)
    with open(reads, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    return json.loads(data) if data else {}


def _first_interface() -> dict[str, Any]:
    from slirp.netlink import Netlink

    with Netlink() as link:
        for one in link.links():
            found: dict[bool, tuple[str, int]] = {}
            for index, address, prefix in link.addresses():
                if (
                    index == one.index
                    and not address.startswith(("127.", "fe80:"))
                    and address != "::1"
                ):
                    found.setdefault(":" in address, (address, prefix))
            if found:
                return {"addresses": list(found.values()), "mac": one.mac}
    return {}


def _copy_shm(pid: int, userns: int) -> int:
    """A detached copy of a container's /dev/shm, -1 where it has none. It is taken in the container's mount namespace: in
    no other can its mounts be copied."""
    mount_namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    ours, theirs = sync.Channel.pair()
    child = os.fork()
    if child == 0:
        try:
            prctl(PR_SET_DUMPABLE, 0)
            setns(userns, CLONE_NEWUSER)
            setns(mount_namespace, CLONE_NEWNS)
            place = openat2(
                AT_FDCWD, "/dev/shm", os.O_PATH | os.O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS
            )
            copy = open_tree(place, "", OPEN_TREE_CLONE | AT_EMPTY_PATH)
            theirs.send(sync.PREPARED, fd=copy)
        except FileNotFoundError:
            theirs.send(sync.PREPARED)
        except BaseException as error:
            theirs.send(sync.FAILED, sync.encode_failure("ipc namespace", error))
        finally:
            os._exit(0)
    os.close(mount_namespace)
    theirs.close()
    try:
        return ours.expect(sync.PREPARED)[1]
    finally:
        ours.close()
        os.waitpid(child, 0)
