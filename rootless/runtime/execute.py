"""A further process in a running container: one setns on a pidfd, then the same last steps as init's.

caller                      stage (forked)                        the process (forked by it)
pipes or terminal
fork ─────────────────────► not dumpable; cgroup; setns(pidfd)
                            root and folder of the container
                            clone(CLONE_PARENT) ────────────────► user, limits, ids, capabilities, filter
      ◄── CREATED pid ─────                                       execve
      ◄── end of file: it runs, or FAILED
"""

from __future__ import annotations

import os

from rootless.errors import InvalidState, SetupError
from rootless.linux import fs, signal
from rootless.linux.prctl import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl
from rootless.linux.sched import (
    CLONE_PARENT,
    clone,
    setns,
)
from rootless.runtime import seccomp, sync
from rootless.runtime.namespaces import foreign_namespaces
from rootless.runtime.priority import set_affinity
from rootless.runtime.process import (
    Plan,
    become_inside_root,
    enter_process,
    finish,
    forbid_imports,
    give_listener,
    preload,
    reset_signals,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class Execution:
    """One exec: `spec` is the container's config.json, whose filter and labels hold for it, too."""

    __slots__ = (
        "spec",
        "process",
        "stdio",
        "preserve_fds",
        "in_root",
        "cache",
        "pid",
        "console",
        "move",
        "identity",
        "bundle",
        "plain_newlines",
        "listener",
        "_early_listener",
        "_channel",
    )

    def __init__(
        self,
        spec: dict[str, Any],
        process: dict[str, Any],
        *,
        stdio: tuple[int, int, int] | None,
        preserve_fds: Sequence[int] = (),
        in_root: Callable[[dict[str, Any]], object] | None = None,
        cache: str = "",
        move: Callable[[], None] | None = None,
        identity: str = "",
        bundle: str = "",
        plain_newlines: bool = False,
    ) -> None:
        self.spec = spec
        self.process = process
        self.stdio = stdio
        self.preserve_fds = preserve_fds
        self.in_root = in_root
        self.cache = cache
        self.move = move  # puts the calling process into the container's cgroup
        self.identity = identity
        self.bundle = bundle
        self.plain_newlines = plain_newlines  # its terminal is no screen's
        self.pid = 0
        self.console = -1
        self.listener: seccomp.Listener | None = None
        self._early_listener = -1
        self._channel: sync.Channel | None = None

    def create(self, init: int, pidfd: int) -> None:
        """Fork the process into the namespaces of `init`, held by `pidfd`; with a terminal, take its master.

        Raises InvalidState where the container has ended meanwhile.
        """
        section = (self.spec.get("linux") or {}).get("seccomp")
        preload({"seccomp": section}, self.process)
        if section and section.get("listenerPath"):
            self.listener = seccomp.Listener()
        plan = Plan(
            self.spec,
            None,
            None,
            stdio=self.stdio,
            preserve_fds=self.preserve_fds,
            filter=seccomp.compile(section, self.cache) if section else None,
            filter_flags=seccomp.load_flags(section) if section else 0,
            listener=self.listener,
            die_with_parent=False,
        )
        try:
            flags = foreign_namespaces(init)
        except (FileNotFoundError, ProcessLookupError):
            raise InvalidState("the container has ended: container state improper") from None
        ours, theirs = sync.Channel.pair()
        stage = os.fork()
        if stage == 0:
            ours.close()
            self._stage(plan, theirs, pidfd, flags)
        theirs.close()
        self._channel = ours
        try:
            while not self.pid:
                kind, data, fd = ours.receive()
                if kind == sync.CREATED:
                    self.pid = int(data)
                elif kind == sync.CONSOLE:
                    self.console = fd
                elif kind == sync.LISTENER:
                    self._early_listener = fd  # the process was faster than the one that made it
                elif kind == sync.FAILED:
                    raise sync.decode_failure(data)
                else:
                    raise SetupError("exec: the process ended before it was ready", stage="exec")
        finally:
            os.waitpid(stage, 0)

    def take_console(self) -> None:
        """Wait for the terminal's master, where it has not come with `create`."""
        assert self._channel is not None
        while self.console < 0:
            kind, data, fd = self._channel.receive()
            if kind == sync.CONSOLE:
                self.console = fd
            elif kind == sync.FAILED:
                os.waitpid(self.pid, 0)
                raise sync.decode_failure(data)
            else:
                raise SetupError("exec: the process ended before it had its terminal", stage="exec")

    def started(self) -> None:
        """Wait until the program runs; raises CommandNotFound and its kin."""
        assert self._channel is not None
        if self.process.get("terminal") and self.console < 0:
            self.take_console()
        told = (self.spec, self.identity, self.bundle, "running", self.pid)
        try:
            if self._early_listener >= 0:
                give_listener(self._early_listener, *told)
            failure = finish(self._channel, *told)
        except SetupError:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise
        finally:
            self._channel.close()
            self._channel = None
        if failure:
            os.waitpid(self.pid, 0)
            raise sync.decode_failure(failure)

    def _stage(self, plan: Plan, channel: sync.Channel, pidfd: int, flags: int) -> None:
        status = 1
        stage = "exec"
        try:
            # A process of the container may not trace us nor reach our descriptors (security case 3).
            prctl(PR_SET_DUMPABLE, 0)
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            reset_signals()
            affinity = self.process.get("execCPUAffinity") or {}
            if affinity.get("initial"):
                set_affinity(affinity["initial"])
            if self.move is not None:
                self.move()
            if affinity.get("final"):
                set_affinity(affinity["final"])
            oom = self.process.get("oomScoreAdj")
            if oom is not None:
                with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
                    file.write(str(oom).encode())
            stage = "namespaces"
            setns(pidfd, flags)  # the mount namespace takes its root and folder along
            forbid_imports()
            pid = clone(CLONE_PARENT)
            if pid == 0:
                self._process(plan, channel)
            channel.send(sync.CREATED, str(pid).encode())
            status = 0
        except BaseException as error:
            channel.send(sync.FAILED, sync.encode_failure(stage, error))
        finally:
            os._exit(status)

    def _process(self, plan: Plan, channel: sync.Channel) -> None:
        slave = -1
        try:
            prctl(PR_SET_PDEATHSIG, 0)
            os.setsid()
            become_inside_root(keep_groups=plan.keep_groups)
            if self.in_root is not None:
                self.in_root(self.process)
            if self.process.get("terminal"):
                from rootless.runtime import terminal  # loaded by `create`

                devpts = fs.open_in_root(-100, "/dev/pts", os.O_RDONLY | os.O_DIRECTORY)
                master, slave = terminal.open_pty(devpts)
                os.close(devpts)
                size = self.process.get("consoleSize")
                if size:
                    terminal.set_size(master, size["height"], size["width"])
                if self.plain_newlines:
                    terminal.plain_newlines(master)
                channel.send(sync.CONSOLE, fd=master)
                os.close(master)
            enter_process(self.process, plan, channel, slave=slave)
        except BaseException as error:
            try:
                channel.send(sync.FAILED, sync.encode_failure("exec", error))
            except BaseException:
                pass
        finally:
            os._exit(1)
