"""exec: a further process in a running container, by this very command; only a terminal or `-d` needs a monitor.

Without a terminal the command itself is the process's parent and moves its streams: no descriptor of the user's gets
into the container. With one, or detached, a forked monitor owns the process, so that the user can leave it.
"""

from __future__ import annotations

import os
import select

from rootless import quickjson as json
from rootless.container import events
from rootless.container.inside import read_in_root, resolve_user
from rootless.container.status import PAUSED, RUNNING, check_access, status_of
from rootless.errors import InvalidState, RootlessError
from rootless.files import make_private_dir, read_bytes, write_json
from rootless.linux.process import open_pidfd, start_time
from rootless.runtime import attach
from rootless.runtime.attach import Link, Sink
from rootless.runtime.execute import Execution
from rootless.runtime.monitor import STDERR, STDOUT, Monitor, exit_code, leave_session
from rootless.runtime.sync import decode_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from rootless.container.engine import Engine
    from rootless.container.status import Status
    from rootless.runtime.external.execution import ExternalExecution


class ExecOptions:
    """What `exec` was asked for."""

    __slots__ = (
        "command", "env", "user", "cwd", "tty", "interactive", "privileged", "detach", "preserve_fds",
    )  # fmt: skip

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.env: dict[str, str] = {}
        self.user = ""
        self.cwd = ""
        self.tty = False
        self.interactive = False
        self.privileged = False
        self.detach = False
        self.preserve_fds: list[int] = []


def running(engine: Engine, identity: str) -> Status:
    """The status of a container that a process can be added to; InvalidState for any other."""
    status = status_of(engine, identity)
    if status.word == PAUSED:
        raise InvalidState(f"container {status.name} is paused: unpause it first")
    if status.word != RUNNING:
        raise InvalidState(
            "can only create exec sessions on running containers: container state improper"
        )
    return status


def process_document(spec: dict[str, Any], options: ExecOptions) -> dict[str, Any]:
    """The process of an exec: the container's own, with what was asked for in its place."""
    process: dict[str, Any] = dict(spec["process"])
    process["args"] = options.command
    process["terminal"] = options.tty
    process.pop("consoleSize", None)
    if options.tty:
        from rootless.runtime.terminal import get_size

        size = get_size(0)
        if size:
            process["consoleSize"] = {"height": size[0], "width": size[1]}
    user = dict(process["user"])
    if options.user:
        user = {"uid": 0, "gid": 0, "umask": user.get("umask", 0o022), "username": options.user}
    process["user"] = user
    variables = dict(entry.partition("=")[::2] for entry in process.get("env") or [])
    if options.user:
        variables.pop("HOME", None)
    if options.tty:
        variables.setdefault("TERM", "xterm")
    variables.update(options.env)
    process["env"] = [f"{name}={value}" for name, value in variables.items()]
    if options.cwd:
        process["cwd"] = options.cwd
    sets = dict(process.get("capabilities") or {})
    if options.privileged:
        from rootless.runtime.capabilities import known

        everything = known()
        sets = {"bounding": everything, "effective": everything, "permitted": everything}
    else:
        held = sets.get("bounding") or []
        sets = {**sets, "effective": list(held), "permitted": list(held)}
    process["capabilities"] = sets
    return process


class Exec:
    """One exec session."""

    __slots__ = ("engine", "status", "options", "execution", "identity", "folder")

    def __init__(self, engine: Engine, identity: str, options: ExecOptions) -> None:
        self.engine = engine
        self.status = running(engine, identity)
        self.options = options
        self.identity = os.urandom(32).hex()
        self.folder = f"{engine.containers.run_folder(identity)}/exec"
        spec = json.loads(read_bytes(f"{engine.containers.path(identity)}/config.json"))
        record_options = self.status.record["options"]
        groups: list[str] = record_options.get("group_add") or []

        def complete(process: dict[str, Any]) -> None:
            try:
                resolve_user(
                    process,
                    groups,
                    read_in_root("/etc/passwd"),
                    read_in_root("/etc/group"),
                    keep_groups=bool(record_options.get("keep_groups")),
                )
            except RootlessError as error:
                # As Podman's; its `run` says 126.
                error.exit_code = 125 if options.detach else 255
                raise

        process = process_document(spec, options)
        self.execution: Execution | ExternalExecution
        if self.status.record.get("runtime"):
            from rootless.container.runtimes import external
            from rootless.runtime.external.execution import ExternalExecution

            runtime = external(engine, self.status.record)
            assert runtime is not None
            self.execution = ExternalExecution(
                runtime,
                process,
                stdio=None,
                preserve_fds=options.preserve_fds,
                in_root=complete,
                move=self._mover(),
            )
        else:
            self.execution = Execution(
                spec,
                process,
                stdio=None,
                preserve_fds=options.preserve_fds,
                in_root=complete,
                cache=engine.paths.cache,
                move=self._mover(),
            )

    def _mover(self) -> Any:
        live = self.status.live or {}
        path = live.get("cgroup")
        if not path:
            return None

        from rootless.runtime.cgroup import Cgroup

        group, init = Cgroup(path, live.get("scope", "")), live["init"][0]
        return lambda: group.add(os.getpid(), init)

    def _create(self) -> None:
        live = self.status.live
        assert live is not None
        check_access(self.status)
        pid, started = live["init"]
        try:
            pidfd = open_pidfd(pid, started)
        except ProcessLookupError:
            raise InvalidState("the container has ended: container state improper") from None
        try:
            self.execution.create(pid, pidfd)
        finally:
            os.close(pidfd)

    def _record(self, pid: int) -> None:
        make_private_dir(self.folder)
        write_json(
            f"{self.folder}/{self.identity}.json",
            {
                "pid": [pid, start_time(pid)],
                "command": self.options.command,
                "tty": self.options.tty,
            },
        )

    def _forget(self) -> None:
        try:
            os.unlink(f"{self.folder}/{self.identity}.json")
        except OSError:
            pass

    # in this process

    def run(self) -> int:
        """Run it with this command's streams; its exit code."""
        monitor = Monitor(listener=None, log=None, wants_stdin=self.options.interactive)
        ends = monitor.make_stdio()
        self.execution.stdio = ends
        try:
            self._create()
        finally:
            monitor.stdin_read = -1
            for fd in ends:
                os.close(fd)
        ours, theirs = Link.pair()
        client = monitor.add_client(theirs)
        monitor.begin(self.execution.pid)
        client.sinks = {STDOUT: Sink(os.dup(1)), STDERR: Sink(os.dup(2))}
        self.execution.started()
        monitor.watch(ours.fileno(), select.POLLIN, lambda _: _fail(ours))
        if self.options.interactive:
            _feed(monitor)
        events.container_event(self.engine, self.status.record, "exec")
        code = exit_code(monitor.serve())
        if client.gone:
            _fail(ours)  # with what was read after the end
        ours.close()
        return code

    # in a monitor

    def fork(self) -> Link:
        """Run it below a monitor of its own; the link to that one."""
        ours, theirs = Link.pair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                self._supervise(theirs)
            finally:
                os._exit(1)
        theirs.close()
        return ours

    def _supervise(self, link: Link) -> NoReturn:
        monitor = Monitor(listener=None, log=None, wants_stdin=self.options.interactive)
        first = monitor.add_client(link)
        try:
            ends = None
            if not self.options.tty:
                ends = monitor.make_stdio()
                self.execution.stdio = ends
            leave_session(keep=self.options.preserve_fds)
            self._create()
            if ends is not None:
                monitor.stdin_read = -1
                for fd in ends:
                    os.close(fd)
            if self.options.tty:
                self.execution.take_console()
                monitor.take_terminal(self.execution.console)
            monitor.begin(self.execution.pid)
            if not self.options.detach:
                while not (first.attached or first.gone):
                    monitor.hear(first)
            self.execution.started()
            self._record(self.execution.pid)
            monitor.forward_signals()
            monitor.tell(
                attach.RUNNING, b"" if self.options.detach else str(self.execution.pid).encode()
            )
            code = exit_code(monitor.serve())
            self._forget()
            events.container_event(
                self.engine, self.status.record, "exec_died", ContainerExitCode=code
            )
            monitor.tell(attach.EXITED, str(code).encode())
        except BaseException as error:
            monitor.tell_failure(error)
        finally:
            os._exit(0)


def _fail(link: Link) -> NoReturn:
    """Raise what the monitor has told its client: that what the process writes is lost."""
    failure = decode_failure(link.receive()[1])
    failure.exit_code = 255  # Podman's
    raise failure


def _feed(monitor: Monitor) -> None:
    """Move this command's input to the process, until one of them ends."""
    try:
        os.fstat(0)
    except OSError:
        monitor.end_input()
        return

    def copy(fd: int) -> None:
        try:
            try:
                moved = os.splice(0, monitor.stdin_write, 1 << 20, flags=os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                # The pipe is full: wait for its reader, not for our input, which is there.
                monitor.unwatch(0)
                monitor.watch(monitor.stdin_write, select.POLLOUT, resume)
                return
            except BrokenPipeError:
                moved = 0
            except OSError:
                data = os.read(0, 65536)
                moved = len(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(monitor.stdin_write, view) :]
        except (BrokenPipeError, OSError):
            moved = 0
        if not moved:
            monitor.unwatch(0)
            monitor.end_input()

    def resume(fd: int) -> None:
        monitor.unwatch(fd)
        monitor.watch(0, select.POLLIN, copy)

    monitor.watch(0, select.POLLIN, copy)
