"""The other runtime as a program: its command line, what it says when it fails, and how it hands over a terminal."""

from __future__ import annotations

import fcntl
import os
import select

from rootless import quickjson as json
from rootless.errors import CommandNotExecutable, CommandNotFound, RootlessError, SetupError
from rootless.files import make_private_dir
from rootless.linux import fs, prctl
from rootless.linux import sockets as socket
from rootless.linux.sched import CLONE_NEWUSER, setns
from rootless.runtime.external.child import in_child
from rootless.runtime.process import become_inside_root, move_stdio, reset_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


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
    def leaves_cgroups(self) -> bool:
        """Whether it does so when it is told to; the others do where they may not write there."""
        return self.name in ("crun", "krun", "crun-wasm", "rootless-oci")

    @property
    def bundle(self) -> str:
        return f"{self.folder}/bundle"

    def words(self, *command: str) -> list[str]:
        """The command line; its log goes to a file of ours, so that an error has words."""
        words = [self.program, *self.flags, "--root", f"{self.folder}/state"]
        words += ["--log", self.log, "--log-format", "json"]
        if self.leaves_cgroups:
            words += ["--cgroup-manager", "disabled"]
        return [*words, *command]

    def run(
        self,
        *command: str,
        stdio: tuple[int, int, int] | None = None,
        passed: Sequence[int] = (),
        folder: int = -1,
    ) -> int:
        """Start the runtime as a child of the calling process; its pid.

        `passed` are descriptors for the container's process, `folder` is one for the runtime, above all of them.
        """
        words = self.words(*command)
        pid = os.fork()
        if pid:
            return pid
        try:
            reset_signals()
            above = first_above(passed)
            null = fcntl.fcntl(os.open("/dev/null", os.O_RDWR), fcntl.F_DUPFD_CLOEXEC, above)
            move_stdio(stdio or (null, null, null))
            fs.close_range(3, flags=4)  # CLOSE_RANGE_CLOEXEC
            for fd in range(3, above):
                if fd in passed:
                    os.set_inheritable(fd, True)
                else:
                    # The runtime passes on all up to the last: what it opens itself shall not be there.
                    os.dup2(null, fd)
            if folder >= 0:
                os.set_inheritable(folder, True)
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

    def make(
        self,
        *command: str,
        terminal: bool,
        stdio: tuple[int, int, int] | None,
        passed: Sequence[int],
    ) -> tuple[int, int]:
        """`create` or `exec`, to its end: the pid of the process that it made, and its terminal's master or -1.

        `stdio` None is the calling process's own. `passed` are the descriptors that the process inherits.
        """
        pid_file = f"{self.folder}/pid-{os.getpid()}"
        words = [*command, "--pid-file", pid_file]
        above = first_above(passed)
        if passed:
            words += ["--preserve-fds", str(above - 3)]
        console = -1
        try:
            if terminal:
                with Console(self.folder, above) as waiting:
                    words += ["--console-socket", waiting.path, self.identity]
                    pid = self.run(*words, passed=passed, folder=waiting.folder)
                    console = waiting.receive(pid)
            else:
                pid = self.run(*words, self.identity, stdio=stdio or (0, 1, 2), passed=passed)
            if os.waitpid(pid, 0)[1]:
                raise self.failure(command[0])
            with open(pid_file, "rb") as file:
                return int(file.read()), console
        finally:
            try:
                os.unlink(pid_file)
            except FileNotFoundError:
                pass

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

    def forget(self, userns: int) -> None:
        """Delete the container, whatever it is at, as root of the user namespace that it was made in."""

        def act() -> bytes:
            setns(userns, CLONE_NEWUSER)
            become_inside_root()
            self.call("delete", "--force", self.identity)
            return b""

        in_child(act, lambda: "runtime")


def first_above(passed: Sequence[int]) -> int:
    """The first descriptor behind standard streams and all that are passed on."""
    return max(passed, default=2) + 1


class Console:
    """The socket on which a runtime hands over a terminal's master (--console-socket).

    It is named by a descriptor of its folder, since unix(7) gives a path 108 bytes and a home may need more.
    """

    __slots__ = ("folder", "path", "_listener", "_name")

    def __init__(self, folder: str, above: int) -> None:
        """`above`: the least number for the folder's descriptor."""
        self._name = f"tty-{os.getpid()}"
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.folder = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above)
        os.close(fd)
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


def adopt_orphans() -> None:
    """What a runtime leaves running becomes the calling process's child (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1)
