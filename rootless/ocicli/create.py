"""create: a container whose init has made everything and waits at its gate; and what `run` shares with it."""

from __future__ import annotations

import os

from rootless import log
from rootless.errors import RootlessError, Usage
from rootless.files import write_atomic
from rootless.linux import sockets
from rootless.ocicli import records
from rootless.ocicli.bundle import Bundle
from rootless.ocicli.inside import complete_process
from rootless.runtime.launch import Launch
from rootless.runtime.rootfs import DirectoryRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.ocicli.commandline import Given
    from rootless.runtime import cgroup_plan


def run(settings: Given, given: Given) -> int:
    """The command."""
    make = Creation(settings, given, leaves=True, can_wait=True)
    make.finish(make.create(gate=True).pid)
    from rootless.ocicli import leftovers

    leftovers.sweep(os.path.dirname(make.record.folder), but=make.record.identity)
    return 0


class Creation:
    """One create, from the command line to a container that waits for its start."""

    __slots__ = (
        "settings", "given", "bundle", "record", "launch", "plan", "terminal", "spec", "leaves", "can_wait",
    )  # fmt: skip

    def __init__(
        self, settings: Given, given: Given, *, leaves: bool, can_wait: bool = False
    ) -> None:
        """`leaves` the container to itself; `can_wait` with a start that may never come: of `create`."""
        self.settings = settings
        self.given = given
        self.leaves = leaves
        identity = given.words[0]
        self.record = records.Record(records.find_root(settings), identity)
        self.bundle = Bundle(given.text("bundle"), given.text("config"), self._look_first)
        self.bundle.complete()
        self.spec = self.bundle.spec
        self.terminal = bool((self.spec.get("process") or {}).get("terminal"))
        self.launch: Launch | None = None
        self.plan: cgroup_plan.Plan | None = None
        self.can_wait = can_wait
        self._check()

    def _look_first(self, document: Any) -> None:
        """What the command line lacks is told before what is wrong with the document."""
        process = document.get("process") if isinstance(document, dict) else None
        terminal = isinstance(process, dict) and process.get("terminal") is True
        if terminal and self.leaves and not self.given.text("console-socket"):
            raise Usage(
                "cannot allocate a terminal without somebody to take it: use --console-socket"
            )

    def _check(self) -> None:
        process = self.spec.get("process")
        # config.md wants a process only where `start` is called, which then is what fails.
        if not (process or {}).get("args") and (process is not None or not self.can_wait):
            raise RootlessError("process.args: is missing")
        if process and not process["args"][0]:
            raise RootlessError("process.args[0]: is empty")
        if self.given.text("console-socket") and not self.terminal:
            raise Usage("--console-socket is for a container with process.terminal")

    def create(self, *, gate: bool, meanwhile: Callable[[int], None] | None = None) -> Launch:
        """Make the container; on any failure nothing of it is left.

        `meanwhile` is called with the pid of init while that makes the root, before anybody sees the record.
        """
        self.record.take()
        try:
            return self._create(gate, meanwhile)
        except BaseException:
            if self.launch is not None:
                self.launch.abort()
            if self.plan is not None and self.plan.cgroup is not None:
                self.plan.cgroup.remove()
            self.record.remove()
            raise

    def _create(self, gate: bool, meanwhile: Callable[[int], None] | None) -> Launch:
        spec = self.spec
        if "NOTIFY_SOCKET" in os.environ:
            from rootless.ocicli import notify

            notify.prepare(self.record, spec)
        pass_listeners(spec)
        listening = listen(self.record.folder) if gate else None
        self.launch = launch = Launch(
            spec,
            DirectoryRoot(self.bundle.rootfs),
            stdio=None if self.terminal else (0, 1, 2),
            preserve_fds=preserved(self.given),
            in_root=complete_process,
            cache=f"{os.path.dirname(self.record.folder)}/.cache",
            die_with_parent=False,
            identity=self.record.identity,
            bundle=self.bundle.path,
            gate=listening,
            no_pivot=self.given.switch("no-pivot"),
            deep_read_only=False,  # to the specification `ro` is of the mount itself, `rro` of all
            keyring="" if self.given.switch("no-new-keyring") else f"_ses.{self.record.identity}",
        )
        launch.create()
        # What follows is done while init is at work: it opens what it needs of the host, and then makes the root.
        if self._asks_for_cgroup():
            self.plan = plan_cgroup(self.settings, self.record.identity, spec)
            self.plan.enter(launch.pid)
        launch.mapped()
        log.debug(f"container {self.record.identity}: init is process {launch.pid}")
        self.record.set_init(launch.pid)
        if meanwhile is not None:
            meanwhile(launch.pid)
        self.record.write_config(self.bundle.text)
        # Hooks are to see it, and delete is to find whom to end if we are killed.
        self.write(is_ready=False)
        launch.prepared()
        log.debug(f"container {self.record.identity}: its root is made")
        if listening is not None:
            listening.close()
        if self.terminal and self.given.text("console-socket"):
            send_console(self.given.text("console-socket"), launch.console)
            os.close(launch.console)
            launch.console = -1
        self.record.set_created()
        return launch

    def _asks_for_cgroup(self) -> bool:
        """Whether there is one to be had, or anything that needs one: else that room is not even loaded."""
        resources = (self.spec.get("linux") or {}).get("resources") or {}
        return (
            os.access("/sys/fs/cgroup/cgroup.controllers", os.F_OK)
            or any(value for key, value in resources.items() if key != "devices")
            or self.settings.text("rootless") == "false"
            or self.settings.switch("debug")
        )

    def write(self, *, is_ready: bool = True) -> None:
        """Write the record of a container whose init is there."""
        group = self.plan.cgroup if self.plan is not None else None
        data = self.record.data
        data.update(
            ociVersion=self.spec["ociVersion"],
            bundle=self.bundle.path,
            rootfs=self.bundle.rootfs,
            created=records.timestamp(),
            owner=os.getuid(),
            annotations=self.spec.get("annotations") or {},
            cgroup=group.path if group is not None else "",
            unit=group.unit if group is not None else "",
        )
        if is_ready:
            self.record.write()
        else:
            self.record.write_creating()

    def finish(self, pid: int) -> None:
        """Tell the caller who init is."""
        receiver = (self.spec.get("annotations") or {}).get("run.oci.pidfd_receiver", "")
        for path in filter(None, (self.given.text("pidfd-socket"), receiver)):
            send_pidfd(path, pid)
        path = self.given.text("pid-file")
        if path:
            write_atomic(path, str(pid).encode(), 0o644)


def listen(folder: str) -> sockets.socket:
    """The gate: a socket in the container's folder, reached through a descriptor since sun_path holds 107 bytes."""
    gate = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        gate.bind(f"/proc/self/fd/{fd}/start")
        gate.listen(1)
    finally:
        os.close(fd)
    return gate


def send_console(path: str, master: int) -> None:
    """Give the terminal's master to whoever listens at --console-socket, with its name as the message."""
    send_descriptor("--console-socket", path, master, b"/dev/ptmx")


def send_pidfd(path: str, pid: int) -> None:
    """Give a pidfd of the process to whoever listens there, for signals that cannot meet another one."""
    fd = os.pidfd_open(pid)
    try:
        send_descriptor("--pidfd-socket", path, fd, b"pidfd")
    finally:
        os.close(fd)


def send_descriptor(what: str, path: str, fd: int, message: bytes) -> None:
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM | sockets.SOCK_CLOEXEC) as end:
        try:
            folder = os.open(
                os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            )
            try:
                end.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
            finally:
                os.close(folder)
            end.sendmsg([message], sockets.rights((fd,)))
        except OSError as error:
            raise RootlessError(
                f"{what} {path}: {os.strerror(error.errno or 0).lower()}"
            ) from error


def preserved(given: Given) -> list[int]:
    """The descriptors after standard error that the program inherits: --preserve-fds, and systemd's LISTEN_FDS."""
    count = given.number("preserve-fds")
    if count < 0:
        raise Usage(f"--preserve-fds {count}: is no number of descriptors")
    if count and not any(is_inherited(fd) for fd in range(3, 3 + count)):
        raise RootlessError(f"--preserve-fds {count}: preserved-fd 0: descriptor 3 is not open")
    count += listen_fds()
    return [fd for fd in range(3, 3 + count) if is_inherited(fd)]


def is_inherited(fd: int) -> bool:
    """Whether a descriptor is the caller's: those of ours close on exec."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def pass_listeners(spec: dict[str, Any]) -> None:
    """Tell the program of descriptors that systemd has passed: it is pid 1 of its namespace, and they are its."""
    if listen_fds() and spec.get("process"):
        process = spec["process"] = dict(spec["process"])
        process["env"] = [
            *(process.get("env") or []),
            f"LISTEN_FDS={listen_fds()}",
            "LISTEN_PID=1",
        ]


def listen_fds() -> int:
    """How many descriptors systemd's socket activation has passed (sd_listen_fds(3))."""
    text = os.environ.get("LISTEN_FDS", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _of_field(resources: dict[str, Any], reason: str, hint: str) -> RootlessError:
    """An error about limits for who has written a document and no command line, in the words that runc has for it."""
    name = next(key for key, value in resources.items() if value and key != "devices")
    word = {"blockIO": "io", "hugepageLimits": "hugetlb"}.get(name, name)
    return RootlessError(
        f"linux.resources.{name}: cannot set {word} limit: "
        f"container could not join or create cgroup: {reason}",
        hint=hint,
    )


def plan_cgroup(settings: Given, identity: str, spec: dict[str, Any]) -> cgroup_plan.Plan:
    """Where the container's cgroup will be, as config.json and the global options want it."""
    from rootless.runtime import cgroup_plan

    linux = spec.get("linux") or {}
    resources = linux.get("resources") or {}
    if resources.get("unified") and cgroup_plan.detect().version == 1:
        raise RootlessError(
            "invalid configuration: linux.resources.unified: this host has cgroups of version 1"
        )
    manager = settings.text("cgroup-manager")
    if settings.switch("systemd-cgroup"):
        manager = "systemd"
    try:
        plan = cgroup_plan.plan(
            identity,
            resources,
            mode="disabled" if manager == "disabled" else "no-monitor",
            manager="" if manager == "disabled" else manager,
            cgroups_path=linux.get("cgroupsPath") or "",
        )
    except RootlessError as error:
        reason = cgroup_plan.detect().reason
        raise _of_field(resources, reason, error.hint) if reason else error from None
    if plan.reason and manager != "disabled":
        if settings.text("rootless") == "false":
            raise RootlessError(f"--rootless=false: there can be no cgroup: {plan.reason}")
        log.debug(f"container {identity}: no cgroup: {plan.reason}")
    return plan
