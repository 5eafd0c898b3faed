"""Start a network helper that never outlives the process it serves, and wait until it is ready without sleeping.

Every helper gets a *lifeline*: its standard input is a pipe whose other end only we hold. The pipe asks the kernel for
SIGKILL to the helper when that end goes (fcntl(2), F_SETSIG), so that `kill -9` of us frees its ports at once. Neither
PR_SET_PDEATHSIG, which a change of credentials clears, nor the helpers' own watch over a namespace, which pasta of
2023 does not keep for paths in /proc, does that. A helper therefore stays in the foreground.

    us                              helper
    fork ────────────────────────►  lifeline armed, exec
         ◄── the word of success ─  set up
         ◄── end of file, exit ───  failed; its last words are the reason

The child joins the user namespace before it becomes the helper, as its root. So the helper needs no way to find that
namespace (which the kernel does not show to every caller: ptrace(2), access mode checking), works the same for root,
who would otherwise have to run it with rights on the host, and holds nothing of ours but three descriptors, since
recent versions of pasta keep no more: 0 the lifeline, 1 the network namespace, 2 its words. With `more` the namespace
is 3 and its words are 4 as well, for slirp4netns closes the descriptor on which it reports to be ready.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from rootless.errors import SetupError
from rootless.linux import signal
from rootless.linux.prctl import keep_capabilities
from rootless.linux.sched import CLONE_NEWUSER, setns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# From <fcntl.h>; the fcntl module does not name it.
_F_SETSIG = 10

TRUSTED_DIRS = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin")
READY_TIMEOUT_S = 20.0

# A helper sees nothing of the user's environment (security cases 48, 51).
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def find_program(name: str, dirs: Sequence[str] = ()) -> str | None:
    """The absolute path of a helper in a folder that only root, or the user, can have filled (security case 51)."""
    if name.startswith("/"):
        return name if _is_trusted(name) else None
    for folder in (*dirs, *TRUSTED_DIRS):
        path = f"{folder}/{name}"
        if _is_trusted(path):
            return path
    return None


def once(path: str, cache: str | None, probe: Callable[[], str]) -> str:
    """What `probe` finds out about a program, kept in the folder `cache` until another file takes its place."""
    status = os.stat(path)
    stamp = f"{path} {status.st_mtime_ns} {status.st_size}"
    kept = f"{cache}/{os.path.basename(path)}"
    if cache is not None:
        try:
            with open(kept) as file:
                known, _, found = file.read().partition("\n")
            if known == stamp:
                return found
        except OSError:
            pass
    found = probe()
    if cache is not None:
        temporary = f"{kept}.{os.getpid()}.tmp"
        try:
            with open(temporary, "x") as file:
                file.write(f"{stamp}\n{found}")
            os.rename(temporary, kept)
        except OSError:
            pass  # a cache that cannot be written costs time only
    return found


def said_by(argv: list[str]) -> str:
    """What a program prints: without a terminal pasta of 2023 prints its help on standard error."""
    reads, writes = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            argv[0],
            argv,
            {"PATH": "/usr/bin:/bin"},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, writes, 1),
                (os.POSIX_SPAWN_DUP2, writes, 2),
            ],
            setsigdef=[signal.SIGPIPE],
        )
        os.close(writes)
        writes = -1
        text = b""
        while chunk := os.read(reads, 65536):
            text += chunk
        os.waitpid(pid, 0)
    finally:
        for fd in (reads, writes, null):
            if fd >= 0:
                os.close(fd)
    return text.decode(errors="replace")


def _is_trusted(path: str) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    # A regular file that may be executed and that no third user can write to. Inside a user namespace host root shows
    # as the overflow uid.
    return (
        status.st_mode & 0o170111 > 0o100000
        and not status.st_mode & 0o002
        and status.st_uid in (0, os.geteuid(), 65534)
    )


class Pending:
    """A helper on its way; `fileno()` becomes readable when `wait_ready` has something to do."""

    __slots__ = ("driver", "pid", "pidfd", "argv", "_words", "_lifeline", "_is_ready", "_on_ready")

    def __init__(
        self,
        driver: str,
        argv: Sequence[str],
        netns: int,
        userns: int,
        is_ready: Callable[[int, bytes], bool],
        *,
        more: bool = False,
        folder: str = "/",
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        """Start `argv` in `folder`; `is_ready` judges by its pid and its words so far; `on_ready` completes it."""
        self.driver = driver
        self.argv = list(argv)
        self._is_ready = is_ready
        self._on_ready = on_ready
        self._words, words = os.pipe2(os.O_CLOEXEC)
        # pasta opens it by name (/proc/self/fd/2), as root of a namespace in which the pipe's owner may be somebody else
        # (--userns keep-id). Nobody but holders of the pipe has such a name.
        os.fchmod(words, 0o666)
        reads, self._lifeline = os.pipe2(os.O_CLOEXEC)
        pid = -1
        try:
            pid = os.fork()
            if not pid:
                _child(argv, reads, netns, words, userns, self._lifeline, folder, more)
        finally:
            os.close(words)
            os.close(reads)
            if pid < 0:
                os.close(self._words)
                os.close(self._lifeline)
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)

    def fileno(self) -> int:
        return self._words

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> Helper:
        """Wait until the helper works; SetupError with its own words where it does not."""
        poll = select.poll()
        poll.register(self._words, select.POLLIN)
        words = b""
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                self.abandon()
                raise SetupError(
                    f"{self.driver} was not ready within {timeout_s:.0f} seconds: {_clean(words)}",
                    stage="network",
                )
            chunk = os.read(self._words, 4096)
            words = (words + chunk)[-16384:]
            if self._is_ready(self.pid, words):
                break
            if not chunk:
                raise self._failure(words)
        if self._on_ready is not None:
            try:
                self._on_ready()
            except BaseException:
                self.abandon()
                raise
        # Later words have nowhere to go: the helpers ignore SIGPIPE.
        os.close(self._words)
        return Helper(self.driver, self.pid, self.pidfd, self._lifeline)

    def _failure(self, words: bytes) -> SetupError:
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._close()
        how = _in_words(status)
        reason = _clean(words) or "it gave no reason"
        error = SetupError(f"{self.driver} {how}: {reason}", stage="network")
        if os.strerror(errno.EMFILE).lower() in reason.lower():
            error.errno = errno.EMFILE  # what is to be done about that is no matter of networks
        else:
            error.hint = _remedy(reason)
        return error

    def abandon(self) -> None:
        """Give up: the helper is killed and reaped."""
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        self._close()

    def _close(self) -> None:
        for fd in (self._words, self._lifeline, self.pidfd):
            os.close(fd)


class Helper:
    """A helper at work. It ends with `stop`, or when the last process that holds `lifeline` does."""

    __slots__ = ("driver", "pid", "pidfd", "lifeline", "start_time")

    def __init__(self, driver: str, pid: int, pidfd: int, lifeline: int) -> None:
        self.driver = driver
        self.pid = pid
        self.pidfd = pidfd  # readable once the helper is dead: for the monitor's poll
        self.lifeline = lifeline
        self.start_time = start_time(pid)

    def to_json(self) -> dict[str, object]:
        return {"driver": self.driver, "pid": self.pid, "start_time": self.start_time}

    def stop(self) -> str:
        """End the helper and wait until it is gone, so that its ports are free on return; how it ended, if known."""
        if self.pidfd < 0:
            return ""
        how = ""
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            how = _in_words(os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]))
        except ChildProcessError:
            # Not our child (taken over), or reaped by our owner's loop already.
            select.select([self.pidfd], [], [], 5)
        self.close()
        return how

    def close(self) -> None:
        """Let go of an ended helper's descriptors."""
        for fd in (self.pidfd, self.lifeline):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.lifeline = -1


def _in_words(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"failed with exit code {status}"


def die_with(reads: int) -> None:
    """Have the kernel kill this process, whatever it executes, when the other end of a pipe goes."""
    fcntl.fcntl(reads, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(reads, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reads, fcntl.F_SETFL, os.O_ASYNC)


def kill_recorded(pid: int, started: int) -> None:
    """End the process of a record, if it is still that one (security case 46), and wait until it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if start_time(pid) != started:
            return
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], 5)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(pidfd)


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat: with the pid it names one process until the next boot; 0 where it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 4096).rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
    finally:
        os.close(fd)


def _remedy(reason: str) -> str:
    """What the host lacks, where that is what a helper complains of."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        return f"/dev/net/tun cannot be opened ({why}): ask for `modprobe tun` and mode 0666, or run with --network host or none"
    if "unrecognized option" in reason or "invalid option" in reason:
        return "its options are in the manual page of the installed version"
    if "No external routable interface" in reason or "routable" in reason:
        return "this host has no network of its own yet: run with --network none, or wait for it"
    return "`rootless doctor` tries it and says more; --network host and none work without"


def _clean(words: bytes) -> str:
    """A helper's words as one line."""
    lines = [_plain(line.strip()) for line in words.decode(errors="replace").splitlines()]
    # Whoever gave a wrong option gets all 130 of them.
    usage = next((at for at, line in enumerate(lines) if line.startswith("Usage:")), len(lines))
    return "; ".join(line for line in lines[: usage or None] if line and "to syslog" not in line)


def _plain(line: str) -> str:
    """Without the time stamp that pasta of 2023 puts before its words."""
    stamp, separator, rest = line.partition(": ")
    return rest if separator and stamp.replace(".", "").isdecimal() else line


def _child(
    argv: Sequence[str],
    reads: int,
    netns: int,
    words: int,
    userns: int,
    lifeline: int,
    folder: str,
    more: bool,
) -> None:
    """The forked child: never returns."""
    try:
        os.chdir(folder)  # which may be closed to the namespace's root
        # Nor is it our uid then that makes the API socket; the folder keeps all others away from it.
        os.umask(0)
        if userns >= 0:
            setns(userns, CLONE_NEWUSER)
            # Where our uid is not the namespace's root (keep-id), exec would take the capabilities away.
            try:
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
            except OSError:
                keep_capabilities()  # one id is mapped, and it is not root
        # After the change of ids: the kernel compares those of now with the helper's when the pipe's end goes.
        die_with(reads)
        os.close(lifeline)
        # The parent may have died before the pipe was armed: then nobody holds the other end any more.
        poll = select.poll()
        poll.register(reads, select.POLLIN)
        if poll.poll(0):
            os._exit(1)
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        placed = (
            {0: reads, 1: null, 2: words, 3: netns, 4: words}
            if more
            else {0: reads, 1: netns, 2: words}
        )
        moved = {
            number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for number, fd in placed.items()
        }
        for number, fd in moved.items():
            os.dup2(fd, number)
        # Python ignores SIGPIPE; pasta of 2023 takes an inherited SIG_IGN for a failure of signal(2).
        for number in (
            signal.SIGPIPE,
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGCHLD,
        ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(argv[0], list(argv), _ENVIRONMENT)
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        os.write(
            words, f"cannot start {argv[0]} in the container's user namespace: {reason}\n".encode()
        )
    except BaseException as error:
        os.write(words, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(127)
