"""Entries of the journal as they go over its socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.container.logs import FileLog
from rootless.systemd.journal import Journal, JournalLog, encode, event_fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "j"))
        end.settimeout(5)
        yield end


def parse(data: bytes) -> dict[str, bytes]:
    """The other side of the protocol."""
    found: dict[str, bytes] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        found[name.decode()] = value
    return found


def test_a_value_with_line_ends_cannot_make_fields() -> None:
    fields = [("MESSAGE", b"a\nPRIORITY=0\n"), ("PRIORITY", b"6")]
    assert parse(encode(fields)) == {"MESSAGE": b"a\nPRIORITY=0\n", "PRIORITY": b"6"}


def test_lines_of_a_container(journal: socket.socket, tmp_path: Path) -> None:
    log = JournalLog(FileLog(str(tmp_path / "log")), "ab" * 32, "web", "t", str(tmp_path / "j"))
    log.write(1, b"one\ntw")
    log.write(2, b"<4>bad\n")
    log.write(1, b"o\n")
    log.write(1, b"rest")
    log.close()
    found = [parse(journal.recv(4096)) for _ in range(4)]
    assert [(one["MESSAGE"], one["PRIORITY"]) for one in found] == [
        (b"one", b"6"), (b"bad", b"4"), (b"two", b"6"), (b"rest", b"6"),
    ]  # fmt: skip
    assert found[0]["CONTAINER_ID"] == b"abababababab"
    assert found[0]["CONTAINER_ID_FULL"] == b"ab" * 32
    assert found[0]["CONTAINER_NAME"] == b"web"
    assert found[0]["CONTAINER_TAG"] == b"t"
    assert found[0]["SYSLOG_IDENTIFIER"] == b"t"
    assert b"one" in (tmp_path / "log").read_bytes()


def test_long_lines_go_in_parts(journal: socket.socket, tmp_path: Path) -> None:
    log = JournalLog(FileLog(str(tmp_path / "log")), "ab" * 32, "web", "", str(tmp_path / "j"))
    log.write(1, b"x" * 300_000)
    data, ancillary, _, _ = journal.recvmsg(1 << 20, 100)
    if not data:  # too large for a datagram: a sealed file
        fd = int.from_bytes(ancillary[0][2][:4], "little")
        data = os.pread(fd, 1 << 20, 0)
        os.close(fd)
    found = parse(data)
    assert len(found["MESSAGE"]) == 300_000
    assert found["CONTAINER_PARTIAL_MESSAGE"] == b"true"
    log.close()


def test_too_large_for_a_datagram(journal: socket.socket, tmp_path: Path) -> None:
    sender = Journal(str(tmp_path / "j"))
    assert sender.send([("MESSAGE", b"x" * 2_000_000)])
    data, ancillary, _, _ = journal.recvmsg(100, 100)
    assert data == b""
    fd = int.from_bytes(ancillary[0][2][:4], "little")
    assert parse(os.pread(fd, 3_000_000, 0))["MESSAGE"] == b"x" * 2_000_000
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"y", 0)
    os.close(fd)
    sender.close()


def test_no_journal_loses_lines_and_says_so(tmp_path: Path) -> None:
    log = JournalLog(FileLog(str(tmp_path / "log")), "ab" * 32, "web", "", str(tmp_path / "none"))
    log.write(1, b"one\ntwo\n")
    log.close()
    text = (tmp_path / "log").read_bytes()
    assert b"one" in text and b"the journal has not taken 2 lines" in text


def test_a_restarted_journal(journal: socket.socket, tmp_path: Path) -> None:
    sender = Journal(str(tmp_path / "j"))
    assert sender.send([("MESSAGE", b"1")])
    journal.close()
    (tmp_path / "j").unlink()
    again = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    again.bind(str(tmp_path / "j"))
    assert sender.send([("MESSAGE", b"2")])
    assert parse(again.recv(100)) == {"MESSAGE": b"2"}
    again.close()
    sender.close()


def test_events() -> None:
    event = {
        "Type": "container",
        "Status": "died",
        "Name": "n",
        "ContainerExitCode": 0,
        "Attributes": {"a": "b\nc"},
    }
    fields = dict(event_fields(event, "text"))
    assert fields["PODMAN_EVENT"] == b"died" and fields["PODMAN_EXIT_CODE"] == b"0"
    assert fields["PODMAN_LABELS"] == b'{"a":"b\\nc"}'
