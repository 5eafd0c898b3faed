"""HTTP/1.1 as a client of registries needs it (RFC 9112): one connection, one request at a time.

http.client reads headers with the email package and costs a pull more than all else that it imports; this reads what a
registry may send, bounded, and refuses what could be read in two ways.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Iterable

    Socket = socket.socket | ssl.SSLSocket

_HEAD_MAX = 64 << 10
_LINE_MAX = 4 << 10
_INTERIM_MAX = 10
_READ = 64 << 10
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


class BadAnswer(Exception):
    """What came is not an HTTP answer."""


class CutOff(Exception):
    """The connection ended before the answer did."""


class Connection:
    """One connection; `is_idle` when it can take a request."""

    __slots__ = ("_buffer", "_chunked", "_keep", "_left", "_start", "answered", "sock")

    def __init__(self, sock: Socket) -> None:
        self.sock = sock
        self._buffer = b""
        self._start = 0
        # Bytes of the body still to come: None until the connection ends.
        self._left: int | None = 0
        self._chunked = False
        self._keep = True
        # Whether a byte of the current answer has come: before that, a server may have dropped an idle connection.
        self.answered = False

    def request(self, method: str, target: str, headers: Iterable[tuple[str, str]]) -> None:
        """Send a request's head; its body goes through `sock`."""
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join(lines)
        # A line end in a name, a tag or a token would let its author write requests of our user.
        if not head.isascii() or any(c < " " or c == "\x7f" for c in head.replace("\r\n", "")):
            raise BadAnswer("a request with control characters")
        if head.count("\r\n") != len(lines) - 1 or " " in target:
            raise BadAnswer("a request with line ends")
        self.answered = False
        self.sock.sendall(f"{head}\r\n\r\n".encode("ascii"))

    def response(self, method: str) -> tuple[int, list[tuple[str, str]]]:
        """Read an answer's head; its body follows by readinto()."""
        for _ in range(_INTERIM_MAX):
            status, headers, version = self._head()
            if status >= 200 or status == 101:
                break
        else:
            raise BadAnswer("endless interim answers")
        self._frame(method, status, headers, version)
        return status, headers

    @property
    def length(self) -> int | None:
        """What is left of a body of known length."""
        return None if self._chunked else self._left

    @property
    def is_idle(self) -> bool:
        return self._keep and self._left == 0 and self._start == len(self._buffer)

    def readinto(self, view: memoryview) -> int:
        """Read some of the body; 0 is its proper end."""
        if self._left == 0:
            if not self._chunked:
                return 0
            self._left = self._chunk_size()
            if self._left == 0:
                self._trailers()
                self._chunked = False
                return 0
        wanted = len(view) if self._left is None else min(len(view), self._left)
        if self._start < len(self._buffer):
            data = self._buffer[self._start : self._start + wanted]
            self._start += len(data)
            view[: len(data)] = data
            count = len(data)
        else:
            count = self.sock.recv_into(view, wanted)
            if not count:
                if self._left is None:
                    self._left, self._keep = 0, False
                    return 0
                raise CutOff
        if self._left is not None:
            self._left -= count
            if self._left == 0 and self._chunked:
                if self._line():
                    raise BadAnswer("a chunk without an end")
        return count

    def close(self) -> None:
        self.sock.close()

    def _frame(
        self, method: str, status: int, headers: list[tuple[str, str]], version: str
    ) -> None:
        """Find out how long the body is (RFC 9112, 6.3)."""
        connection, codings = "", ""
        lengths: set[str] = set()
        for name, value in headers:
            if name == "connection":
                connection += f",{value.lower()}"
            elif name == "content-length":
                lengths.update(part.strip() for part in value.split(","))
            elif name == "transfer-encoding":
                codings += f",{value.lower()}"
        words = {word.strip() for word in connection.split(",")}
        self._keep = "close" not in words and (version == "HTTP/1.1" or "keep-alive" in words)
        self._chunked = False
        if method == "HEAD" or status in (204, 304):
            self._left = 0
        elif codings:
            if codings.strip(", ") != "chunked":
                raise BadAnswer(f"transfer coding {codings[1:50]!r}")
            if lengths:
                self._keep = (
                    False  # the two contradict each other; nothing after this is to be trusted
                )
            self._chunked, self._left = True, 0
        elif lengths:
            text = lengths.pop()
            if lengths or not (text.isascii() and text.isdigit()) or len(text) > 18:
                raise BadAnswer(
                    "contradictory lengths" if lengths else "a length that is no number"
                )
            self._left = int(text)
        else:
            self._left, self._keep = None, False

    def _head(self) -> tuple[int, list[tuple[str, str]], str]:
        end = -1
        while end < 0:
            end = self._buffer.find(b"\r\n\r\n", self._start)
            if end >= 0:
                break
            if len(self._buffer) - self._start > _HEAD_MAX:
                raise BadAnswer(f"a head of more than {_HEAD_MAX} bytes")
            self._fill()
        lines = self._buffer[self._start : end].decode("latin-1").split("\r\n")
        self._start = end + 4
        version, _, rest = lines[0].partition(" ")
        code = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit()):
            raise BadAnswer("no HTTP answer")
        headers = []
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or not name or not _TOKEN.issuperset(name):
                raise BadAnswer("a malformed header")
            headers.append((name, value.strip(" \t")))
        return int(code), headers, version

    def _fill(self) -> None:
        data = self.sock.recv(_READ)
        if not data:
            raise CutOff
        self.answered = True
        self._buffer = self._buffer[self._start :] + data
        self._start = 0

    def _line(self) -> bytes:
        while True:
            end = self._buffer.find(b"\r\n", self._start)
            if end >= 0:
                line = self._buffer[self._start : end]
                self._start = end + 2
                return line
            if len(self._buffer) - self._start > _LINE_MAX:
                raise BadAnswer("an endless line")
            self._fill()

    def _chunk_size(self) -> int:
        text = self._line().partition(b";")[0].strip()
        if not text or len(text) > 15 or text.strip(b"0123456789abcdefABCDEF"):
            raise BadAnswer("a chunk without a size")
        return int(text, 16)

    def _trailers(self) -> None:
        total = 0
        while line := self._line():
            total += len(line)
            if total > _HEAD_MAX:
                raise BadAnswer("endless trailers")
