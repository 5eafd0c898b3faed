from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from rootless.image.http import BadAnswer, Connection, CutOff


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    yield Connection(ours), theirs
    ours.close()
    theirs.close()


def read(connection: Connection, size: int = 7) -> bytes:
    out, buffer = b"", memoryview(bytearray(size))
    while count := connection.readinto(buffer):
        out += buffer[:count]
    return out


def answer(
    pair: tuple[Connection, socket.socket], data: bytes, *, close: bool = True
) -> Connection:
    connection, theirs = pair

    def send() -> None:
        try:
            theirs.sendall(data)
        except OSError:
            pass  # the reader has seen enough
        if close:
            try:
                theirs.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    threading.Thread(target=send, daemon=True).start()
    return connection


@pytest.mark.parametrize(
    ("data", "body", "idle"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
        (b"HTTP/1.1 200\r\ncontent-length:5 \r\n\r\nhello", b"hello", True),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\nContent-Length: 5\r\n\r\nhello",
            b"hello",
            True,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            b"hello",
            False,
        ),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
        (
            b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
            b"hello",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end", False),
        (b"HTTP/1.1 204 No\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5;x=y\r\nhello\r\nA\r\n, chunked!\r\n0\r\nTrailer: x\r\n\r\n",
            b"hello, chunked!",
            True,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            b"x",
            False,
        ),
    ],
)
def test_answers(
    pair: tuple[Connection, socket.socket], data: bytes, body: bytes, idle: bool
) -> None:
    connection = answer(pair, data)
    connection.response("GET")
    assert read(connection) == body
    assert connection.is_idle is idle


def test_head_has_no_body(pair: tuple[Connection, socket.socket]) -> None:
    connection = answer(pair, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", close=False)
    status, headers = connection.response("HEAD")
    assert (status, headers) == (200, [("content-length", "5")])
    assert connection.is_idle


def test_two_requests(pair: tuple[Connection, socket.socket]) -> None:
    connection = answer(pair, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", close=False)
    connection.request("GET", "/x?y", [("Host", "h")])
    connection.response("GET")
    assert read(connection) == b"a"
    assert pair[1].recv(100) == b"GET /x?y HTTP/1.1\r\nHost: h\r\n\r\n"
    answer(pair, b"HTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nb")
    assert connection.response("GET")[0] == 404
    assert read(connection) == b"b"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"HTTP/1.1 100 Go\r\n\r\n" * 11,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 10_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 20_000,
    ],
)
def test_case_32_malformed_answers(pair: tuple[Connection, socket.socket], data: bytes) -> None:
    connection = answer(pair, data)
    with pytest.raises(BadAnswer):
        connection.response("GET")
        read(connection)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_cut_off(pair: tuple[Connection, socket.socket], data: bytes) -> None:
    connection = answer(pair, data)
    with pytest.raises(CutOff):
        connection.response("GET")
        read(connection)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/x\r\nEvil: y", []),
        ("/x y", []),
        ("/é", []),
        ("/", [("A", "b\r\nEvil: y")]),
        ("/", [("A", "b\nEvil: y")]),
        ("/", [("A", "\0")]),
    ],
)
def test_requests_cannot_be_smuggled(
    pair: tuple[Connection, socket.socket], target: str, headers: list[tuple[str, str]]
) -> None:
    with pytest.raises(BadAnswer):
        pair[0].request("GET", target, headers)
