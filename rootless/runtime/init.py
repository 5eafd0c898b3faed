"""What the container's first process does between its birth and the execve of the user's program.

The order of `Init.run` is the design; a comment stands where a step cannot move. After the root has been entered
nothing is imported and nothing looked up by name on the host's behalf: every module is loaded before, those that few
containers need by `process.preload`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

from rootless.errors import SetupError
from rootless.linux import fs, libc, prctl, signal
from rootless.linux import mount as m
from rootless.linux import sockets as socket
from rootless.linux.sched import (
    CLONE_NEWCGROUP,
    CLONE_NEWTIME,
    setdomainname,
    sethostname,
    setns,
    unshare,
)
from rootless.linux.userns import become_root
from rootless.runtime import (
    devices,
    hooks,
    mounts,
    sync,
)
from rootless.runtime.process import (
    Plan,
    become_inside_root,
    check_program,
    enter_process,
    forbid_imports,
    make_cwd,
    move_stdio,
    reset_signals,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.runtime import overlays, volumes

_PROPAGATION = {
    "shared": m.MS_SHARED,
    "slave": m.MS_SLAVE,
    "private": m.MS_PRIVATE,
    "unbindable": m.MS_UNBINDABLE,
}


class Init:
    """The straight list of steps; `stage` is the word that an error carries."""

    __slots__ = (
        "plan", "spec", "process", "linux", "channel", "stage", "links", "read_only_later", "sources", "devices", "proc", "root", "slave", "duties",
        "overlays",
    )  # fmt: skip

    def __init__(self, plan: Plan, channel: sync.Channel) -> None:
        self.plan = plan
        self.spec = plan.spec
        self.process = plan.spec.get("process") or {}
        self.linux = plan.spec.get("linux") or {}
        self.channel = channel
        self.stage = "start"
        self.links: dict[int, str] = {}
        self.read_only_later: list[
            int
        ] = []  # what other mounts and devices have to be put into first
        self.sources: dict[int, int] = {}
        self.duties: dict[int, volumes.Duty] = {}
        self.overlays: dict[int, overlays.Overlay] = {}
        self.proc = -1
        self.root = -1
        self.slave = -1

    def run(self) -> None:
        """Never returns but by an exception."""
        plan = self.plan
        # Whoever the parent is, and what it wants later: half a container is none.
        prctl.prctl(prctl.PR_SET_PDEATHSIG, signal.SIGKILL)
        reset_signals()
        self.stage = "mount"
        # Before the ids change: with the user's own groups, and while newuidmap works.
        is_denied = not self.may_open_host_side()
        self.stage = "id map"
        self.channel.expect(sync.MAPPED)
        if is_denied:
            # Once mapped, the folders of the container's own ids are open to its namespace's capabilities.
            self.stage = "mount"
            self.open_host_side()
            self.stage = "id map"
        self.write_oom_score()  # before the ids change: then /proc/self is not ours any more
        if plan.idmap is not None:
            become_root(plan.idmap, keep_groups=plan.keep_groups)
        elif "user" in plan.own_namespaces:
            become_inside_root()  # a joined one, whose map nobody has told
        prctl.prctl(prctl.PR_SET_PDEATHSIG, signal.SIGKILL)
        self.stage = "namespaces"
        os.setsid()
        self.join_late_namespaces()
        if "network" in plan.new_namespaces:
            loopback_up()
        self.set_names()
        if "mount" in plan.own_namespaces:
            self.stage = "root file system"
            self.mount_root()
            self.stage = "mount"
            self.mount_all()
            self.stage = "devices"
            self.populate_dev()
            for fd in self.read_only_later:
                m.mount_setattr(fd, m.MOUNT_ATTR_RDONLY)
                os.close(fd)
            self.call_create_hooks()
            self.stage = "pivot_root"
            self.pivot()
            self.stage = "sysctl"
            self.write_sysctls()
            self.stage = "masked paths"
            self.mask()
            self.complete_process()
            self.finish_root()
        else:
            self.write_sysctls()
            self.complete_process()
        if plan.gate is not None:
            self.stage = "process"
            check_program(self.process)
            self.let_go()
        if not plan.die_with_parent:
            prctl.prctl(prctl.PR_SET_PDEATHSIG, 0)  # the parent may end as soon as it hears of it
        self.channel.send(sync.PREPARED)
        self.wait_for_start()
        self.stage = "process"
        last = self.start_hooks() if hooks.has(self.spec, "startContainer") else None
        enter_process(self.process, self.plan, self.channel, slave=self.slave, last=last)

    # steps

    def let_go(self) -> None:
        """Close what is the caller's: it may wait for the end of a pipe before it lets us start.

        Not before the root is made: a path of its options or of the document may be one of /proc/self/fd.
        """
        plan = self.plan
        if self.slave >= 0:
            move_stdio((self.slave, self.slave, self.slave))
        assert plan.gate is not None
        kept = {*plan.preserve_fds, *(plan.stdio or ()), plan.gate.fileno(), self.channel.fileno()}
        first = 3
        for fd in sorted(kept | {self.proc, self.slave}):
            if fd > first:
                fs.close_range(first, fd - 1)
            first = max(first, fd + 1)
        fs.close_range(first)

    def wait_for_start(self) -> None:
        """Wait for START: of the parent's, or of whoever comes to the gate, after the parent's end."""
        gate = self.plan.gate
        if gate is None:
            self.channel.expect(sync.START)
            return
        while True:
            end, _ = gate.accept()
            caller = sync.Channel(end)
            kind, _, _ = caller.receive()
            if kind == sync.START:
                gate.close()
                self.channel.close()
                self.channel = caller
                return
            caller.close()

    def complete_process(self) -> None:
        """Before the root becomes read-only: what the engine does in it may write."""
        if self.plan.in_root is not None:
            self.stage = "process"
            self.plan.in_root(self.process)
        make_cwd(self.process.get("cwd") or "/")
        user = self.process.get("user") or {}
        for duty in self.duties.values():
            self.stage = "mount"
            duty.give(user.get("uid", 0), user.get("gid", 0))

    def call_create_hooks(self) -> None:
        """config.md: prestart and createRuntime by the parent, then createContainer in here, all before pivot_root."""
        if hooks.has(self.spec, "prestart", "createRuntime"):
            self.stage = "hooks"
            self.channel.send(sync.MOUNTED)
            self.channel.expect(sync.HOOKED)
        if hooks.has(self.spec, "createContainer"):
            self.stage = "hooks"
            os.fchdir(self.root)  # as runc's have it: what they are to add to is `.`
            fs.close_range(
                3, flags=4
            )  # CLOSE_RANGE_CLOEXEC: what the caller has open is not the hooks'
            hooks.run(self.spec, "createContainer", self.state_for_hooks("creating"))

    def open_place(self) -> int:
        """Where the root is mounted until it becomes the root.

        That is upon the host's own, but for hooks: they come into this mount namespace before pivot_root, find the host's
        files there and look for the container's where its root lies in the bundle.
        """
        path = (self.spec.get("root") or {}).get("path") or ""
        if path and hooks.has(self.spec, "prestart", "createRuntime", "createContainer"):
            try:
                return os.open(
                    os.path.join(self.plan.bundle, path),
                    fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC,
                )
            except OSError:
                pass  # made in here alone (an overlay): no path of the host's leads to it
        return os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def start_hooks(self) -> Callable[[], None]:
        """What calls startContainer: as the container's user, under its filter, as runc and crun do. They are its files."""
        state = self.state_for_hooks("created")
        return lambda: hooks.run(self.spec, "startContainer", state, self.plan.preserve_fds)

    def state_for_hooks(self, status: str) -> dict[str, Any]:
        # The host's own proc says which pid we have out there.
        pid = int(os.readlink("self", dir_fd=self.proc)) if self.proc >= 0 else os.getpid()
        return hooks.state_document(self.spec, self.plan.identity, self.plan.bundle, status, pid)

    def may_open_host_side(self) -> bool:
        """Open what is needed of the host; False where something in it is closed to the caller's own ids."""
        try:
            self.open_host_side()
        except (OSError, SetupError) as error:
            if error.errno != errno.EACCES:
                raise
            return False
        return True

    def open_host_side(self) -> None:
        if "mount" not in self.plan.own_namespaces:
            return
        self.proc = os.open("/proc", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if fs.fd_fs_type(self.proc) != fs.PROC_SUPER_MAGIC:
            raise SetupError(
                "/proc is no proc file system",
                stage="mount",
                hint="mount one there: mount -t proc proc /proc",
            )
        assert self.plan.root is not None
        self.plan.root.open()
        for index, entry in enumerate(self.spec.get("mounts") or []):
            if entry.get("rootless"):
                from rootless.runtime import volumes

                self.duties[index] = volumes.Duty(entry)
                self.duties[index].open()
            if is_bind(entry):
                link = mounts.link_to_copy(entry)
                if link:
                    self.links[index] = link
                else:
                    self.sources[index] = mounts.open_source(
                        entry, deep_read_only=self.plan.deep_read_only
                    )
            elif entry.get("type") == "overlay":
                from rootless.runtime import overlays

                self.overlays[index] = overlays.Overlay(entry)
                self.overlays[index].open()
        self.devices = devices.Devices(self.linux.get("devices") or [])

    def write_oom_score(self) -> None:
        score = self.process.get("oomScoreAdj")
        if score is None:
            return
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(score).encode())
        except OSError as error:
            raise SetupError(
                f"oom score {score}: {os.strerror(error.errno or 0).lower()}",
                stage="process",
                hint="a user may raise it, not lower it below the shell's",
            ) from error
        finally:
            os.close(fd)

    def join_late_namespaces(self) -> None:
        if "cgroup" in self.plan.new_namespaces:
            # Its root is the cgroup that the process is in at this moment: the parent has moved it by now.
            unshare(CLONE_NEWCGROUP)
        if "time" in self.plan.new_namespaces:
            unshare(CLONE_NEWTIME)
            offsets = self.linux.get("timeOffsets") or {}
            lines = [
                f"{clock} {value.get('secs', 0)} {value.get('nanosecs', 0)}\n"
                for clock, value in offsets.items()
            ]
            if lines:
                fd = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
                os.write(fd, "".join(lines).encode())
                os.close(fd)
            fd = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
            setns(fd, CLONE_NEWTIME)
            os.close(fd)

    def set_names(self) -> None:
        if "uts" in self.plan.new_namespaces:
            if self.spec.get("hostname"):
                sethostname(self.spec["hostname"])
            if self.spec.get("domainname"):
                setdomainname(self.spec["domainname"])

    def mount_root(self) -> None:
        host = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        # Nothing that is mounted here may reach the host; what the host mounts may still reach a slave bind.
        m.mount_setattr(host, propagation=m.MS_SLAVE, recursive=True)
        assert self.plan.root is not None
        made = self.plan.root.mount()
        wanted = self.linux.get("rootfsPropagation") or "private"
        plain = wanted[1:] if wanted[:1] == "r" else wanted
        if plain not in _PROPAGATION:
            raise SetupError(
                f"linux.rootfsPropagation: unknown value {wanted}", stage="root file system"
            )
        m.mount_setattr(made, propagation=m.MS_PRIVATE, recursive=True)
        os.close(host)
        place = self.open_place()
        m.move_mount(made, place)
        os.close(place)
        self.root = made

    def mount_all(self) -> None:
        gids = self.plan.idmap.gids if self.plan.idmap else []
        tty_mapped = any(start <= 5 < start + size for start, _, size in gids) if gids else True
        for index, entry in enumerate(self.spec.get("mounts") or []):
            destination = entry["destination"]
            mounts.check_destination(destination)
            try:
                self.mount_one(index, entry, tty_mapped)
            except OSError as error:
                shown = entry.get("source") or entry.get("type")
                raise SetupError(
                    f"cannot mount {shown} at {destination}: {(error.strerror or str(error)).lower()}",
                    stage="mount",
                    errno=error.errno or 0,
                ) from error

    def mount_one(self, index: int, entry: dict[str, Any], tty_mapped: bool) -> None:
        destination = entry["destination"]
        if index in self.duties:
            self.duties[index].fill(self.root)
        if index in self.links:
            mounts.make_symlink(self.root, destination, self.links[index])
            return
        options = mounts.Options(entry.get("options") or [])
        source = self.sources.get(index, -1)
        if source >= 0:
            if mounts.clean_path(destination) == "/proc":
                mounts.check_proc(source)
            target = mounts.open_target(
                self.root,
                destination,
                directory=mounts.is_directory(source),
                follow=not options.target_link,
            )
            if mounts.wants_idmap(entry, options):
                from rootless.runtime import idmapped

                idmapped.apply(source, entry, options)
            mounts.attach(source, target)
            os.close(target)
            self.leave(source, destination)
            return
        read_only = False
        kind = entry.get("type") or "none"
        target = mounts.open_target(self.root, destination, directory=True)
        try:
            if index in self.overlays:
                made = self.overlays[index].mount()
            else:
                made = mounts.new_mount(entry, gid_mapped=tty_mapped, below=target, writable=True)
                read_only = options.is_read_only()
        except OSError as error:
            made = self.instead_of(kind, entry, error)
        if mounts.wants_idmap(entry, options):
            from rootless.runtime import idmapped

            idmapped.apply(made, entry, options)
        if options.copy_up:
            below = fs.open_in_root(self.root, destination, os.O_RDONLY | os.O_DIRECTORY)
            into = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=made)
            mounts.copy_up(below, into)
            os.close(below)
            os.close(into)
        mounts.attach(made, target)
        subpath = (entry.get("rootless") or {}).get("subpath")
        if subpath:
            mounts.cover_with(made, subpath, target)
        os.close(target)
        if read_only:
            self.read_only_later.append(os.dup(made))
        self.leave(made, destination)

    def leave(self, made: int, destination: str) -> None:
        """Done with a mount, unless it covers the root: then all that follows goes into it."""
        if mounts.clean_path(destination) == "/":
            os.close(self.root)
            self.root = made
        else:
            os.close(made)

    def instead_of(self, kind: str, entry: dict[str, Any], error: OSError) -> int:
        """Another mount where the kernel refuses one for want of a namespace or a cgroup v2."""
        if kind == "sysfs" and error.errno in (errno.EPERM, errno.EACCES):
            # The network namespace belongs to somebody else: the host's /sys, read-only (runc and crun do so too).
            return mounts.open_source(
                {**entry, "source": "/sys", "options": ["rbind", "ro", "nosuid", "nodev", "noexec"]}
            )
        if kind in ("cgroup", "cgroup2") and error.errno in (
            errno.EPERM,
            errno.EACCES,
            errno.EINVAL,
            errno.EBUSY,
            errno.ENODEV,
        ):
            if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
                return mounts.open_source(
                    {
                        **entry,
                        "source": "/sys/fs/cgroup",
                        "options": ["rbind", "ro", "nosuid", "nodev", "noexec"],
                    }
                )
            if "cgroup" not in self.plan.own_namespaces and os.path.isdir("/sys/fs/cgroup"):
                # cgroup v1 in the host's namespace, as runc and crun show it; read-only (security case 23).
                options = ["rbind", "ro", "rro", "nosuid", "nodev", "noexec"]
                return mounts.open_source({**entry, "source": "/sys/fs/cgroup", "options": options})
            # In one of its own, which a user cannot mount: the container sees an empty folder.
            return m.new_filesystem(
                "tmpfs",
                [("mode", "755")],
                m.MOUNT_ATTR_RDONLY
                | m.MOUNT_ATTR_NOSUID
                | m.MOUNT_ATTR_NODEV
                | m.MOUNT_ATTR_NOEXEC,
            )
        if kind == "proc" and error.errno == errno.EPERM:
            raise SetupError(
                "cannot mount proc: the kernel wants the whole of /proc visible around it",
                stage="mount",
                errno=errno.EPERM,
                hint="inside another container, start that one with --security-opt unmask=ALL, or give --pid=host",
            ) from error
        raise error

    def populate_dev(self) -> None:
        has_dev = any(
            os.path.normpath(entry["destination"]) == "/dev"
            for entry in self.spec.get("mounts") or []
        )
        bound = any(
            os.path.normpath(entry["destination"]) == "/dev" and is_bind(entry)
            for entry in self.spec.get("mounts") or []
        )
        if not bound:
            self.devices.attach(self.root, mounted=has_dev)
        if self.process.get("terminal"):
            self.open_terminal()

    def open_terminal(self) -> None:
        devpts = fs.open_in_root(self.root, "/dev/pts", os.O_RDONLY | os.O_DIRECTORY)
        from rootless.runtime import terminal

        master, self.slave = terminal.open_pty(devpts)
        os.close(devpts)
        size = self.process.get("consoleSize")
        if size:
            terminal.set_size(master, size.get("height", 0), size.get("width", 0))
        devices.attach_console(self.root, self.slave)
        self.channel.send(sync.CONSOLE, fd=master)
        os.close(master)

    def pivot(self) -> None:
        os.fchdir(self.root)
        if self.plan.no_pivot:
            if hooks.has(self.spec, "prestart", "createRuntime", "createContainer"):
                host = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                m.move_mount(self.root, host)  # else it is there already
                os.close(host)
            self.cover_host()
            os.chroot(".")
            os.chdir("/")
            forbid_imports()
            return
        m.pivot_root(".", ".")
        # The old root lies on top of the new one at "/". It is a slave of the host's already, so that taking it off stays
        # in here; mount(2) on "." would mean the new one and undo what is shared in it.
        m.umount2(".", m.MNT_DETACH)
        os.chdir("/")
        forbid_imports()

    def cover_host(self) -> None:
        """Cover the host's proc and sysfs: whole ones, in sight of this mount namespace, would let the kernel mount a new
        one in the container without what is masked (CVE-2019-16884's kin, as runc and crun see to it)."""
        fd = os.open("self/mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        with open(fd, "rb") as file:
            lines = file.read().split(b"\n")
        for line in lines:
            words = line.split(b" ")
            if len(words) < 10 or words[words.index(b"-") + 1] not in (b"proc", b"sysfs"):
                continue
            # Names lead into the host's tree from here, never into the container's, which is mounted upon it.
            path = words[4].decode("unicode_escape").encode("latin-1")
            try:
                where = os.open(path, fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue
            if fs.fd_fs_type(where) in (fs.PROC_SUPER_MAGIC, fs.SYSFS_MAGIC):
                empty = m.new_filesystem("tmpfs", [("mode", "755")], m.MOUNT_ATTR_RDONLY)
                m.move_mount(empty, where)
                os.close(empty)
            os.close(where)

    def write_sysctls(self) -> None:
        for key, value in (self.linux.get("sysctl") or {}).items():
            self.write_sysctl(key, value)

    def write_sysctl(self, key: str, value: str) -> None:
        from rootless.runtime.sysctl import check_sysctl

        check_sysctl(key, self.plan.own_namespaces)
        # sysctl(8): whichever of `.` and `/` comes first is the separator, the other one is part of a name.
        dot, slash = key.find("."), key.find("/")
        swapped = key if 0 <= slash < dot or dot < 0 else key.translate({46: 47, 47: 46})
        path = f"sys/{swapped}"
        try:
            # The handle on the host's own proc, taken before the root was left: no fake /proc of an image (case 6).
            fd = fs.openat2(
                self.proc, path, os.O_WRONLY, 0, fs.RESOLVE_BENEATH | fs.RESOLVE_NO_SYMLINKS
            )
        except FileNotFoundError:
            raise SetupError(
                f"sysctl {key}: this kernel has none of that name", stage="sysctl"
            ) from None
        try:
            os.write(fd, value.encode())
        except OSError as error:
            raise SetupError(
                f"sysctl {key}={value}: {os.strerror(error.errno or 0).lower()}", stage="sysctl"
            ) from error
        finally:
            os.close(fd)

    def mask(self) -> None:
        for path in self.linux.get("readonlyPaths") or []:
            try:
                fd = fs.open_in_root(libc.AT_FDCWD, path, fs.O_PATH)
            except FileNotFoundError:
                continue
            copy = m.open_tree(fd, "", m.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH | libc.AT_RECURSIVE)
            m.mount_setattr(copy, m.MOUNT_ATTR_RDONLY, recursive=True)
            mounts.attach(copy, fd)
            os.close(copy)
            os.close(fd)
        empty = -1
        for path in self.linux.get("maskedPaths") or []:
            try:
                fd = fs.open_in_root(libc.AT_FDCWD, path, fs.O_PATH)
            except (FileNotFoundError, PermissionError):
                continue
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                if empty < 0:
                    # The first is attached itself: a detached one cannot be cloned before Linux 6.15.
                    empty = m.new_filesystem("tmpfs", [("mode", "755")], m.MOUNT_ATTR_RDONLY)
                    copy = os.dup(empty)
                else:
                    copy = m.open_tree(empty, "", m.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH)
            else:
                # A verified descriptor of the host's node, never the container's /dev/null (security case 4).
                copy = m.open_tree(self.devices.null, "", m.OPEN_TREE_CLONE | libc.AT_EMPTY_PATH)
            mounts.attach(copy, fd)
            os.close(copy)
            os.close(fd)

    def finish_root(self) -> None:
        root = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if (self.spec.get("root") or {}).get("readonly"):
            m.mount_setattr(root, m.MOUNT_ATTR_RDONLY)
        wanted = self.linux.get("rootfsPropagation")
        if wanted:
            m.mount_setattr(
                root,
                propagation=_PROPAGATION[wanted[1:] if wanted[:1] == "r" else wanted],
                recursive=wanted[:1] == "r",
            )
        os.close(root)


def is_bind(entry: dict[str, Any]) -> bool:
    """Whether a mount is a bind, by type or by option."""
    return entry.get("type") == "bind" or not {"bind", "rbind"}.isdisjoint(
        entry.get("options") or ()
    )


def loopback_up() -> None:
    """Bring `lo` up in the present network namespace (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
        request = bytearray(b"lo".ljust(16, b"\0") + bytes(24))
        fcntl.ioctl(end, 0x8913, request)  # SIOCGIFFLAGS
        flags = int.from_bytes(request[16:18], sys.byteorder) | 1  # IFF_UP
        request[16:18] = flags.to_bytes(2, sys.byteorder)
        fcntl.ioctl(end, 0x8914, request)  # SIOCSIFFLAGS
