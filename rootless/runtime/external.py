"""Another OCI runtime under the engine: crun, runc, or whatever speaks their command line (`--runtime`).

`ExternalLaunch` and `ExternalExecution` stand in the places of Launch and Execution. What the other runtime could not do
for an ordinary user is done before it is called, by a stage that is the first half of our own init: it makes the user
and network namespaces, the root and the sources of the mounts, and completes the process document.

monitor                         stage (root of the user namespace)        runtime                 container's init
clone ────────────────────────► namespaces
id maps, cgroup, network
        ─── MAPPED ───────────► root, mounts below BUNDLE/fs, config.json
                                runtime create ─────────────────────────► namespaces, mounts ────► waits
        ◄── CONSOLE ───────────
        ◄── PREPARED pid ──────                                           (ends; init is the monitor's now)
        ─── START ────────────► runtime start ──────────────────────────────────────────────────► execve
        ◄── end of file, or FAILED

The cgroup is the engine's own: the stage is in it before the runtime is called, which is told to leave it alone, so that
limits, `update`, `stats` and `pause` are the same under every runtime.
"""

from __future__ import annotations

import os
import select

from rootless import quickjson as json
from rootless.errors import (
    CommandNotExecutable,
    CommandNotFound,
    InvalidState,
    RootlessError,
    SetupError,
)
from rootless.files import make_private_dir
from rootless.linux import fs, libc, prctl, signal
from rootless.linux import mount as m
from rootless.linux import sockets as socket
from rootless.linux.sched import CLONE_NEWNS, CLONE_NEWUSER, setns, unshare
from rootless.linux.userns import become_root
from rootless.runtime import devices, mounts, sync
from rootless.runtime.init import Init, is_bind, loopback_up
from rootless.runtime.launch import Launch
from rootless.runtime.namespaces import foreign_namespaces
from rootless.runtime.process import (
    Plan,
    become_inside_root,
    forbid_imports,
    move_stdio,
    reset_signals,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from rootless.linux.idmap import IdMap
    from rootless.runtime.rootfs import Root

# What the stage makes; all other namespaces are the runtime's to make or to join.
_STAGED = ("user", "network")
# These leave cgroups alone when they are told so; the others do so where they may not write there.
_WITHOUT_CGROUPS = ("crun", "krun", "crun-wasm", "rootless-oci")


class ExternalRuntime:
    """One container's use of a runtime: the program, its global flags, and a folder for its state."""

    __slots__ = ("program", "flags", "folder", "identity", "log")

    def __init__(self, program: str, flags: Sequence[str], folder: str, identity: str) -> None:
        self.program = program
        self.log = f"{folder}/log"
        self.flags = list(flags)
        self.folder = folder
        self.identity = identity

    @property
    def name(self) -> str:
        return os.path.basename(self.program)

    @property
    def bundle(self) -> str:
        return f"{self.folder}/bundle"

    def words(self, *command: str) -> list[str]:
        """The command line; its log goes to a file of ours, so that an error has words."""
        words = [self.program, *self.flags, "--root", f"{self.folder}/state"]
        words += ["--log", self.log, "--log-format", "json"]
        if self.name in _WITHOUT_CGROUPS:
            words += ["--cgroup-manager", "disabled"]
        return [*words, *command]

    def run(
        self, *command: str, stdio: tuple[int, int, int] | None = None, keep: Sequence[int] = ()
    ) -> int:
        """Start the runtime as a child of the calling process; its pid."""
        words = self.words(*command)
        pid = os.fork()
        if pid:
            return pid
        try:
            reset_signals()
            null = os.open("/dev/null", os.O_RDWR)
            ends = stdio or (null, null, null)
            move_stdio(ends)
            fs.close_range(3, flags=4)  # CLOSE_RANGE_CLOEXEC
            for fd in keep:
                os.set_inheritable(fd, True)
            os.execve(self.program, words, {"PATH": os.environ.get("PATH", "/usr/bin:/bin")})
        except OSError as error:
            self._note(f"{self.program}: {os.strerror(error.errno or 0).lower()}")
        finally:
            os._exit(1)

    def _note(self, text: str) -> None:
        with open(self.log, "ab", buffering=0) as file:
            file.write(json.dumps({"level": "error", "msg": text}).encode() + b"\n")

    def call(self, *command: str) -> None:
        """Run a command to its end; raises what the runtime says was wrong."""
        pid = self.run(*command)
        if os.waitpid(pid, 0)[1]:
            raise self.failure(command[0])

    def failure(self, verb: str) -> RootlessError:
        """The last error in the runtime's log, as the class that its words stand for."""
        said = ""
        try:
            with open(self.log, "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            lines = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("level") in ("error", "fatal", "panic"):
                said = " ".join(str(entry.get("msg", "")).split())
        message = f"{self.name} {verb}: {said or 'failed without a word'}"
        lower = said.lower()
        if "executable file" in lower or "no such file or directory" in lower:
            return CommandNotFound(message)
        if "not permitted" in lower or "permission denied" in lower or "is a directory" in lower:
            return CommandNotExecutable(message)
        return SetupError(message, stage="runtime")

    def make_folders(self) -> None:
        make_private_dir(self.folder)
        # runc's exec works in the root's folder, which is to be there outside of the stage's mounts, too.
        for name in ("state", "bundle", "bundle/fs", "bundle/fs/root"):
            make_private_dir(f"{self.folder}/{name}")

    def inside(self, userns: int, act: Callable[[], object]) -> None:
        """Do something as root of a user namespace, in a forked child; raises what it raised."""
        ours, theirs = sync.Channel.pair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                setns(userns, CLONE_NEWUSER)
                become_inside_root()
                act()
            except BaseException as error:
                theirs.send(sync.FAILED, sync.encode_failure("runtime", error))
            finally:
                os._exit(0)
        theirs.close()
        try:
            kind, data, _ = ours.receive()
        finally:
            ours.close()
            os.waitpid(pid, 0)
        if kind:
            raise sync.decode_failure(data)


def adopt_orphans() -> None:
    """What a runtime leaves running becomes the calling process's child (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1)


class ExternalLaunch(Launch):
    """One start through another runtime."""

    __slots__ = ("runtime", "original", "stage", "holder", "_forwarded")

    def __init__(
        self,
        spec: dict[str, Any],
        root: Root,
        runtime: ExternalRuntime,
        *,
        stdio: tuple[int, int, int] | None,
        preserve_fds: Sequence[int] = (),
        in_root: Callable[[dict[str, Any]], object] | None = None,
        identity: str = "",
        outer: tuple[int, IdMap] | None = None,
    ) -> None:
        linux = dict(spec.get("linux") or {})
        linux.pop("seccomp", None)  # the runtime's to compile
        entries = linux.get("namespaces") or []
        # Opened here, where the paths mean what the engine meant.
        self._forwarded = _open_namespaces(entries)
        linux["namespaces"] = [e for e in entries if e["type"] in _STAGED] + [{"type": "mount"}]
        super().__init__(
            {**spec, "linux": linux},
            root,
            stdio=stdio,
            preserve_fds=preserve_fds,
            in_root=in_root,
            identity=identity,
            bundle=runtime.bundle,
            outer=outer,
        )
        self.runtime = runtime
        self.original = spec
        self.stage = 0
        self.holder = -1

    def create(self) -> None:
        if not any(e["type"] == "user" for e in self.spec["linux"]["namespaces"]):
            raise SetupError(
                f"--runtime {self.runtime.name}: a container without a user namespace of its own",
                stage="namespaces",
                hint="leave out --runtime",
            )
        self.runtime.make_folders()
        adopt_orphans()
        super().create()
        self.stage = self.pid
        # A joined one came by descriptor: its process's folder in /proc is closed to us.
        self.holder = (
            os.dup(self.userns)
            if self.userns >= 0
            else os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        )

    def _enter(self, plan: Plan, channel: sync.Channel) -> NoReturn:
        stage = Stage(plan, channel, self.runtime, self.original, self._forwarded)
        try:
            stage.run()
        except BaseException as error:
            try:
                channel.send(sync.FAILED, sync.encode_failure(stage.stage, error))
            except BaseException:
                pass
        finally:
            os._exit(1)

    def prepared(self) -> None:
        channel = self._open_channel()
        while True:
            kind, data, fd = channel.receive()
            if kind == sync.CONSOLE:
                self.console = fd
            elif kind == sync.PREPARED:
                self.pid = int(data)
                return
            else:
                raise self._failure(kind, data)

    def started(self) -> None:
        super().started()
        self._reap_stage()

    def _reap_stage(self) -> None:
        if self.stage > 0:
            try:
                os.waitpid(self.stage, 0)
            except ChildProcessError:
                pass
            self.stage = 0

    def abort(self) -> None:
        super().abort()
        if self.stage > 0:
            try:
                os.kill(self.stage, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._reap_stage()
        self.close()

    def close(self) -> None:
        """After the container's end: the runtime forgets it."""
        if self.holder >= 0:
            try:
                self.runtime.inside(
                    self.holder,
                    lambda: self.runtime.call("delete", "--force", self.runtime.identity),
                )
            except RootlessError:
                pass  # it never got so far, or has forgotten it by itself
            os.close(self.holder)
            self.holder = -1
        for fd in self._forwarded.values():
            if fd >= 0:
                os.close(fd)
        self._forwarded = {}


def _open_namespaces(entries: list[dict[str, Any]]) -> dict[str, int]:
    """The runtime's namespaces: type → descriptor of one to join, -1 for a new one."""
    found: dict[str, int] = {}
    for entry in entries:
        kind = entry["type"]
        if kind in _STAGED:
            continue
        path = entry.get("path")
        found[kind] = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if path else -1
    return found


class Stage(Init):
    """What lies between our monitor and the other runtime; see the module's picture."""

    __slots__ = ("runtime", "original", "forwarded", "sources_at", "files")

    def __init__(
        self,
        plan: Plan,
        channel: sync.Channel,
        runtime: ExternalRuntime,
        original: dict[str, Any],
        forwarded: dict[str, int],
    ) -> None:
        super().__init__(plan, channel)
        self.runtime = runtime
        self.original = original
        self.forwarded = forwarded
        self.sources_at: dict[int, str] = {}  # index of a mount → the place of its source
        self.files = -1

    def run(self) -> None:
        plan = self.plan
        prctl.prctl(prctl.PR_SET_PDEATHSIG, signal.SIGKILL)
        reset_signals()
        self.stage = "mount"
        self.open_host_side()
        bundle = os.open(self.runtime.bundle, fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.stage = "id map"
        self.channel.expect(sync.MAPPED)
        if plan.idmap is not None:
            become_root(plan.idmap)
        os.setsid()
        if "network" in plan.new_namespaces:
            loopback_up()
        self.stage = "sysctl"
        for key, value in (self.linux.get("sysctl") or {}).items():
            if is_network_sysctl(key):
                self.write_sysctl(key, value)
        self.stage = "root file system"
        self.check_reachable()
        self.mount_folder(bundle)
        self.place_root()
        self.stage = "mount"
        self.place_sources()
        self.complete()
        self.stage = "runtime"
        self.write_config()
        pid, console = self.call_create()
        if console >= 0:
            self.channel.send(sync.CONSOLE, fd=console)
            os.close(console)
        self.channel.send(sync.PREPARED, str(pid).encode())
        self.channel.expect(sync.START)
        self.runtime.call("start", self.runtime.identity)
        os._exit(0)

    def check_reachable(self) -> None:
        """The runtime opens its bundle by path, as root of a namespace that may not map the user's own id."""
        try:
            os.stat(f"{self.runtime.bundle}/fs")
        except PermissionError:
            raise SetupError(
                f"{self.runtime.name} cannot reach {self.runtime.bundle}: the container maps no id that may pass there",
                stage="root file system",
                hint="--userns=auto and nomap need rootless's own runtime: leave out --runtime",
            ) from None

    def mount_folder(self, bundle: int) -> None:
        """A folder that only this mount namespace sees, for the root and the mounts' sources."""
        host = os.open("/", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        m.mount_setattr(host, propagation=m.MS_SLAVE, recursive=True)
        os.close(host)
        target = os.open("fs", fs.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=bundle)
        made = m.new_filesystem("tmpfs", [("mode", "755")], 0)
        m.mount_setattr(made, propagation=m.MS_PRIVATE)
        mounts.attach(made, target)
        os.close(target)
        self.files = made

    def place(self, made: int, name: str, *, directory: bool) -> str:
        """Attach a detached mount under a name of its own; the path by which the runtime finds it."""
        target = mounts.open_target(self.files, name, directory=directory)
        mounts.attach(made, target)
        os.close(target)
        return f"{self.runtime.bundle}/fs/{name}"

    def place_root(self) -> None:
        assert self.plan.root is not None
        made = self.plan.root.mount()
        m.mount_setattr(made, propagation=m.MS_PRIVATE, recursive=True)
        self.place(made, "root", directory=True)
        self.root = made

    def place_sources(self) -> None:
        for index, entry in enumerate(self.spec.get("mounts") or []):
            mounts.check_destination(entry["destination"])
            if index in self.duties:
                self.duties[index].fill(self.root)
            source = self.sources.get(index, -1)
            if source >= 0:
                made, directory = source, mounts.is_directory(source)
            elif index in self.overlays:
                made, directory = self.overlays[index].mount(), True
            elif (entry.get("rootless") or {}).get("subpath"):
                made, directory = mounts.new_mount(entry), True
            else:
                continue
            self.sources_at[index] = self.place(made, f"m{index}", directory=directory)
            if source < 0:
                subpath = (entry.get("rootless") or {}).get("subpath")
                if subpath:
                    target = os.open(self.sources_at[index], fs.O_PATH | os.O_CLOEXEC)
                    mounts.cover_with(made, subpath, target)
                    os.close(target)
            os.close(made)

    def complete(self) -> None:
        """What the engine does inside the root, in a child that enters it with the mounts' sources in their places."""
        ours, theirs = sync.Channel.pair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                unshare(CLONE_NEWNS)
                # By path: the descriptor's mount is the other namespace's.
                self.root = os.open(f"{self.runtime.bundle}/fs/root", fs.O_PATH | os.O_DIRECTORY)
                for index, entry in enumerate(self.spec.get("mounts") or []):
                    if index in self.sources_at:
                        copy = m.open_tree(
                            libc.AT_FDCWD,
                            self.sources_at[index],
                            m.OPEN_TREE_CLONE | libc.AT_RECURSIVE,
                        )
                        target = mounts.open_target(
                            self.root, entry["destination"], directory=mounts.is_directory(copy)
                        )
                        mounts.attach(copy, target)
                os.fchdir(self.root)
                os.chroot(".")
                forbid_imports()
                self.complete_process()
                theirs.send(sync.PREPARED, json.dumps(self.process).encode())
            except BaseException as error:
                theirs.send(sync.FAILED, sync.encode_failure(self.stage, error))
            finally:
                os._exit(0)
        theirs.close()
        try:
            data, _ = ours.expect(sync.PREPARED)
        finally:
            ours.close()
            os.waitpid(pid, 0)
        self.process = json.loads(data)

    def write_config(self) -> None:
        """The bundle's config.json: the engine's, less what has been done by now."""
        spec = dict(self.original)
        spec["ociVersion"] = (
            "1.0.2"  # crun before 1.9 knows no later one, and nothing below needs it
        )
        spec["process"] = self.process
        spec["root"] = {**(spec.get("root") or {}), "path": f"{self.runtime.bundle}/fs/root"}
        entries = []
        for index, entry in enumerate(spec.get("mounts") or []):
            entry = {key: value for key, value in entry.items() if key != "rootless"}
            if index in self.sources_at:
                keep = [
                    word
                    for word in entry.get("options") or []
                    if not word.startswith(("lowerdir=", "upperdir=", "workdir="))
                    and word not in ("bind", "rbind", "copy-symlink", "tmpcopyup")
                ]
                if not is_bind(entry):
                    keep = [word for word in keep if "=" not in word]
                entry["type"] = "bind"
                entry["source"] = self.sources_at[index]
                entry["options"] = ["rbind", *keep]
            entries.append(entry)
        spec["mounts"] = entries
        # The engine calls these itself, in the monitor.
        if spec.get("hooks"):
            spec["hooks"] = {
                key: value
                for key, value in spec["hooks"].items()
                if key not in ("poststart", "poststop")
            }
        linux = dict(spec.get("linux") or {})
        for name in ("uidMappings", "gidMappings", "resources", "cgroupsPath"):
            linux.pop(name, None)
        if self.runtime.name not in _WITHOUT_CGROUPS:
            own = own_cgroup()
            if own:
                # Below ours, whose limits hold for it; by itself runc takes one beside ours, out of them.
                linux["cgroupsPath"] = f"{own}/{self.runtime.identity}"
        # The network namespace is the stage's own, so to the runtime it is the host's, which may have no such values.
        linux["sysctl"] = {
            key: value
            for key, value in (linux.get("sysctl") or {}).items()
            if not is_network_sysctl(key)
        }
        namespaces = []
        for entry in linux.get("namespaces") or []:
            kind = entry["type"]
            if kind in self.forwarded:
                path = self.place_namespace(kind)
                namespaces.append({"type": kind, "path": path} if path else {"type": kind})
        linux["namespaces"] = namespaces
        if linux.get("devices"):
            # Every runtime makes these by itself.
            linux["devices"] = [
                entry
                for entry in linux["devices"]
                if entry["path"][:5] != "/dev/" or entry["path"][5:] not in devices.DEFAULT
            ]
        spec["linux"] = linux
        with open(f"{self.runtime.bundle}/config.json", "wb") as file:
            file.write(json.dumps(spec).encode())

    def place_namespace(self, kind: str) -> str:
        """The path of a namespace that the runtime is to join, empty where it makes one."""
        fd = self.forwarded[kind]
        if fd < 0:
            return ""
        # Bound, not named by descriptor: runc joins in a child that has none of ours.
        name = f"ns-{kind}"
        os.close(mounts.open_target(self.files, name, directory=False))
        path = f"{self.runtime.bundle}/fs/{name}"
        m.mount(f"/proc/self/fd/{fd}", path, None, m.MS_BIND)
        return path

    def call_create(self) -> tuple[int, int]:
        """`create`; init's pid and the terminal's master."""
        runtime = self.runtime
        if os.path.lexists(f"{runtime.folder}/state/{runtime.identity}"):
            runtime.call("delete", "--force", runtime.identity)  # of a run whose monitor was killed
        pid_file = f"{runtime.folder}/pid"
        words = ["create", "--bundle", runtime.bundle, "--pid-file", pid_file]
        if self.plan.preserve_fds:
            words += ["--preserve-fds", str(max(self.plan.preserve_fds) - 2)]
        keep = list(self.plan.preserve_fds)
        console = -1
        if self.process.get("terminal"):
            with Console(runtime.folder) as waiting:
                words += ["--console-socket", waiting.path]
                pid = runtime.run(*words, runtime.identity, keep=[*keep, waiting.folder])
                console = waiting.receive(pid)
        else:
            # None: the streams of `--log-driver passthrough`, which are this process's own.
            stdio = self.plan.stdio or (0, 1, 2)
            pid = runtime.run(*words, runtime.identity, stdio=stdio, keep=keep)
        if os.waitpid(pid, 0)[1]:
            raise runtime.failure("create")
        return read_pid(pid_file), console


def own_cgroup() -> str:
    """The calling process's cgroup on a host that has cgroup v2 alone; else empty."""
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return ""
    with open("/proc/self/cgroup") as file:
        for line in file:
            if line.startswith("0::/"):
                return line[3:].rstrip("\n")
    return ""


def is_network_sysctl(key: str) -> bool:
    return key.startswith(("net.", "net/"))


class Console:
    """The socket on which a runtime hands over a terminal's master (--console-socket).

    It is named by a descriptor of its folder, since unix(7) gives a path 108 bytes and a home may need more.
    """

    __slots__ = ("folder", "path", "_listener", "_name")

    def __init__(self, folder: str) -> None:
        self._name = f"tty-{os.getpid()}"
        self.folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.path = f"/proc/self/fd/{self.folder}/{self._name}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.bind(self.path)
        self._listener.listen(1)

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.close()
        try:
            os.unlink(self._name, dir_fd=self.folder)
        except OSError:
            pass
        os.close(self.folder)

    def receive(self, runtime: int) -> int:
        """The master; -1 where the process `runtime` has ended without one."""
        end = os.pidfd_open(runtime)
        poll = select.poll()
        poll.register(end, select.POLLIN)
        poll.register(self._listener.fileno(), select.POLLIN)
        try:
            if not any(fd == self._listener.fileno() for fd, _ in poll.poll()):
                return -1
            peer, _ = self._listener.accept()
            with peer:
                _, ancillary, _, _ = peer.recvmsg(4096, 64, socket.MSG_CMSG_CLOEXEC)
            fds = socket.descriptors(ancillary)
            for extra in fds[1:]:
                os.close(extra)
            return fds[0] if fds else -1
        finally:
            os.close(end)


def read_pid(path: str) -> int:
    with open(path, "rb") as file:
        return int(file.read())


class ExternalExecution:
    """A further process in a container of another runtime, in Execution's place."""

    __slots__ = (
        "runtime", "process", "stdio", "preserve_fds", "in_root", "pid", "console", "move",
    )  # fmt: skip

    def __init__(
        self,
        runtime: ExternalRuntime,
        process: dict[str, Any],
        *,
        stdio: tuple[int, int, int] | None,
        preserve_fds: Sequence[int] = (),
        in_root: Callable[[dict[str, Any]], object] | None = None,
        move: Callable[[], None] | None = None,
    ) -> None:
        self.move = (
            move  # puts the calling process, and what it starts, into the container's cgroup
        )
        self.runtime = runtime
        self.process = process
        self.stdio = stdio
        self.preserve_fds = preserve_fds
        self.in_root = in_root
        self.pid = 0
        self.console = -1

    def create(self, init: int, pidfd: int) -> None:
        """Run the process in the container whose init is `init`, held by `pidfd`; it runs when this returns."""
        adopt_orphans()
        try:
            flags = foreign_namespaces(init)
        except (FileNotFoundError, ProcessLookupError):
            raise InvalidState("the container has ended: container state improper") from None
        if self.in_root is not None:
            self.process = self._completed(pidfd, flags)
        ours, theirs = sync.Channel.pair()
        stage = os.fork()
        if stage == 0:
            try:
                ours.close()
                prctl.prctl(prctl.PR_SET_PDEATHSIG, signal.SIGKILL)
                if self.move is not None:
                    self.move()
                if flags & CLONE_NEWUSER:
                    setns(pidfd, CLONE_NEWUSER)
                    become_inside_root()
                self._call(theirs)
            except BaseException as error:
                theirs.send(sync.FAILED, sync.encode_failure("exec", error))
            finally:
                os._exit(0)
        theirs.close()
        try:
            while not self.pid:
                kind, data, fd = ours.receive()
                if kind == sync.CONSOLE:
                    self.console = fd
                elif kind == sync.CREATED:
                    self.pid = int(data)
                elif kind == sync.FAILED:
                    raise sync.decode_failure(data)
                else:
                    raise SetupError("exec: the runtime's caller ended early", stage="exec")
        finally:
            ours.close()
            os.waitpid(stage, 0)

    def take_console(self) -> None:
        """The terminal came with `create`."""

    def started(self) -> None:
        """It ran when `create` returned."""

    def _completed(self, pidfd: int, flags: int) -> dict[str, Any]:
        """The process document with what only the container's own files know."""
        ours, theirs = sync.Channel.pair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                prctl.prctl(prctl.PR_SET_DUMPABLE, 0)
                setns(pidfd, flags & (CLONE_NEWUSER | CLONE_NEWNS))
                forbid_imports()
                become_inside_root()
                assert self.in_root is not None
                self.in_root(self.process)
                theirs.send(sync.PREPARED, json.dumps(self.process).encode())
            except BaseException as error:
                theirs.send(sync.FAILED, sync.encode_failure("exec", error))
            finally:
                os._exit(0)
        theirs.close()
        try:
            data, _ = ours.expect(sync.PREPARED)
        finally:
            ours.close()
            os.waitpid(pid, 0)
        document: dict[str, Any] = json.loads(data)
        return document

    def _call(self, channel: sync.Channel) -> None:
        runtime = self.runtime
        base = f"{runtime.folder}/exec-{os.getpid()}"
        runtime.log = f"{base}.log"
        files = (f"{base}.json", f"{base}.pid", runtime.log)
        try:
            with open(files[0], "wb") as file:
                file.write(json.dumps(self.process).encode())
            words = ["exec", "--process", files[0], "--pid-file", files[1], "--detach"]
            if self.preserve_fds:
                words += ["--preserve-fds", str(max(self.preserve_fds) - 2)]
            console = -1
            if self.process.get("terminal"):
                with Console(runtime.folder) as waiting:
                    words += ["--console-socket", waiting.path]
                    pid = runtime.run(
                        *words, runtime.identity, keep=[*self.preserve_fds, waiting.folder]
                    )
                    console = waiting.receive(pid)
            else:
                pid = runtime.run(
                    *words, runtime.identity, stdio=self.stdio, keep=self.preserve_fds
                )
            if os.waitpid(pid, 0)[1]:
                raise runtime.failure("exec")
            if console >= 0:
                channel.send(sync.CONSOLE, fd=console)
            channel.send(sync.CREATED, str(read_pid(files[1])).encode())
        finally:
            for path in files:
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    continue
