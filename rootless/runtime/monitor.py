"""The small process beside a container: owns its stdio, log, exit code, and what is done at its end.

It is forked from the command, has a session of its own, and ends with the container. It knows nothing of images or
records: the engine hands it what to do as callables. One thread and one poll(2): nothing in here waits elsewhere, and
what a client or a full disk holds up holds up the container's output, never the monitor's memory (security case 45).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from rootless.errors import RootlessError
from rootless.linux import signal
from rootless.linux import sockets as socket
from rootless.runtime import attach
from rootless.runtime.attach import Link, Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, Protocol

    class Log(Protocol):
        """Where output is kept."""

        def write(self, stream: int, data: bytes) -> None:
            """Keep what came from stdout (1) or stderr (2)."""

        def close(self) -> None:
            """Write what is left."""


_CHUNK = 65536
_LARGE_PIPE = 1 << 20
# What fits below malloc's threshold for mmap(2): above it every read costs a page fault for each 4 KiB.
_LARGE_CHUNK = 96 << 10
STDIN, STDOUT, STDERR = 0, 1, 2


class Client:
    """Somebody attached, or waiting for the end."""

    __slots__ = ("link", "sinks", "gone", "attached")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.sinks: dict[int, Sink] = {}
        self.gone = False
        self.attached = False

    def close(self) -> None:
        self.gone = True
        for sink in self.sinks.values():
            sink.close()
        self.sinks = {}
        self.link.close()


class Timer:
    """Something to be done at a time (seconds of the monotonic clock)."""

    __slots__ = ("at", "act")

    def __init__(self, at: float, act: Callable[[], float | None]) -> None:
        self.at = at
        self.act = act  # returns the seconds until the next time, or None


class Monitor:
    """The loop around one run of a container's init."""

    __slots__ = (
        "log", "clients", "listener", "streams", "stdin_write", "stdin_read", "pidfd", "init", "timers", "poll", "handlers",
        "exit_status", "wants_stdin", "on_action", "on_start", "pipe_full", "terminal", "reader",
        "turns",
    )  # fmt: skip

    def __init__(
        self,
        *,
        listener: socket.socket | None,
        log: Log | None,
        wants_stdin: bool,
        on_action: Callable[[Client, bytes], None] | None = None,
    ) -> None:
        self.listener = listener
        self.log = log
        self.wants_stdin = wants_stdin
        self.on_action = on_action
        self.clients: list[Client] = []
        self.streams: dict[int, int] = {}  # descriptor → STDOUT or STDERR
        self.stdin_write = -1
        self.stdin_read = -1
        self.pidfd = -1
        self.timers: list[Timer] = []
        self.poll = select.poll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.exit_status: int | None = None
        self.init = 0
        self.on_start: Callable[[], None] | None = None
        self.pipe_full: set[int] = set()
        # Where this client's reader has gone away, the container's pipe is closed, as in any shell's pipeline.
        self.reader: Client | None = None
        self.terminal = False
        self.turns = 0  # how often something has happened, timers left aside

    # preparing

    def make_stdio(self) -> tuple[int, int, int]:
        """Pipes for a container without a terminal; its ends are to be closed by `close_container_ends`."""
        if self.wants_stdin:
            self.stdin_read, self.stdin_write = os.pipe2(os.O_CLOEXEC)
        else:
            self.stdin_read = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        for fd, stream in ((out_read, STDOUT), (err_read, STDERR)):
            os.set_blocking(fd, False)
            self.streams[fd] = stream
        return self.stdin_read, out_write, err_write

    def take_terminal(self, master: int) -> None:
        """The container's terminal in the place of pipes."""
        self.terminal = True
        os.set_blocking(master, False)
        self.streams[master] = STDOUT
        self.stdin_write = master

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self.handlers[fd] = handler
        self.poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.poll.unregister(fd)

    def add_client(self, link: Link) -> Client:
        client = Client(link)
        self.clients.append(client)
        self.watch(link.fileno(), select.POLLIN, lambda _: self.hear(client))
        return client

    def after(self, seconds: float, act: Callable[[], float | None]) -> Timer:
        return self.at(time.monotonic() + seconds, act)

    def at(self, when: float, act: Callable[[], float | None]) -> Timer:
        """Have something done at a time of the monotonic clock; what it returns is the seconds until the next time."""
        timer = Timer(when, act)
        self.timers.append(timer)
        return timer

    # the loop

    def begin(self, pid: int) -> None:
        """Watch init's end, its output and who connects."""
        self.init = pid
        self.pidfd = os.pidfd_open(pid)
        self._watch_run()

    def _watch_run(self) -> None:
        self.watch(self.pidfd, select.POLLIN, self._reap)
        for fd in self.streams:
            self.watch(fd, select.POLLIN, self._read)
        if self.listener is not None:
            self.watch(self.listener.fileno(), select.POLLIN, lambda _: self._accept())

    def serve(self) -> int:
        """Run until init has ended and its output is written; its exit status as waitpid(2) gives it."""
        while self.exit_status is None or self._draining():
            for fd, _ in self.poll.poll(self._next_timeout()):
                self.turns += 1
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(fd)
            self._run_timers()
        return self.exit_status

    def wait_for(self, done: Callable[[], bool]) -> None:
        """Serve clients until `done` or the end of init: a created container waits for its start."""
        while self.exit_status is None and not done():
            for fd, _ in self.poll.poll(self._next_timeout()):
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(fd)
            self._run_timers()

    def _draining(self) -> bool:
        """Whether output is still to come: what is left in the pipes, and what a client has not taken."""
        for fd in list(self.streams):
            if fd in self.handlers:
                # init is dead, and with its pid namespace every writer. Where the namespace is shared another process
                # may hold the pipe: what is there now is read, and no more waited for.
                before = len(self.streams)
                self._read(fd)
                if len(self.streams) == before and fd in self.handlers and not self._has_input(fd):
                    self._end_stream(fd)
        return any(
            sink.pending is not None
            for client in self.clients
            for sink in client.sinks.values()
            if not sink.broken
        ) or bool(self.streams)

    @staticmethod
    def _has_input(fd: int) -> bool:
        probe = select.poll()
        probe.register(fd, select.POLLIN)
        return any(event & select.POLLIN for _, event in probe.poll(0))

    def _next_timeout(self) -> int | None:
        if not self.timers:
            return None
        return max(0, int((min(t.at for t in self.timers) - time.monotonic()) * 1000) + 1)

    def _run_timers(self) -> None:
        if not self.timers:
            return
        now = time.monotonic()
        for timer in [t for t in self.timers if t.at <= now]:
            if timer not in self.timers:
                continue  # another one has ended it
            again = timer.act()
            if again is not None:
                timer.at = time.monotonic() + again
            elif timer in self.timers:
                self.timers.remove(timer)

    def _reap(self, _: int) -> None:
        self.unwatch(self.pidfd)
        _, self.exit_status = os.waitpid(self.init, 0)

    # output

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _LARGE_CHUNK if fd in self.pipe_full else _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose last user has closed it
                raise
            data = b""
        if not data:
            if self.terminal and self.exit_status is None:
                # Somebody in the container may open the terminal again: look every now and then.
                self.unwatch(fd)
                self.after(0.05, lambda: self._rewatch(fd))
                return
            self._end_stream(fd)
            return
        if len(data) == _CHUNK and fd not in self.pipe_full and not self.terminal:
            self.pipe_full.add(fd)
            try:
                fcntl.fcntl(
                    fd, 1031, _LARGE_PIPE
                )  # F_SETPIPE_SZ: only for those who fill it, the user's sum is limited
            except OSError:
                pass
        stream = self.streams[fd]
        if self.log is not None:
            self.log.write(stream, data)
        for client in list(self.clients):
            sink = client.sinks.get(stream)
            if sink is None:
                continue
            if not sink.is_broken() and not sink.write(data):
                self._hold(fd, client, sink)
            if sink.lost:
                self._tell_lost(client, stream, sink.lost)
                continue
            # Here or while it was waited for.
            if sink.is_broken() and client is self.reader and not self.terminal:
                self._end_stream(fd)
                return

    def _tell_lost(self, client: Client, stream: int, reason: int) -> None:
        """Let a client go whose output is lost, and tell it why; the container runs on, as with Podman."""
        from rootless.runtime.sync import encode_failure

        name = "stdout" if stream == STDOUT else "stderr"
        error = RootlessError(f"write /dev/{name}: {os.strerror(reason).lower()}")
        try:
            client.link.send(attach.FAILED, encode_failure("", error))
        except OSError:
            pass
        if client is self.reader:
            self.reader = None
        self.drop(client)

    def _rewatch(self, fd: int) -> float | None:
        if fd in self.streams and fd not in self.handlers:
            self.watch(fd, select.POLLIN, self._read)
        return None

    def _hold(self, fd: int, client: Client, sink: Sink) -> None:
        """Read no more of a stream until a slow client has taken what it was given."""
        self.unwatch(fd)

        def ready(_: int) -> None:
            if client.gone or sink.flush():
                self.unwatch(sink.fd)
                held = any(
                    other.pending is not None and not other.broken
                    for one in self.clients
                    for key, other in one.sinks.items()
                    if key == self.streams.get(fd)
                )
                if not held and fd in self.streams and fd not in self.handlers:
                    self.watch(fd, select.POLLIN, self._read)

        self.watch(sink.fd, select.POLLOUT, ready)

    def _end_stream(self, fd: int) -> None:
        self.unwatch(fd)
        del self.streams[fd]
        if fd != self.stdin_write:
            os.close(fd)

    # clients

    def _accept(self) -> None:
        assert self.listener is not None
        try:
            end, _ = self.listener.accept()
        except OSError:
            return
        if attach.peer_uid(end) not in (os.getuid(), 0):
            end.close()  # security case 40
            return
        self.add_client(Link(end))

    def hear(self, client: Client) -> None:
        try:
            kind, data, fds = client.link.receive()
        except OSError:
            kind, data, fds = b"", b"", []
        if not kind:
            self.drop(client)
        elif kind == attach.ATTACH:
            self.attach(client, data[0], fds)
        elif kind == attach.END_INPUT:
            self.end_input()
        elif kind == attach.START:
            if self.on_start is not None:
                self.on_start()
        elif kind == attach.RUN and self.on_action is not None:
            self.on_action(client, data)

    def attach(self, client: Client, flags: int, fds: list[int]) -> None:
        """Write the container's output to a client's descriptors from now on, and hand it the input's."""
        if len(fds) == 2:
            for stream, fd, wanted in (
                (STDOUT, fds[0], attach.WITH_STDOUT),
                (STDERR, fds[1], attach.WITH_STDERR),
            ):
                if flags & wanted:
                    client.sinks[stream] = Sink(fd)
                else:
                    os.close(fd)
        client.attached = True
        hand_out = self.stdin_write >= 0 and (self.terminal or flags & attach.WITH_STDIN)
        try:
            client.link.send(attach.INPUT, b"", (self.stdin_write,) if hand_out else ())
        except OSError:
            self.drop(client)

    def end_input(self) -> None:
        """The end of input, unless it is a terminal's: that has no end but its hanging up."""
        if self.stdin_write >= 0 and not self.terminal:
            os.close(self.stdin_write)
            self.stdin_write = -1

    def drop(self, client: Client) -> None:
        self.unwatch(client.link.fileno())
        for sink in client.sinks.values():
            self.unwatch(sink.fd)
        client.close()
        self.clients.remove(client)
        for fd in self.streams:
            if fd not in self.handlers and self.exit_status is None:
                self.watch(fd, select.POLLIN, self._read)

    def tell(self, kind: bytes, data: bytes = b"") -> None:
        for client in list(self.clients):
            try:
                client.link.send(kind, data)
            except OSError:
                self.drop(client)

    def tell_failure(self, error: BaseException) -> None:
        from rootless.runtime.sync import encode_failure

        self.tell(attach.FAILED, encode_failure("", error))

    def kill(self, number: int) -> None:
        if self.pidfd >= 0 and self.exit_status is None:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass

    def forward_signals(self) -> None:
        """What a session's end or a service manager sends to the monitor is meant for the container."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, lambda received, _: self.kill(received))

    def close(self) -> None:
        """End all that this run had open; clients stay, so that they can be told of the end."""
        for fd in list(self.streams):
            self._end_stream(fd)
        for name in ("stdin_write", "stdin_read", "pidfd"):
            fd = getattr(self, name)
            if fd >= 0:
                if name == "pidfd":
                    self.unwatch(fd)
                os.close(fd)
                setattr(self, name, -1)
        self.timers = []
        self.pipe_full = set()
        self.terminal = False
        self.exit_status = None

    # from one interpreter to the next: see container/dormancy.py

    def freeze(self) -> dict[str, Any] | None:
        """What `thaw` makes a monitor in the same state of, as plain values; None while something is under way."""
        if self.exit_status is not None or any(fd not in self.handlers for fd in self.streams):
            return None  # the end is near; or a client is waited for, or a terminal nobody has open
        if any(sink.pending is not None for one in self.clients for sink in one.sinks.values()):
            return None
        return {
            "init": self.init,
            "pidfd": self.pidfd,
            "listener": self.listener.fileno() if self.listener is not None else -1,
            "streams": self.streams,
            "stdin_write": self.stdin_write,
            "wants_stdin": self.wants_stdin,
            "terminal": self.terminal,
            "pipe_full": list(self.pipe_full),
            "clients": [
                (
                    client.link.fileno(),
                    client.attached,
                    client is self.reader,
                    {stream: sink.fd for stream, sink in client.sinks.items() if not sink.broken},
                )
                for client in self.clients
            ],
        }

    @classmethod
    def thaw(cls, kept: dict[str, Any]) -> Monitor:
        listener = kept["listener"]
        self = cls(
            listener=socket.socket(fileno=listener) if listener >= 0 else None,
            log=None,
            wants_stdin=kept["wants_stdin"],
        )
        self.init = kept["init"]
        self.pidfd = kept["pidfd"]
        self.streams = kept["streams"]
        self.stdin_write = kept["stdin_write"]
        self.terminal = kept["terminal"]
        self.pipe_full = set(kept["pipe_full"])
        for fd, attached, reads, sinks in kept["clients"]:
            client = self.add_client(Link(socket.socket(fileno=fd)))
            client.attached = attached
            client.sinks = {stream: Sink(sink) for stream, sink in sinks.items()}
            if reads:
                self.reader = client
        self._watch_run()
        return self


def exit_code(status: int) -> int:
    """The code that a shell would show for a wait status: the program's own, or 128 and its signal."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def leave_session(*, keep_streams: bool = False, keep: Collection[int] = ()) -> None:
    """Take a session of one's own and give up the command's standard streams, folder and inherited descriptors.

    What we open ourselves is closed on exec; what is not came from our caller: a lock that a script holds by a
    descriptor would be held as long as the container runs.
    """
    os.setsid()
    os.chdir("/")
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd > 2 and fd not in keep and os.get_inheritable(fd):
                os.close(fd)
        except OSError:
            continue  # the folder's own descriptor
    if keep_streams:
        return
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1, 2):
        os.dup2(null, number, inheritable=True)
    if null > 2:
        os.close(null)
