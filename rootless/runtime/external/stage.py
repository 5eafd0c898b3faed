"""The first half of a start through another runtime: what that could not do for an ordinary user, and its document."""

from __future__ import annotations

import os

from rootless import quickjson as json
from rootless.errors import SetupError
from rootless.linux import fs, libc, prctl, signal
from rootless.linux import mount as m
from rootless.linux.sched import CLONE_NEWNS, unshare
from rootless.linux.userns import become_root
from rootless.runtime import devices, mounts, sync
from rootless.runtime.external.child import in_child
from rootless.runtime.init import Init, is_bind, loopback_up
from rootless.runtime.process import forbid_imports, reset_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.runtime.external.program import ExternalRuntime
    from rootless.runtime.process import Plan

# What it makes; all other namespaces are the runtime's to make or to join.
STAGED = ("user", "network")


class Stage(Init):
    """What lies between our monitor and the other runtime; see the picture in launch.py."""

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

        def act() -> bytes:
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
            return json.dumps(self.process).encode()

        self.process = json.loads(in_child(act, lambda: self.stage))

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
        if not self.runtime.leaves_cgroups:
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
        return runtime.make(
            "create",
            "--bundle",
            runtime.bundle,
            terminal=bool(self.process.get("terminal")),
            stdio=self.plan.stdio,  # None: as they are, for `--log-driver passthrough`
            passed=self.plan.preserve_fds,
        )


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
