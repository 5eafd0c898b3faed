"""Reading container logs: the last lines, a span of time, and what is still being written.

Lines are handed on as they stand in the file, many at a time: a log may be a gigabyte.
"""

from __future__ import annotations

import os
import select
import time

from rootless.container.logs import DEFAULT_MAX_FILES
from rootless.errors import InvalidState
from rootless.linux.process import open_pidfd
from rootless.state import process_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootless.container.status import Status

_BLOCK = 1 << 20
#: Where a line's parts are: all times in a log have one length ("2026-01-31T12:00:00.123456789+00:00").
TIME = 35


class Log:
    """The log of one container: a file, and those before it, which are numbered from the youngest."""

    __slots__ = ("_fd", "_rest", "max_files", "path")

    def __init__(self, path: str, max_files: int = DEFAULT_MAX_FILES) -> None:
        self.path = path
        self.max_files = max_files
        self._fd = -1
        self._rest = b""

    @classmethod
    def of(cls, status: Status) -> Log:
        driver = status.record["options"].get("log_driver", "")
        if driver in ("none", "passthrough", "passthrough-tty"):
            raise InvalidState(
                f"this container is using the '{driver}' log driver, cannot read logs: "
                "this container is not logging output"
            )
        record = status.record
        return cls(record["log_path"], record.get("log_max_files", DEFAULT_MAX_FILES))

    def read(self) -> Iterator[list[bytes]]:
        """Whole lines from the beginning; called again, those that have come since."""
        if self._fd >= 0:
            yield from self._lines()
        while following := self._newer():
            try:
                while following:
                    if self._fd >= 0:
                        os.close(self._fd)
                    self._fd = following.pop()
                    yield from self._lines()
            finally:
                for fd in following:
                    os.close(fd)

    def _newer(self) -> list[int]:
        """The files after the one being read, youngest first. They are opened in that order: one that is renamed
        meanwhile is then met twice and not missed."""
        known = {_inode(self._fd)} if self._fd >= 0 else set()
        found: list[int] = []
        for number in range(self.max_files):
            fd = _open(f"{self.path}.{number}" if number else self.path)
            if fd < 0:
                continue
            inode = _inode(fd)
            if self._fd >= 0 and inode == _inode(self._fd):
                os.close(fd)
                break
            if inode in known:
                os.close(fd)
                continue
            known.add(inode)
            found.append(fd)
        return found

    def _lines(self) -> Iterator[list[bytes]]:
        while data := os.read(self._fd, _BLOCK):
            head, newline, rest = data.rpartition(b"\n")
            if not newline:
                self._rest += data
                continue
            lines = (self._rest + head).split(b"\n")
            self._rest = rest
            yield lines

    def tail(self, count: int) -> list[bytes]:
        """The last `count` lines, parts of one counted once; `read` goes on after them."""
        files = self._newer()
        if not files:
            return []
        self._fd = files[0]
        lines, found = _last(self._fd, count)
        for older in files[1:]:
            if found < count:
                before, more = _last(older, count - found)
                lines = before + lines
                found += more
            os.close(older)
        return lines

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return -1


def _inode(fd: int) -> int:
    return os.fstat(fd).st_ino


def _last(fd: int, count: int) -> tuple[list[bytes], int]:
    """(the file's last lines, how many lines these are); the file is then at their end."""
    size = os.lseek(fd, 0, os.SEEK_END)
    # What follows the last line end is still being written: it is for whoever reads on.
    wanted = 1 << 16
    while True:
        start = max(0, size - wanted)
        data = os.pread(fd, size - start, start)
        end = data.rfind(b"\n") + 1
        lines = data[:end].split(b"\n")[:-1]
        if start:
            lines = lines[1:]  # the first is cut off
        at, found = len(lines), 0
        while at > 0:
            whole = lines[at - 1][TIME + 8 : TIME + 9] != b"P"
            if whole or at == len(lines):
                if found == count:
                    break
                found += 1
            at -= 1
        if at > 0 or not start:
            os.lseek(fd, start + end, os.SEEK_SET)
            return (lines[at:] if count else []), found
        wanted *= 4


class Span:
    """Which lines are meant, by their time."""

    __slots__ = ("_seconds", "over", "since", "until")

    def __init__(self, since: int | None, until: int | None) -> None:
        self.since = since
        self.until = until
        self.over = False
        self._seconds: dict[bytes, int] = {}

    def cut(self, lines: list[bytes]) -> list[bytes]:
        """The lines within the span; `over` once there can be no more."""
        if self.since is None and self.until is None:
            return lines
        kept = []
        for line in lines:
            moment = self.moment(line)
            if self.until is not None and moment > self.until:
                self.over = True
                break
            if self.since is None or moment >= self.since:
                kept.append(line)
        return kept

    def moment(self, line: bytes) -> int:
        """Nanoseconds since 1970 of a line; most lines of a second share the work."""
        key = line[:19] + line[29:TIME]
        second = self._seconds.get(key)
        if second is None:
            from rootless.moments import date_ns

            try:
                second = date_ns(key.decode())
            except ValueError:
                second = 0
            self._seconds = {key: second}
        digits = line[20:29]
        return second + (int(digits) if digits.isdigit() else 0)


def read_all(log: Log, span: Span, tail: int) -> Iterator[list[bytes]]:
    """What there is now. `tail` is the number of last lines, or negative for all."""
    if tail >= 0:
        yield span.cut(log.tail(tail))
        return
    for lines in log.read():
        yield span.cut(lines)
        if span.over:
            return


def follow(
    sources: list[tuple[Log, Span, Status]], next_run: Callable[[Status], Status | None]
) -> Iterator[tuple[int, list[bytes]]]:
    """(which source, lines) as they come, until every container has ended; `next_run` says what follows an end."""
    from rootless.linux import inotify

    notices = inotify.inotify_init1()
    mask = inotify.IN_MODIFY | inotify.IN_MOVE_SELF
    poll = select.poll()
    poll.register(notices, select.POLLIN)
    watched: dict[int, int] = {}
    try:
        for at, (log, _, status) in enumerate(sources):
            pidfd = _monitor(status)
            if pidfd >= 0:
                watched[pidfd] = at
                poll.register(pidfd, select.POLLIN)
                _watch(notices, log.path, mask)
            else:
                yield from _news(sources, at)
        for at in sorted(watched.values()):
            yield from _news(sources, at)
        while watched:
            ready = [fd for fd, _ in poll.poll(_left_ms(sources))]
            if notices in ready:
                os.read(notices, 65536)
            for fd in [fd for fd in ready if fd in watched]:
                poll.unregister(fd)
                os.close(fd)
                at = watched.pop(fd)
                yield from _news(sources, at)
                again = next_run(sources[at][2])
                if again is not None and (pidfd := _monitor(again)) >= 0:
                    watched[pidfd] = at
                    poll.register(pidfd, select.POLLIN)
            for fd, at in list(watched.items()):
                log, span, _ = sources[at]
                yield from _news(sources, at)
                # A new file after rotation is not the one that is watched.
                _watch(notices, log.path, mask)
                if span.over or (span.until is not None and time.time_ns() > span.until):
                    poll.unregister(fd)
                    os.close(fd)
                    del watched[fd]
    finally:
        os.close(notices)
        for fd in watched:
            os.close(fd)


def _news(sources: list[tuple[Log, Span, Status]], at: int) -> Iterator[tuple[int, list[bytes]]]:
    log, span, _ = sources[at]
    for lines in log.read():
        kept = span.cut(lines)
        if kept:
            yield at, kept


def _watch(notices: int, path: str, mask: int) -> None:
    from rootless.linux import inotify

    try:
        inotify.inotify_add_watch(notices, path, mask)
    except FileNotFoundError:
        pass  # removed with its container, whose end is told by the pidfd


def _monitor(status: Status) -> int:
    monitor = process_of(status.live, "monitor") if status.live else None
    if monitor is None:
        return -1
    try:
        return open_pidfd(monitor.pid, monitor.started)
    except ProcessLookupError:
        return -1


def _left_ms(sources: list[tuple[Log, Span, Status]]) -> int | None:
    """Until the last source's span ends; None for ever."""
    ends = [span.until for _, span, _ in sources]
    if not ends or None in ends:
        return None
    return max(0, (max(end for end in ends if end is not None) - time.time_ns()) // 1_000_000 + 1)
