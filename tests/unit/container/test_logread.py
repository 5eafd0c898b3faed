"""Reading logs: last lines, spans of time, rotation, what is still being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.container.logread import Log, Span, read_all
from rootless.container.logs import FileLog

SECOND = "2026-01-31T12:00:{:02d}.000000000+00:00"
START = 1_769_860_800  # 2026-01-31T12:00:00Z


def line(number: int, text: str, tag: str = "F", stream: str = "stdout") -> bytes:
    return f"{SECOND.format(number)} {stream} {tag} {text}".encode()


def write(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(one + b"\n" for one in lines))


def everything(log: Log, *, tail: int = -1, span: Span | None = None) -> list[bytes]:
    return [one for lines in read_all(log, span or Span(None, None), tail) for one in lines]


def test_the_older_file_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    write(tmp_path / "ctr.log.1", [line(0, "a")])
    write(path, [line(1, "b")])
    assert everything(Log(str(path))) == [line(0, "a"), line(1, "b")]


def test_no_file_is_an_empty_log(tmp_path: Path) -> None:
    assert everything(Log(str(tmp_path / "none"))) == []
    assert everything(Log(str(tmp_path / "none")), tail=3) == []


def test_case_45_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(line(0, "secret") + b"\n")
    (tmp_path / "ctr.log").symlink_to("secret")
    with pytest.raises(OSError):
        everything(Log(str(tmp_path / "ctr.log")))


@pytest.mark.parametrize(
    ("count", "first"), [(0, 200), (1, 199), (5, 195), (150, 50), (200, 0), (1000, 0)]
)
def test_tail(tmp_path: Path, count: int, first: int) -> None:
    path = tmp_path / "ctr.log"
    lines = [line(number % 60, f"{number} {'x' * 1000}") for number in range(200)]
    write(tmp_path / "ctr.log.1", lines[:100])
    write(path, lines[100:])
    assert everything(Log(str(path)), tail=count) == lines[first:]


def test_tail_counts_a_line_in_parts_once(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    lines = [line(0, "a"), line(1, "b", "P"), line(1, "c", "P"), line(1, "d"), line(2, "e", "P")]
    write(path, lines)
    assert everything(Log(str(path)), tail=1) == lines[4:]
    assert everything(Log(str(path)), tail=2) == lines[1:]
    assert everything(Log(str(path)), tail=3) == lines


def test_reading_goes_on_after_the_tail(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    write(path, [line(0, "a"), line(1, "b")])
    log = Log(str(path))
    assert everything(log, tail=1) == [line(1, "b")]
    with path.open("ab") as file:
        file.write(line(2, "c") + b"\n" + line(3, "not yet")[:20])
    assert everything(log) == [line(2, "c")]
    with path.open("ab") as file:
        file.write(line(3, "not yet")[20:] + b"\n")
    assert everything(log) == [line(3, "not yet")]
    log.close()


def test_rotation_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    write(path, [line(0, "a")])
    log = Log(str(path))
    assert everything(log) == [line(0, "a")]
    with path.open("ab") as file:
        file.write(line(1, "b") + b"\n")
    path.rename(tmp_path / "ctr.log.1")
    write(path, [line(2, "c")])
    assert everything(log) == [line(1, "b"), line(2, "c")]
    log.close()


def test_spans(tmp_path: Path) -> None:
    path = tmp_path / "ctr.log"
    lines = [line(number, str(number)) for number in range(10)]
    write(path, lines)

    def span(since: int | None, until: int | None) -> Span:
        return Span(
            None if since is None else (START + since) * 10**9,
            None if until is None else (START + until) * 10**9,
        )

    assert everything(Log(str(path)), span=span(3, None)) == lines[3:]
    assert everything(Log(str(path)), span=span(None, 3)) == lines[:4]
    assert everything(Log(str(path)), span=span(3, 5)) == lines[3:6]
    assert everything(Log(str(path)), span=span(11, None)) == []
    over = span(None, 3)
    everything(Log(str(path)), span=over)
    assert over.over


def test_reads_what_the_monitor_writes(tmp_path: Path) -> None:
    path = str(tmp_path / "ctr.log")
    writer = FileLog(path)
    writer.write(1, b"one\ntwo\nthr")
    writer.write(2, b"err\n")
    writer.write(1, b"ee\n")
    writer.close()
    log = Log(path)
    found = everything(log)
    assert [one[35:] for one in found] == [
        b" stdout F one",
        b" stdout F two",
        b" stdout P thr",
        b" stderr F err",
        b" stdout F ee",
    ]
    assert all(Span(None, None).moment(one) > 1_700_000_000 * 10**9 for one in found)
    log.close()


@pytest.mark.parametrize("files", [1, 2, 3, 5])
def test_as_many_files_as_are_wanted(tmp_path: Path, files: int) -> None:
    path = f"{tmp_path}/ctr.log"
    writer = FileLog(path, 200, files)
    for number in range(40):
        writer.write(1, b"%032d\n" % number)  # two lines a file
    writer.close()
    names = {"ctr.log", *(f"ctr.log.{number}" for number in range(1, files))}
    assert {one.name for one in tmp_path.iterdir()} == names
    numbers = [int(one.rpartition(b" ")[2]) for one in everything(Log(path, files))]
    assert numbers == list(range(40 - 2 * files, 40))
    last = [int(one.rpartition(b" ")[2]) for one in everything(Log(path, files), tail=3)]
    assert last == numbers[-3:]


def test_nothing_is_missed_between_two_looks(tmp_path: Path) -> None:
    """Several files may have been begun meanwhile, and one more while they are being opened."""
    path = f"{tmp_path}/ctr.log"
    writer, reader = FileLog(path, 200, 5), Log(path, 5)
    seen: list[int] = []
    number = 0
    for lines in (1, 1, 5, 8, 2, 7, 3):
        for _ in range(lines):
            writer.write(1, b"%032d\n" % number)
            number += 1
        for found in reader.read():
            seen += [int(one.rpartition(b" ")[2]) for one in found]
            if len(seen) < 20:
                writer.write(1, b"%032d\n" % number)
                number += 1
    writer.close()
    assert seen == list(range(number))
