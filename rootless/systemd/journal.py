"""The journal's native protocol (systemd's JOURNAL_NATIVE_PROTOCOL): log lines and events, with Podman's fields.

A datagram holds one entry: FIELD=value lines, or FIELD, its length as 64 bits and the bytes where the value has a line
end. What is too large for a datagram goes as a sealed memory file. Without libsystemd: the monitor loads nothing more.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from rootless.linux import sockets as socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.container.logs import FileLog

SOCKET = "/run/systemd/journal/socket"
_INFO, _ERR = 6, 3
#: How long a full journal may hold up a container's output, and how long it is then left alone.
_PATIENCE_S = 1.0
_PAUSE_S = 5.0
#: A line that goes on past this is passed on in parts, as conmon does.
_LONGEST = 1 << 18
_F_ADD_SEALS, _ALL_SEALS = 1033, 0xF


def is_there(path: str = SOCKET) -> bool:
    """Whether there is a journal that this user may write to."""
    return os.access(path, os.W_OK)


def encode(fields: list[tuple[str, bytes]]) -> bytes:
    """Fields in the journal's native protocol (systemd: JOURNAL_NATIVE_PROTOCOL)."""
    parts = []
    for name, value in fields:
        if b"\n" in value:
            parts.append(name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n")
        else:
            parts.append(name.encode() + b"=" + value + b"\n")
    return b"".join(parts)


class Journal:
    """A connection to the journal; nothing that happens to it is an error of the container's."""

    __slots__ = ("_socket", "_path", "_away_until", "lost")

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._away_until = 0.0
        self.lost = 0

    def _open(self) -> socket.socket:
        if self._socket is None:
            end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                end.settimeout(_PATIENCE_S)
                end.connect(self._path)
            except OSError:
                end.close()
                raise
            self._socket = end
        return self._socket

    def send(self, fields: list[tuple[str, bytes]]) -> bool:
        """Write an entry; False where it is lost."""
        if self._away_until and time.monotonic() < self._away_until:
            self.lost += 1
            return False
        data = encode(fields)
        try:
            try:
                self._open().send(data)
            except ConnectionError:
                # The journal was restarted: its socket is another one by now.
                self.close()
                self._open().send(data)
        except OSError as error:
            if error.errno in (errno.EMSGSIZE, errno.ENOBUFS):
                return self._send_file(data)
            self.close()
            self._away_until = time.monotonic() + _PAUSE_S
            self.lost += 1
            return False
        self._away_until = 0.0
        return True

    def _send_file(self, data: bytes) -> bool:
        fd = os.memfd_create("journal", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            fcntl.fcntl(
                fd, _F_ADD_SEALS, _ALL_SEALS
            )  # the journal takes no file that may still change
            self._open().sendmsg([b""], socket.rights((fd,)))
        except OSError:
            self.lost += 1
            return False
        finally:
            os.close(fd)
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class JournalLog:
    """A container's log in the journal beside the local one, which `logs` reads: nobody's journal may be readable."""

    __slots__ = ("file", "journal", "_common", "_rest")

    def __init__(
        self, file: FileLog, identity: str, name: str, tag: str = "", path: str = SOCKET
    ) -> None:
        self.file = file
        self.journal = Journal(path)
        self._rest = {1: b"", 2: b""}
        self._common = [
            ("CONTAINER_ID", identity[:12].encode()),
            ("CONTAINER_ID_FULL", identity.encode()),
            ("CONTAINER_NAME", name.encode()),
            ("SYSLOG_IDENTIFIER", (tag or name).encode()),
        ]
        if tag:
            self._common.append(("CONTAINER_TAG", tag.encode()))

    def freeze(self) -> tuple[list[tuple[str, bytes]], dict[int, bytes]]:
        """What `thaw` makes the same of, in another interpreter of this process."""
        return self._common, self._rest

    @classmethod
    def thaw(
        cls, file: FileLog, kept: tuple[list[tuple[str, bytes]], dict[int, bytes]]
    ) -> JournalLog:
        self = cls(file, "", "")
        self._common, self._rest = kept
        return self

    def write(self, stream: int, data: bytes) -> None:
        self.file.write(stream, data)
        lines = (self._rest[stream] + data).split(b"\n")
        self._rest[stream] = lines.pop()
        for line in lines:
            self._send(stream, line)
        rest = self._rest[stream]
        if len(rest) > _LONGEST:
            self._rest[stream] = b""
            self._send(stream, rest, partial=True)

    def _send(self, stream: int, line: bytes, *, partial: bool = False) -> None:
        priority = _INFO if stream == 1 else _ERR
        if len(line) >= 3 and line[:1] == b"<" and line[2:3] == b">" and line[1:2] in b"01234567":
            priority, line = line[1] - 48, line[3:]  # sd-daemon(3)'s prefix
        fields = [("MESSAGE", line), ("PRIORITY", b"%d" % priority), *self._common]
        if partial:
            fields.append(("CONTAINER_PARTIAL_MESSAGE", b"true"))
        self.journal.send(fields)

    def close(self) -> None:
        for stream, rest in self._rest.items():
            if rest:
                self._send(stream, rest, partial=True)  # no line end came, as conmon tells it
                self._rest[stream] = b""
        if self.journal.lost:
            self.file.write(
                2, b"rootless: the journal has not taken %d lines\n" % self.journal.lost
            )
        self.journal.close()
        self.file.close()


_EVENT_FIELDS = (
    ("Type", "PODMAN_TYPE"),
    ("Status", "PODMAN_EVENT"),
    ("Time", "PODMAN_TIME"),
    ("Name", "PODMAN_NAME"),
    ("ID", "PODMAN_ID"),
    ("Image", "PODMAN_IMAGE"),
    ("ContainerExitCode", "PODMAN_EXIT_CODE"),
    ("PodID", "PODMAN_POD_ID"),
    ("Network", "PODMAN_NETWORK_NAME"),
    ("HealthStatus", "PODMAN_HEALTH_STATUS"),
    ("HealthLog", "PODMAN_HEALTH_LOG"),
    ("HealthFailingStreak", "PODMAN_HEALTH_FAILING_STREAK"),
    ("Error", "ERROR"),
)


def event_fields(event: dict[str, Any], text: str) -> list[tuple[str, bytes]]:
    """An event as Podman's events/logger journald writes it."""
    from rootless import quickjson as json

    fields = [
        ("SYSLOG_IDENTIFIER", b"rootless"),
        ("MESSAGE", text.encode("utf-8", "replace")),
        ("PRIORITY", b"6"),
    ]
    for key, name in _EVENT_FIELDS:
        value = event.get(key)
        if value not in (None, ""):
            fields.append((name, str(value).encode("utf-8", "replace")))
    if event.get("Attributes"):
        labels = json.dumps(event["Attributes"], separators=(",", ":"))
        fields.append(("PODMAN_LABELS", labels.encode("utf-8", "replace")))
    return fields
