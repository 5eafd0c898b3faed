"""The user's side of an attached container or exec session: terminal, input, signals, detach keys.

The output is not here: the monitor writes it to this process's own standard streams (runtime/attach.py).
"""

from __future__ import annotations

import os
import select

from rootless.errors import RootlessError
from rootless.linux import signal
from rootless.linux.sched import pidfd_send_signal
from rootless.runtime import attach, sync
from rootless.runtime.attach import Link
from rootless.runtime.terminal import Raw, get_size, set_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"

# What a foreground client passes on; the others are its own (SIGCHLD, job control) or cannot be caught.
_PROXIED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
    signal.SIGCONT,
)  # fmt: skip


def parse_detach_keys(text: str, exit_code: int = 125) -> bytes:
    """`ctrl-p,ctrl-q` as bytes; empty switches detaching off. Raises RootlessError with this exit code."""
    keys = bytearray()
    for word in text.split(",") if text else []:
        if len(word) == 1:
            keys += word.encode()
        elif (
            word.startswith("ctrl-")
            and len(word) == 6
            and ("a" <= word[5] <= "z" or word[5] in "@[\\]^_")
        ):
            keys.append(ord(word[5].upper()) & 0x1F)
        else:
            raise RootlessError(
                f"invalid detach keys {text!r}: unknown key {word!r}", exit_code=exit_code
            )
    return bytes(keys)


class DetachScanner:
    """Finds the detach sequence in what is typed; what turns out not to be it is passed on."""

    __slots__ = ("keys", "held")

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what to pass on, whether the sequence is complete)."""
        if not self.keys:
            return data, False
        out = bytearray()
        for value in data:
            self.held += bytes((value,))
            if self.held == self.keys:
                self.held = b""
                return bytes(out), True
            while self.held and not self.keys.startswith(self.held):
                out.append(self.held[0])
                self.held = self.held[1:]
        return bytes(out), False


class Session:
    """One attachment, from ATTACH to the end or the detach keys."""

    __slots__ = (
        "link", "stdin", "tty", "keys", "sig_proxy", "pidfd", "input_fd", "exit_code", "detached", "failure", "running",
        "is_attached", "_wake_read", "_wake_write", "_old",
    )  # fmt: skip

    def __init__(
        self,
        link: Link,
        *,
        stdin: bool,
        tty: bool,
        detach_keys: str | None = None,
        sig_proxy: bool = True,
    ) -> None:
        self.link = link
        self.stdin = stdin
        self.tty = tty
        self.keys = parse_detach_keys(DEFAULT_DETACH_KEYS if detach_keys is None else detach_keys)
        self.sig_proxy = sig_proxy
        self.pidfd = -1
        self.input_fd = -1
        self.exit_code: int | None = None
        self.detached = False
        self.failure: RootlessError | None = None
        self.running = False
        self.is_attached = False
        self._wake_read = self._wake_write = -1
        self._old: dict[int, object] = {}

    def attach(self, *, stdout: bool = True, stderr: bool = True) -> None:
        """Hand our standard streams to the monitor."""
        flags = (
            (attach.WITH_STDIN if self.stdin else 0)
            | (attach.WITH_STDOUT if stdout else 0)
            | (attach.WITH_STDERR if stderr else 0)
        )
        opened = []
        fds = []
        for number in (1, 2):
            try:
                os.fstat(number)
                fds.append(number)
            except OSError:  # closed standard streams: what is written there is lost, as anywhere
                fds.append(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC))
                opened.append(fds[-1])
        if self.sig_proxy:
            # The program may begin, and be answered with a signal, before `run` is reached.
            self._catch_signals(_PROXIED)
        try:
            self.link.send(attach.ATTACH, bytes((flags,)), (fds[0], fds[1]))
        except BrokenPipeError:
            pass  # a start that failed at once: why is still to be read
        for fd in opened:
            os.close(fd)

    def follow(self, pid: int) -> None:
        """Pass signals on to this process from now on."""
        self.running = True
        if self.sig_proxy:
            try:
                self.pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                pass

    def hear(self) -> bool:
        """Take one message; False when there is nothing more to come."""
        try:
            kind, data, fds = self.link.receive()
        except ConnectionResetError:
            kind, data, fds = b"", b"", []
        if kind == attach.INPUT:
            self.is_attached = True
            self.input_fd = fds[0] if fds else -1
        elif kind == attach.RUNNING:
            if data:
                self.follow(int(data))
            self.running = True
        elif kind == attach.FAILED:
            self.failure = sync.decode_failure(data)
            return False
        elif kind == attach.EXITED:
            self.exit_code = int(data)
            return False
        elif not kind:
            return False
        return True

    def wait_attached(self) -> None:
        """Until the monitor has taken our streams and given its input's end."""
        while not self.is_attached and self.hear():
            pass

    def wait_running(self) -> None:
        """Until the container runs; raises what its start met."""
        while not self.running and self.exit_code is None:
            if not self.hear():
                break
        if self.failure is not None:
            raise self.failure
        if not self.running and self.exit_code is None:
            raise RootlessError("the container's monitor ended before the container was started")

    def run(self) -> int | None:
        """Stay until the container's end (its exit code) or the detach keys (None).

        The terminal is raw meanwhile and restored by whatever way this is left.
        """
        raw = Raw(0)
        is_terminal = self.tty and self.stdin and os.isatty(0)
        try:
            self._catch_signals(_PROXIED if self.sig_proxy else ())
            if is_terminal:
                self._catch_signals((signal.SIGWINCH,))
                raw.__enter__()
                self._resize()
            self._loop()
        finally:
            raw.restore()
            self._release_signals()
            if self.input_fd >= 0:
                os.close(self.input_fd)
                self.input_fd = -1
        if self.failure is not None:
            raise self.failure
        if self.detached:
            return None
        self._await_monitor()
        if self.exit_code is None:
            raise RootlessError("the container's monitor is gone; its exit code is not known")
        return self.exit_code

    def _await_monitor(self) -> None:
        """Where the monitor is this command's child: let it go first, so that nothing is left when we return."""
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            pass

    def _loop(self) -> None:
        poll = select.poll()
        poll.register(self.link.fileno(), select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        reading = self.stdin and self.input_fd >= 0
        if reading:
            try:
                poll.register(0, select.POLLIN)
                os.fstat(0)
            except OSError:
                reading = False
                self._end_input()
        elif self.input_fd >= 0 and not self.tty:
            os.close(self.input_fd)
            self.input_fd = -1
        scanner = DetachScanner(self.keys if self.tty else b"")
        while True:
            for fd, event in poll.poll():
                if fd == self.link.fileno():
                    if not self.hear():
                        return
                elif fd == self._wake_read:
                    self._take_signals()
                elif event & (select.POLLIN | select.POLLHUP | select.POLLERR | select.POLLNVAL):
                    if event & select.POLLNVAL or not self._copy_input(scanner):
                        poll.unregister(0)
                        self._end_input()
                    if self.detached:
                        return

    def _copy_input(self, scanner: DetachScanner) -> bool:
        """Move some input; False at its end."""
        if not self.tty:
            try:
                return os.splice(0, self.input_fd, 1 << 20) > 0
            except BrokenPipeError:
                return False
            except OSError:
                pass  # splice(2) takes no terminal and no file opened with O_APPEND
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        data, self.detached = scanner.feed(data)
        try:
            self._write_input(data)
        except OSError:
            return False
        return True

    def _write_input(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.input_fd, view) :]
            except BlockingIOError:
                waiting = select.poll()
                waiting.register(self.input_fd, select.POLLOUT)
                waiting.register(self.link.fileno(), 0)
                waiting.poll(1000)

    def _end_input(self) -> None:
        if self.input_fd >= 0 and not self.tty:
            os.close(self.input_fd)
            self.input_fd = -1
            try:
                self.link.send(attach.END_INPUT)
            except OSError:
                pass

    # signals

    def _catch_signals(self, numbers: Sequence[int]) -> None:
        if self._wake_read < 0:
            self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in numbers:
            if number not in self._old:
                self._old[number] = signal.signal(number, self._caught)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        try:
            os.write(self._wake_write, bytes((number,)))
        except BlockingIOError:
            pass

    def _take_signals(self) -> None:
        for number in os.read(self._wake_read, 64):
            if number == signal.SIGWINCH:
                self._resize()
            elif self.pidfd >= 0:
                try:
                    pidfd_send_signal(self.pidfd, number)
                except ProcessLookupError:
                    pass

    def _release_signals(self) -> None:
        for number, old in self._old.items():
            signal.signal(number, old)  # type: ignore[arg-type]
        self._old = {}
        for fd in (self._wake_read, self._wake_write, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self._wake_read = self._wake_write = self.pidfd = -1

    def _resize(self) -> None:
        size = get_size(0)
        if size is not None and self.input_fd >= 0:
            set_size(self.input_fd, *size)
