"""The parent's side of a container's start: namespaces, id maps, and init's progress (see sync.py for the picture).

launch = Launch(spec, root, …)
launch.create()         the namespaces exist and the ids are mapped; `launch.pid` is init
launch.prepared()       the root is made; `launch.console` is the terminal's master
launch.start()          the program runs, or the error says why not
"""

from __future__ import annotations

import errno
import os

from rootless.errors import RootlessError, SetupError
from rootless.linux import signal
from rootless.linux.idmap import IdMap, write_id_maps, write_nested_maps
from rootless.linux.prctl import PR_SET_DUMPABLE, prctl
from rootless.linux.sched import (
    CLONE_NEWNET,
    CLONE_NEWUSER,
    CLONE_PARENT,
    clone,
    setns,
    unshare,
)
from rootless.linux.userns import refused
from rootless.runtime import hooks, sync
from rootless.runtime.init import Init
from rootless.runtime.namespaces import NAMESPACES
from rootless.runtime.process import Plan, finish, preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from rootless.linux import sockets
    from rootless.runtime import seccomp
    from rootless.runtime.rootfs import Root

# Their names in /proc/PID/ns where those are others.
_FILES = {"mount": "mnt", "network": "net"}
# Made by init itself once it is where they begin: the cgroup it was moved to, the clock's offsets.
_LATE = ("cgroup", "time")


def idmap_of(spec: dict[str, Any]) -> IdMap | None:
    """The map that a configuration asks for; None where it has none."""
    linux = spec.get("linux") or {}
    uids = [(e["containerID"], e["hostID"], e["size"]) for e in linux.get("uidMappings") or []]
    gids = [(e["containerID"], e["hostID"], e["size"]) for e in linux.get("gidMappings") or []]
    return IdMap(uids, gids) if uids and gids else None


class Launch:
    """One start of a container's init."""

    __slots__ = (
        "spec", "root", "stdio", "preserve_fds", "in_root", "cache", "die_with_parent", "identity", "bundle", "pid", "console",
        "outer", "gate", "keyring", "no_pivot", "deep_read_only", "netns", "userns", "_listener", "_channel",
    )  # fmt: skip

    def __init__(
        self,
        spec: dict[str, Any],
        root: Root,
        *,
        stdio: tuple[int, int, int] | None,
        preserve_fds: Sequence[int] = (),
        in_root: Callable[[dict[str, Any]], object] | None = None,
        cache: str = "",
        die_with_parent: bool = True,
        identity: str = "",
        bundle: str = "",
        outer: tuple[int, IdMap] | None = None,
        gate: sockets.socket | None = None,
        keyring: str = "",
        no_pivot: bool = False,
        deep_read_only: bool = True,
    ) -> None:
        self.spec = spec
        self.root = root
        self.stdio = stdio
        self.preserve_fds = preserve_fds
        self.in_root = in_root
        self.cache = cache  # folder of compiled seccomp filters
        self.die_with_parent = die_with_parent
        self.identity = identity
        self.bundle = bundle
        self.outer = outer  # a user namespace to make the container's in: its descriptor and map (user networks)
        self.gate = gate  # a listening socket: init outlives us, and waits for its start there
        self.keyring = keyring
        self.no_pivot = no_pivot
        self.deep_read_only = deep_read_only
        self.pid = 0
        self.console = -1
        # A joined user namespace and the new network namespace in it, until `mapped`: init's /proc is closed to us then.
        self.netns = self.userns = -1
        self._listener: seccomp.Listener | None = None
        self._channel: sync.Channel | None = None

    def create(self) -> None:
        """Fork init into its namespaces and map its ids. Raises SetupError."""
        linux = self.spec.get("linux") or {}
        new, joined = self._sort_namespaces(linux.get("namespaces") or [])
        section = linux.get("seccomp")
        preload(linux, self.spec.get("process") or {})
        filter_program, filter_flags = None, 0
        if section:
            from rootless.runtime import seccomp

            filter_program = seccomp.compile(section, self.cache)
            filter_flags = seccomp.load_flags(section)
            if section.get("listenerPath"):
                self._listener = seccomp.Listener()
        idmap = idmap_of(self.spec)
        plan = Plan(
            self.spec,
            self.root,
            idmap if "user" in new or any(kind == "user" for kind, _ in joined) else None,
            stdio=self.stdio,
            preserve_fds=self.preserve_fds,
            in_root=self.in_root,
            filter=filter_program,
            filter_flags=filter_flags,
            new_namespaces=frozenset(new),
            own_namespaces=frozenset((*new, *(kind for kind, _ in joined))),
            die_with_parent=self.die_with_parent,
            identity=self.identity,
            bundle=self.bundle,
            listener=self._listener,
            gate=self.gate,
            keyring=self.keyring,
            no_pivot=self.no_pivot,
            deep_read_only=self.deep_read_only,
        )
        flags = 0
        for kind in new:
            if kind not in _LATE:
                flags |= NAMESPACES[kind]
        ours, theirs = sync.Channel.pair()
        self._channel = ours
        try:
            if joined or self.outer:
                self._create_through_stage(plan, flags, joined, ours, theirs)
            else:
                pid = self._clone(flags)
                if pid == 0:
                    ours.close()
                    self._enter(plan, theirs)
                self.pid = pid
        finally:
            theirs.close()
        try:
            if "user" in new:
                if idmap is None:
                    raise SetupError(
                        "linux.uidMappings: a new user namespace needs them", stage="id map"
                    )
                if self.outer is None:
                    write_id_maps(self.pid, idmap)
        except BaseException:
            cause = self.why_ended()  # a process that has ended has no maps to be written
            self.abort()
            if cause is not None:
                raise cause from None
            raise

    def _enter(self, plan: Plan, channel: sync.Channel) -> NoReturn:
        """The child's whole body."""
        _init(plan, channel)

    def mapped(self) -> None:
        """Let init go on: what it needs from outside (ids, its cgroup) is there."""
        try:
            self.root.start(self.pid, self.userns)
        except BaseException:
            self.abort()
            raise
        finally:
            self._close_namespaces()
        self._expect_alive(lambda channel: channel.send(sync.MAPPED))

    def prepared(self) -> None:
        """Wait until the root file system is made; takes the terminal's master. Raises what init met."""
        channel = self._open_channel()
        while True:
            kind, data, fd = channel.receive()
            if kind == sync.CONSOLE:
                self.console = fd
            elif kind == sync.MOUNTED:
                self._call_hooks(channel)
            elif kind == sync.PREPARED:
                self._take_prepared(data)
                if self.gate is not None:
                    channel.close()
                    self._channel = None
                return
            else:
                raise self._failure(kind, data)

    def _take_prepared(self, data: bytes) -> None:
        """What PREPARED says besides: nothing, of our own init."""

    def _call_hooks(self, channel: sync.Channel) -> None:
        state = hooks.state_document(self.spec, self.identity, self.bundle, "creating", self.pid)
        try:
            hooks.run(self.spec, "prestart", {**state, "status": "created"})
            hooks.run(self.spec, "createRuntime", {**state, "status": "created"})
        except BaseException:
            self.abort()
            raise
        channel.send(sync.HOOKED)

    def start(self) -> None:
        """Let the user's program begin; raises CommandNotFound and its kin, or returns when it runs."""
        self._expect_alive(lambda channel: channel.send(sync.START))
        self.started()

    def started(self) -> None:
        """Wait for the end of file that execve makes."""
        channel = self._open_channel()
        try:
            failure = finish(channel, self.spec, self.identity, self.bundle, "creating", self.pid)
        except SetupError:
            self.abort()
            raise
        if failure:
            raise self._failure(sync.FAILED, failure)
        channel.close()
        self._channel = None

    def _close_namespaces(self) -> None:
        for fd in (self.netns, self.userns):
            if fd >= 0:
                os.close(fd)
        self.netns = self.userns = -1

    def close(self) -> None:
        """After init's end: nothing is left to be done for it."""

    def abort(self) -> None:
        """End init, wherever it is."""
        self.root.close()
        self._close_namespaces()
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self.console >= 0:
            os.close(self.console)
            self.console = -1
        if self.pid > 0:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
            self.pid = 0

    def _open_channel(self) -> sync.Channel:
        if self._channel is None:
            raise RootlessError("launch: used after its end")
        return self._channel

    def why_ended(self) -> RootlessError | None:
        """What init has failed at, if it has: asked when something else has failed that needs it alive."""
        return self._channel.failure() if self._channel is not None else None

    def _expect_alive(self, act: Callable[[sync.Channel], None]) -> None:
        channel = self._open_channel()
        try:
            act(channel)
        except (BrokenPipeError, ConnectionResetError):
            kind, data, _ = channel.receive()
            raise self._failure(kind, data) from None

    def _failure(self, kind: bytes, data: bytes) -> RootlessError:
        if kind == sync.FAILED:
            error = sync.decode_failure(data)
        else:
            error = SetupError(
                f"init ended before the container was ready{self._how_it_ended()}", stage="init"
            )
        self.abort()
        return error

    def _how_it_ended(self) -> str:
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return ""
        self.pid = 0
        code = os.waitstatus_to_exitcode(status)
        return f": killed by signal {-code}" if code < 0 else f": exit status {code}"

    def _sort_namespaces(
        self, entries: list[dict[str, Any]]
    ) -> tuple[list[str], list[tuple[str, int]]]:
        """(types to make, descriptors of those to join; user first, since it gives the right to the others)."""
        new: list[str] = []
        joined: list[tuple[str, int]] = []
        for entry in entries:
            kind = entry["type"]
            if kind not in NAMESPACES:
                raise SetupError(f"linux.namespaces: unknown type {kind!r}", stage="namespaces")
            path = entry.get("path")
            if not path:
                new.append(kind)
                continue
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise SetupError(
                    f"cannot join the {kind} namespace {path}: {os.strerror(error.errno or 0).lower()}",
                    stage="namespaces",
                    errno=error.errno or 0,
                ) from error
            if os.fstat(fd).st_ino == os.stat(f"/proc/self/ns/{_FILES.get(kind, kind)}").st_ino:
                os.close(
                    fd
                )  # ours already: joining it changes nothing, or is refused (setns(2), user)
                continue
            joined.append((kind, fd))
        order = ("user", "ipc", "uts", "network", "cgroup", "time", "pid", "mount")
        joined.sort(key=lambda item: order.index(item[0]))
        return new, joined

    def _clone(self, flags: int) -> int:
        try:
            return clone(flags)
        except OSError as error:
            if flags & CLONE_NEWUSER and error.errno in (
                errno.EPERM,
                errno.ENOSPC,
                errno.EUSERS,
                errno.EACCES,
            ):
                raise refused(error) from error
            raise SetupError(
                f"cannot make the container's namespaces: {os.strerror(error.errno or 0).lower()}",
                stage="namespaces",
                errno=error.errno or 0,
            ) from error

    def _create_through_stage(
        self,
        plan: Plan,
        flags: int,
        joined: list[tuple[str, int]],
        ours: sync.Channel,
        theirs: sync.Channel,
    ) -> None:
        """Join namespaces in a child first, which then makes init as the parent's own child (CLONE_PARENT)."""
        stage = os.fork()
        if stage == 0:
            status = 1
            try:
                ours.close()
                kind, netns = "", -1
                joins_pid = False
                # Not dumpable: a process of the joined namespace may not trace this one nor see its descriptors.
                prctl(PR_SET_DUMPABLE, 0)
                if self.outer:
                    setns(self.outer[0], CLONE_NEWUSER)
                for kind, fd in joined:
                    try:
                        setns(fd, NAMESPACES[kind])
                    except OSError as error:
                        raise SetupError(
                            f"cannot join the {kind} namespace: {os.strerror(error.errno or 0).lower()}",
                            stage="namespaces",
                            errno=error.errno or 0,
                            hint="it must belong to the same user namespace as the others"
                            if error.errno == errno.EPERM
                            else "",
                        ) from error
                    os.close(fd)
                    joins_pid = joins_pid or kind == "pid"
                if flags & CLONE_NEWNET and not flags & CLONE_NEWUSER and joined[0][0] == "user":
                    # Made here and handed over, because a process that has joined cannot be looked into.
                    unshare(CLONE_NEWNET)
                    flags &= ~CLONE_NEWNET
                    netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                if flags & CLONE_NEWUSER and not joins_pid:
                    prctl(PR_SET_DUMPABLE, 1)  # newuidmap looks at who owns /proc/PID
                pid = self._clone(flags | CLONE_PARENT)
                if pid == 0:
                    self._enter(plan, theirs)
                if self.outer and plan.idmap is not None and flags & CLONE_NEWUSER:
                    # Only a process of the namespace's parent may write them, and as its root it needs no helper.
                    write_nested_maps(pid, plan.idmap, self.outer[1])
                theirs.send(sync.CREATED, str(pid).encode(), netns)
                status = 0
            except BaseException as error:
                theirs.send(sync.FAILED, sync.encode_failure("namespaces", error))
            finally:
                os._exit(status)
        for kind, fd in joined:
            if kind == "user":
                self.userns = fd
            else:
                os.close(fd)
        try:
            data, self.netns = ours.expect(sync.CREATED)
            self.pid = int(data)
        finally:
            os.waitpid(stage, 0)


def _init(plan: Plan, channel: sync.Channel) -> NoReturn:
    """The child's whole body; leaves by execve or _exit."""
    init = Init(plan, channel)
    try:
        init.run()
    except BaseException as error:
        try:
            init.channel.send(sync.FAILED, sync.encode_failure(init.stage, error))
        except BaseException:
            pass
    finally:
        os._exit(1)
