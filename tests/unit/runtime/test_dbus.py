"""D-Bus messages by the specification's alignment rules, and a conversation over a socket with a false manager."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import Conflict
from rootless.runtime import dbus, scope


@pytest.mark.parametrize(
    ("signature", "values", "data"),
    [
        ("y", (7,), "07"),
        ("bu", (True, 5), "01000000 05000000"),
        ("yt", (1, 2), "01 00000000000000 0200000000000000"),
        ("s", ("héé",), "05000000 68c3a9c3a9 00"),
        ("g", ("a(sv)",), "05 6128737629 00"),
        ("au", ([1, 2],), "08000000 01000000 02000000"),
        ("at", ([],), "00000000 00000000"),
        ("v", (("u", 9),), "01 75 00 00 09000000"),
        ("a(yv)", ([(1, ("s", "x"))],), "0a000000 00000000 01 01 73 00 01000000 78 00"),
        ("a{sb}", ({"k": True},), "0c000000 00000000 01000000 6b00 0000 01000000"),
        ("ai", ([-1],), "04000000 ffffffff"),
    ],
)
def test_marshalling(signature: str, values: tuple[Any, ...], data: str) -> None:
    assert dbus.marshal(signature, *values) == bytes.fromhex(data)


def test_both_ways() -> None:
    signature = "ssa(sv)a(sa(sv))"
    values = (
        "x.scope", "fail", [("Slice", ("s", "user.slice")), ("PIDs", ("au", [1, 2]))], [("y", [("D", ("b", 1))])]
    )  # fmt: skip
    assert dbus.unmarshal(signature, dbus.marshal(signature, *values)) == (
        "x.scope", "fail", [("Slice", "user.slice"), ("PIDs", [1, 2])], [("y", [("D", 1)])]
    )  # fmt: skip


def message(
    kind: int, fields: list[tuple[int, tuple[str, Any]]], signature: str = "", *body: Any
) -> bytes:
    content = dbus.marshal(signature, *body)
    if signature:
        fields = [*fields, (8, ("g", signature))]
    head = dbus.marshal("yyyyuua(yv)", ord("l"), kind, 0, 1, len(content), 1, fields)
    return head + bytes(-len(head) % 8) + content


class FalseManager:
    """Answers calls as systemd would; keeps what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.busy = 0
        self.gone = False
        self.result = "done"
        (folder / "systemd").mkdir()
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(folder / "systemd/private"))
        self.server.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                line = stream.readline()
                assert (
                    line
                    == b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n"
                )
                assert stream.readline() == b"BEGIN\r\n"
                connection.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
                while head := stream.read(16):
                    body_size, serial, fields_size = struct.unpack_from("<III", head, 4)
                    rest = stream.read(fields_size + -fields_size % 8 + body_size)
                    (fields_list,) = dbus.unmarshal(
                        "a(yv)", head[12:16] + bytes(4) + rest[:fields_size]
                    )
                    fields = dict(fields_list)
                    body = dbus.unmarshal(fields.get(8, ""), rest[fields_size + -fields_size % 8 :])
                    self.calls.append((fields[3], body))
                    for part in self._answer(fields[3], body, serial):
                        # In pieces, as a stream may be.
                        connection.sendall(part[:10])
                        connection.sendall(part[10:])

    def _answer(self, member: str, body: tuple[Any, ...], serial: int) -> Iterator[bytes]:
        reply = (5, ("u", serial))
        if member == "StartTransientUnit" and self.busy:
            self.busy -= 1
            name = "org.freedesktop.systemd1.UnitExists"
            yield message(3, [(4, ("s", name)), reply], "s", "it exists")
        elif member == "StartTransientUnit":
            # The job may be over before the call is answered.
            yield message(
                4, [(3, ("s", "JobRemoved"))], "uoss", 6, "/job/6", "other.scope", "failed"
            )
            yield message(4, [(3, ("s", "JobRemoved"))], "uoss", 7, "/job/7", body[0], self.result)
            yield message(2, [reply], "o", "/job/7")
        elif member == "GetUnit" and self.gone:
            yield message(3, [(4, ("s", "org.freedesktop.systemd1.NoSuchUnit")), reply])
        elif member == "GetUnit" and self.busy:
            yield message(2, [reply], "o", "/unit")
        elif member == "GetUnit":
            yield message(2, [reply], "o", "/unit")
            yield message(4, [(3, ("s", "UnitRemoved"))], "so", body[0], "/unit")
            self.gone = True
        else:
            yield message(2, [reply])


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FalseManager]:
    monkeypatch.setattr(scope, "sockets", lambda uid: [(str(tmp_path / "systemd/private"), False)])
    false = FalseManager(tmp_path)
    yield false
    false.close()


def test_a_scope_is_asked_for_and_waited_for(manager: FalseManager) -> None:
    scope.start("x.scope", [7, 8], slice_name="user.slice", description="d", stop_timeout_s=3)
    member, (unit, mode, properties, auxiliary) = manager.calls[0]
    assert (member, unit, mode, auxiliary) == ("StartTransientUnit", "x.scope", "fail", [])
    assert dict(properties) == {
        "Description": "d", "Slice": "user.slice", "PIDs": [7, 8], "Delegate": 1,
        "CollectMode": "inactive-or-failed", "TasksMax": 2**64 - 1, "TimeoutStopUSec": 3_000_000,
    }  # fmt: skip


def test_a_scope_of_the_run_before_is_waited_for(manager: FalseManager) -> None:
    manager.busy = 1
    scope.start("x.scope", [7], slice_name="user.slice", description="d")
    assert [member for member, _ in manager.calls] == [
        "StartTransientUnit",
        "GetUnit",
        "GetUnit",
        "StartTransientUnit",
    ]


def test_a_scope_that_stays_is_a_conflict(
    manager: FalseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scope, "_EXIT_S", 0.05)
    manager.busy = 100
    with pytest.raises(Conflict, match=r"the scope x\.scope exists and has processes"):
        scope.start("x.scope", [7], slice_name="user.slice", description="d")


def test_a_failed_job_is_an_error(manager: FalseManager) -> None:
    manager.result = "canceled"
    with pytest.raises(dbus.CallError, match=r"could not start x\.scope: canceled"):
        scope.start("x.scope", [7], slice_name="user.slice", description="d")


def test_attach(manager: FalseManager) -> None:
    scope.attach("x.scope", "/container", [5])
    assert manager.calls == [("AttachProcessesToUnit", ("x.scope", "/container", [5]))]


def test_where_the_manager_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert scope.sockets(1000) == [
        ("/run/user/1000/systemd/private", False),
        ("/run/user/1000/bus", True),
    ]
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/elsewhere")
    assert ("/elsewhere/bus", True) in scope.sockets(1000)
    assert scope.sockets(0)[0] == ("/run/systemd/private", False)


def test_nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scope, "sockets", lambda uid: [(str(tmp_path / "none"), False)])
    assert not scope.is_available()
    with pytest.raises(FileNotFoundError):
        scope.connect()
