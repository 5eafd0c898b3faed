"""As much of D-Bus as it takes to ask systemd for a scope: a blocking connection, calls, and the signals between.

D-Bus specification 0.43. The libraries for it cost more to import (jeepney 11 ms) than the call itself takes (3 ms).
Little-endian, no descriptors, no introspection: a value goes with its signature, and a struct is a tuple.
"""

from __future__ import annotations

import os
import select
import struct
import time

from rootless.errors import RootlessError
from rootless.linux import sockets as socket
from rootless.linux.process import host_uid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION = 1, 2, 3, 4, 5, 6
_SIGNATURE = 8
# Numbers by type code: the letter for struct, and their size, which is their alignment too.
_NUMBERS = {
    "y": ("B", 1),
    "b": ("I", 4),
    "n": ("h", 2),
    "q": ("H", 2),
    "i": ("i", 4),
    "u": ("I", 4),
    "x": ("q", 8),
    "t": ("Q", 8),
    "d": ("d", 8),
}
_ALIGNMENT = {
    **{code: size for code, (_, size) in _NUMBERS.items()},
    "g": 1,
    "v": 1,
    "(": 8,
    "{": 8,
}
_MAX_BYTES = 1 << 20
_TIMEOUT_S = 30.0


class CallError(RootlessError):
    """The other side answered a call with an error; `name` is that error's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class Message:
    """What came in: an answer or a signal."""

    __slots__ = ("body", "fields", "kind")

    def __init__(self, kind: int, fields: dict[int, Any], body: tuple[Any, ...]) -> None:
        self.kind = kind
        self.fields = fields
        self.body = body

    @property
    def member(self) -> str:
        return str(self.fields.get(_MEMBER, ""))


# marshalling


def _split(signature: str) -> list[str]:
    """The complete types of a signature, in their order."""
    types = []
    start = depth = 0
    for position, code in enumerate(signature):
        if code in "({":
            depth += 1
        elif code in ")}":
            depth -= 1
        if depth == 0 and code != "a":
            types.append(signature[start : position + 1])
            start = position + 1
    return types


def _align(size: int, to: int) -> int:
    return -size % to


def _put(out: bytearray, kind: str, value: Any) -> None:
    """Append one value; `out` begins at an alignment of 8."""
    code = kind[0]
    out.extend(bytes(_align(len(out), _ALIGNMENT.get(code, 4))))
    if code in _NUMBERS:
        out.extend(struct.pack("<" + _NUMBERS[code][0], value))
    elif code in "so":
        data = value.encode()
        out.extend(struct.pack("<I", len(data)) + data + b"\0")
    elif code == "g":
        out.extend(bytes([len(value)]) + value.encode() + b"\0")
    elif code == "v":
        inner, content = value
        _put(out, "g", inner)
        _put(out, inner, content)
    elif code in "({":
        for inner, content in zip(_split(kind[1:-1]), value, strict=True):
            _put(out, inner, content)
    elif code == "a":
        inner = kind[1:]
        length_at = len(out)
        out.extend(bytes(4))
        # The padding before the first element does not count to the length, and is there without elements too.
        out.extend(bytes(_align(len(out), _ALIGNMENT.get(inner[0], 4))))
        start = len(out)
        for content in value.items() if isinstance(value, dict) else value:
            _put(out, inner, content)
        struct.pack_into("<I", out, length_at, len(out) - start)
    else:
        raise ValueError(f"type {kind!r} is not supported")


def _get(data: bytes, at: int, kind: str) -> tuple[Any, int]:
    """One value and where the next begins."""
    code = kind[0]
    at += _align(at, _ALIGNMENT.get(code, 4))
    if code in _NUMBERS:
        letter, size = _NUMBERS[code]
        return struct.unpack_from("<" + letter, data, at)[0], at + size
    if code in "so":
        (size,) = struct.unpack_from("<I", data, at)
        return data[at + 4 : at + 4 + size].decode(), at + 4 + size + 1
    if code == "g":
        size = data[at]
        return data[at + 1 : at + 1 + size].decode(), at + 1 + size + 1
    if code == "v":
        inner, at = _get(data, at, "g")
        return _get(data, at, inner)
    if code in "({":
        members = []
        for inner in _split(kind[1:-1]):
            member, at = _get(data, at, inner)
            members.append(member)
        return tuple(members), at
    if code == "a":
        (size,) = struct.unpack_from("<I", data, at)
        at += 4
        at += _align(at, _ALIGNMENT.get(kind[1], 4))
        end = at + size
        elements = []
        while at < end:
            element, at = _get(data, at, kind[1:])
            elements.append(element)
        return elements, at
    raise ValueError(f"type {kind!r} is not supported")


def marshal(signature: str, *values: Any) -> bytes:
    """Values in D-Bus's little-endian form (specification, "Marshaling")."""
    out = bytearray()
    for kind, value in zip(_split(signature), values, strict=True):
        _put(out, kind, value)
    return bytes(out)


def unmarshal(signature: str, data: bytes) -> tuple[Any, ...]:
    """The values of a message's body."""
    values = []
    at = 0
    for kind in _split(signature):
        value, at = _get(data, at, kind)
        values.append(value)
    return tuple(values)


def _call_message(
    serial: int,
    destination: str,
    path: str,
    interface: str,
    member: str,
    signature: str,
    body: bytes,
) -> bytes:
    fields: list[tuple[int, tuple[str, str]]] = [
        (_PATH, ("o", path)),
        (_INTERFACE, ("s", interface)),
        (_MEMBER, ("s", member)),
        (_DESTINATION, ("s", destination)),
    ]
    if signature:
        fields.append((_SIGNATURE, ("g", signature)))
    head = marshal("yyyyuua(yv)", ord("l"), _CALL, 0, 1, len(body), serial, fields)
    return head + bytes(_align(len(head), 8)) + body


# the connection


class Connection:
    """A connection to a bus, or to a peer that speaks the protocol without one."""

    __slots__ = ("_buffer", "_serial", "_socket", "signals")

    def __init__(self, path: str, *, is_bus: bool) -> None:
        """Connect and authenticate; OSError where there is no such socket or nobody listens."""
        self._buffer = b""
        self._serial = 0
        self.signals: list[Message] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.connect(path)
            _, peer, _ = struct.unpack(
                "3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            )
            if peer not in (0, os.geteuid()):
                raise PermissionError(1, f"{path} is served by uid {peer}")
            identity = str(host_uid()).encode().hex()
            self._socket.sendall(f"\0AUTH EXTERNAL {identity}\r\nBEGIN\r\n".encode())
            line = self._read_line()
            if not line.startswith(b"OK "):
                raise ConnectionRefusedError(
                    111, f"{path}: authentication failed: {line.decode(errors='replace')}"
                )
            if is_bus:
                self.call(
                    "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello"
                )
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *values: Any,
    ) -> tuple[Any, ...]:
        """Call a method and wait for its answer; signals that come before it are kept in `signals`."""
        self._serial += 1
        serial = self._serial
        body = marshal(signature, *values)
        self._socket.sendall(
            _call_message(serial, destination, path, interface, member, signature, body)
        )
        while True:
            message = self._receive()
            if message.kind == _SIGNAL:
                self.signals.append(message)
            elif message.fields.get(_REPLY_SERIAL) == serial:
                if message.kind == _ERROR:
                    text = (
                        message.body[0] if message.body and isinstance(message.body[0], str) else ""
                    )
                    raise CallError(message.fields.get(_ERROR_NAME, ""), text)
                return message.body

    def next_signal(self, deadline: float | None = None) -> Message | None:
        """The oldest signal that has not been taken, or the next one to come; None where it does not by `deadline`."""
        if self.signals:
            return self.signals.pop(0)
        while True:
            if deadline is not None and not self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                    return None
            message = self._receive()
            if message.kind == _SIGNAL:
                return message

    def _receive(self) -> Message:
        head = self._read(16)
        if head[0] != ord("l"):
            raise ConnectionError(71, "D-Bus: a message in big-endian")
        kind = head[1]
        body_size, _, fields_size = struct.unpack_from("<III", head, 4)
        if body_size + fields_size > _MAX_BYTES:
            raise ConnectionError(71, "D-Bus: a message beyond all measure")
        rest = self._read(fields_size + _align(fields_size, 8) + body_size)
        # The array of fields begins at offset 16, an alignment of 8, so that it can be read by itself.
        fields: dict[int, Any] = {}
        at = 0
        while at < fields_size:
            (code, value), at = _get(rest, at, "(yv)")
            fields[code] = value
        body = rest[fields_size + _align(fields_size, 8) :]
        return Message(kind, fields, unmarshal(fields.get(_SIGNATURE, ""), body))

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _read_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _fill(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError(104, "D-Bus: the other side has closed the connection")
        self._buffer += data
