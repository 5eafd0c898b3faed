"""A container's local log: Podman's k8s-file format, written by the monitor and read by `logs`.

A line is `TIME stdout|stderr F|P text`; P marks a part of a line that the next one goes on with. A log that reaches
its size is renamed to `….1`, that one to `….2` and so on, and the last is dropped: the disk holds `max_files` times the
size at the most, twice where nothing else is said.
"""

from __future__ import annotations

import os
import time

_STREAMS = {1: b" stdout ", 2: b" stderr "}
DEFAULT_MAX_SIZE = 128 << 20
DEFAULT_MAX_FILES = 2


class Clock:
    """Times as RFC 3339 with nanoseconds; the second's text is made once."""

    __slots__ = ("_second", "_head", "_tail")

    def __init__(self) -> None:
        self._second = -1
        self._head = self._tail = b""

    def text(self, now_ns: int) -> bytes:
        second, rest = divmod(now_ns, 1_000_000_000)
        if second != self._second:
            self._second = second
            local = time.localtime(second)
            offset = local.tm_gmtoff // 60
            sign = "-" if offset < 0 else "+"
            self._head = time.strftime("%Y-%m-%dT%H:%M:%S.", local).encode()
            self._tail = f"{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}".encode()
        return b"%b%09d%b" % (self._head, rest, self._tail)


class FileLog:
    """The writer. A full disk loses log lines, never the container: the next write that succeeds goes on."""

    __slots__ = ("path", "max_size", "max_files", "_fd", "_size", "_clock")

    def __init__(
        self, path: str, max_size: int = DEFAULT_MAX_SIZE, max_files: int = DEFAULT_MAX_FILES
    ) -> None:
        self.path = path
        self.max_files = max_files  # the one being written counted
        self.max_size = max_size if max_size > 0 else DEFAULT_MAX_SIZE
        self._clock = Clock()
        self._open()

    def _open(self) -> None:
        # Not through a link: a log that was replaced by one must not write elsewhere (security case 45).
        self._fd = os.open(
            self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: int, data: bytes) -> None:
        prefix = self._clock.text(time.time_ns()) + _STREAMS[stream]
        full, part = prefix + b"F ", prefix + b"P "
        complete = data.rfind(b"\n") + 1
        if not complete:
            self._append([part, data, b"\n"], len(part) + len(data) + 1)
            return
        # One copy: each newline becomes one with the next line's beginning, of which the last is cut off again.
        body = memoryview(data.replace(b"\n", b"\n" + full))
        rest = len(body) - (len(data) - complete)
        pieces: list[bytes | memoryview] = [full, body[: rest - len(full)]]
        size = rest
        if rest < len(body):
            pieces += [part, body[rest:], b"\n"]
            size += len(part) + len(body) - rest + 1
        if size <= self.max_size:
            self._append(pieces, size)
            return
        # More at once than a log holds: it is cut between lines.
        text = b"".join(pieces)
        while len(text) > self.max_size:
            end = text.rfind(b"\n", 0, self.max_size) + 1 or text.find(b"\n") + 1
            self._append([text[:end]], end)
            text = text[end:]
        self._append([text], len(text))

    def _append(self, pieces: list[bytes | memoryview], size: int) -> None:
        if self._size and self._size + size > self.max_size:
            self._rotate()
        try:
            written = os.writev(self._fd, pieces)
            if written < size:
                from rootless.files import write_all  # not in every idle monitor

                write_all(self._fd, b"".join(pieces)[written:])  # the error has yet to come
        except OSError:
            return
        self._size += size

    def _rotate(self) -> None:
        before = self._fd
        try:
            for number in range(self.max_files - 2, 0, -1):
                try:
                    os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
                except FileNotFoundError:
                    continue
            os.rename(self.path, f"{self.path}.1")
            self._open()
            if self.max_files == 1:
                os.unlink(f"{self.path}.1")
        except OSError:
            return  # the full one goes on
        os.close(before)

    def close(self) -> None:
        os.close(self._fd)

    def freeze(self) -> tuple[str, int, int, int, int]:
        """What `thaw` makes a writer to the same open file of, in another interpreter of this process."""
        return self.path, self.max_size, self.max_files, self._fd, self._size

    @classmethod
    def thaw(cls, kept: tuple[str, int, int, int, int]) -> FileLog:
        self = cls.__new__(cls)
        self.path, self.max_size, self.max_files, self._fd, self._size = kept
        self._clock = Clock()
        return self


class Entry:
    """A line, or a part of one, as it was written."""

    __slots__ = ("time", "stream", "partial", "data")

    def __init__(self, time: bytes, stream: bytes, partial: bool, data: bytes) -> None:
        self.time = time
        self.stream = stream
        self.partial = partial
        self.data = data
