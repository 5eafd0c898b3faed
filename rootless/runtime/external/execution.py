"""A further process in a container of another runtime: its `exec`, called with our streams and our cgroup."""

from __future__ import annotations

import os

from rootless import quickjson as json
from rootless.errors import InvalidState, SetupError
from rootless.linux import prctl, signal
from rootless.linux.sched import CLONE_NEWNS, CLONE_NEWUSER, setns
from rootless.runtime import sync
from rootless.runtime.external.child import in_child
from rootless.runtime.external.program import adopt_orphans
from rootless.runtime.namespaces import foreign_namespaces
from rootless.runtime.process import become_inside_root, forbid_imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rootless.runtime.external.program import ExternalRuntime


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
        self.move = move  # puts the calling process, and all that it starts, into the cgroup
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

        def act() -> bytes:
            prctl.prctl(prctl.PR_SET_DUMPABLE, 0)
            setns(pidfd, flags & (CLONE_NEWUSER | CLONE_NEWNS))
            forbid_imports()
            become_inside_root()
            assert self.in_root is not None
            self.in_root(self.process)
            return json.dumps(self.process).encode()

        document: dict[str, Any] = json.loads(in_child(act, lambda: "exec"))
        return document

    def _call(self, channel: sync.Channel) -> None:
        runtime = self.runtime
        base = f"{runtime.folder}/exec-{os.getpid()}"
        runtime.log = f"{base}.log"
        document = f"{base}.json"
        try:
            with open(document, "wb") as file:
                file.write(json.dumps(self.process).encode())
            pid, console = runtime.make(
                "exec",
                "--process",
                document,
                "--detach",
                terminal=bool(self.process.get("terminal")),
                stdio=self.stdio,
                passed=self.preserve_fds,
            )
            if console >= 0:
                channel.send(sync.CONSOLE, fd=console)
            channel.send(sync.CREATED, str(pid).encode())
        finally:
            for path in (document, runtime.log):
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    continue
