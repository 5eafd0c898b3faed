"""rootless.linux.sockets: what the runtime uses of `socket`, without it."""

from __future__ import annotations

import os
import socket as standard
from pathlib import Path

import pytest

from rootless.linux import sockets as socket


def test_the_constants_are_the_standard_ones() -> None:
    for name in (
        "AF_UNIX",
        "AF_INET",
        "SOCK_SEQPACKET",
        "SOCK_CLOEXEC",
        "SOL_SOCKET",
        "SO_PEERCRED",
        "MSG_DONTWAIT",
    ):
        assert getattr(socket, name) == getattr(standard, name)


def test_descriptors_cross_a_pair() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    with ours, theirs:
        assert not os.get_inheritable(ours.fileno())
        reader, writer = os.pipe()
        ours.sendmsg([b"k", b"data"], socket.rights((reader, writer)))
        os.close(reader)
        os.close(writer)
        data, ancillary, _, _ = theirs.recvmsg(100, 256, socket.MSG_CMSG_CLOEXEC)
        reader, writer = socket.descriptors(ancillary)
        os.write(writer, b"through")
        assert (data, os.read(reader, 100)) == (b"kdata", b"through")
        os.close(reader)
        os.close(writer)
    assert ours.fileno() == -1


def test_no_descriptors_make_no_ancillary_data() -> None:
    assert socket.rights(()) == []
    assert socket.descriptors([]) == []
    assert socket.descriptors([(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"\1\0\0\0\2\0")]) == [1]


def test_a_listener_accepts(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(tmp_path / "s"))
            server, _ = listener.accept()
            with server:
                assert not os.get_inheritable(server.fileno())
                client.sendall(b"x")
                assert server.recv(10) == b"x"


def test_errors_are_the_standard_ones(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end,
        pytest.raises(FileNotFoundError),
    ):
        end.connect(str(tmp_path / "missing"))
