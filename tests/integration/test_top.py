"""`top`: read from outside; nothing of the image runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.container.top import DESCRIPTORS, duration, parse_descriptors
from rootless.errors import RootlessError
from tests.support.engine import Engine


def started(rootless: Engine, *args: str) -> int:
    rootless.ok("run", "-d", "--name", "web", "--network", "none", *args)
    return int(rootless.inspect("web")["State"]["Pid"])


def test_default_columns_are_podmans(rootless: Engine) -> None:
    started(rootless, "host", "sleep", "4343")
    lines = rootless.ok("top", "web").splitlines()
    heading = "USER        PID         PPID        %CPU        ELAPSED"
    assert lines[0].startswith(heading) and lines[0].endswith("TTY         TIME        COMMAND")
    assert lines[1].split()[:3] == ["root", "1", "0"]
    assert lines[1].endswith("sleep 4343") and len(lines) == 2


def test_every_descriptor_has_its_heading(rootless: Engine) -> None:
    started(rootless, "--user", "daemon:5", "host", "sleep", "4343")
    for name, heading in DESCRIPTORS.items():
        lines = rootless.ok("top", "web", name).splitlines()
        assert (lines[0], len(lines)) == (heading, 2), name


def test_ids_of_both_sides(rootless: Engine) -> None:
    pid = started(rootless, "--user", "1:2", "host", "sh", "-c", "sleep 77 & wait")
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    rows = [
        line.split() for line in rootless.ok("top", "web", "pid,ppid,uid,huid", "hpid").splitlines()
    ]
    assert rows[1] == ["1", "0", "1", status["Uid"].split()[0], str(pid)]
    assert rows[2][:3] == ["2", "1", "1"]


def started_when_ready(rootless: Engine, folder: Path, command: str) -> None:
    """Run a command that goes to sleep when it is done; returns then."""
    os.mkfifo(folder / "ready")
    started(
        rootless,
        "-v",
        f"{folder}:/mnt",
        "host",
        "sh",
        "-c",
        f"{command}; echo > /mnt/ready; exec sleep 77",
    )
    (folder / "ready").read_bytes()


def test_names_come_from_the_containers_files(rootless: Engine, tmp_path: Path) -> None:
    started_when_ready(rootless, tmp_path, "echo 'evil:x:0:0::/:' > /etc/passwd")
    assert rootless.ok("top", "web", "user").splitlines()[1] == "evil"


@pytest.mark.parametrize(
    "trick", ["mkfifo /etc/passwd", "ln -s /proc/1/mem /etc/passwd", "mkdir /etc/passwd"]
)
def test_case_16_passwd_that_is_no_file(rootless: Engine, tmp_path: Path, trick: str) -> None:
    started_when_ready(rootless, tmp_path, f"rm /etc/passwd; {trick}")
    assert rootless.ok("top", "web", "user").splitlines()[1] == "0"


def test_case_11_ps_of_the_image_never_runs(rootless: Engine, tmp_path: Path) -> None:
    """An image's own ps would run with the caller's rights: no argument makes `top` start it."""
    for folder in ("bin", "etc", "proc", "dev", "sys", "tmp", "usr", "run"):
        (tmp_path / folder).mkdir()
    busybox = Path("/bin/busybox").read_bytes()
    (tmp_path / "bin/sh").write_bytes(busybox)
    (tmp_path / "bin/sh").chmod(0o755)
    evil = tmp_path / "bin/ps"
    evil.write_text("#!/bin/sh\necho evil > /tmp/ran\n")
    evil.chmod(0o755)
    rootless.ok(
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "--rootfs",
        str(tmp_path),
        "/bin/sh",
        "-c",
        "sleep 55",
    )
    for args in ((), ("-ef",), ("aux",), ("-eo", "pid,args"), ("pid", "args")):
        rootless("top", "web", *args)
    assert not (tmp_path / "tmp/ran").exists()
    assert "ps(1) is not run in the container" in rootless.fails("top", "web", "-ef")


def test_states(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    assert rootless.fails("top", "web") == "Error: top can only be used on running containers\n"
    assert (
        rootless.fails("top") == "Error: you must provide the name or id of a running container\n"
    )
    assert rootless.fails("top", "nosuch").startswith(
        'Error: unable to look up requested container: no container with name or ID "nosuch" found: no such container'
    )


def test_latest(rootless: Engine) -> None:
    started(rootless, "host", "sleep", "88")
    assert rootless.ok("top", "--latest", "args").splitlines() == ["COMMAND", "sleep 88"]


def test_control_characters_stay_in_their_cell(rootless: Engine) -> None:
    """Case 50: a name with a line end makes no line of its own."""
    started(rootless, "host", "bash", "-c", r"exec -a $'a\nb\tc' sleep 88")
    assert rootless.ok("top", "web", "args").splitlines()[1] == r"a\nb\tc 88"


def test_descriptor_words() -> None:
    assert parse_descriptors(["pid,args", "%C"]) == ["pid", "args", "pcpu"]
    assert (
        parse_descriptors(["-eo", "user,pid"])
        == parse_descriptors(["-ouser,pid"])
        == ["user", "pid"]
    )
    assert len(parse_descriptors([])) == 8
    for words in (["-ef"], ["foo"], ["PID"], ["-o"]):
        with pytest.raises(RootlessError):
            parse_descriptors(words)


@pytest.mark.parametrize(
    ("span_ns", "text"),
    [
        (0, "0s"), (1, "1ns"), (1500, "1.5µs"), (20_000_000, "20ms"), (1_000_000_000, "1s"),
        (61_500_000_000, "1m1.5s"), (3_600_000_000_000, "1h0m0s"), (5_025_000_000_001, "1h23m45.000000001s"),
    ],
)  # fmt: skip
def test_duration_as_go_prints_it(span_ns: int, text: str) -> None:
    assert duration(span_ns) == text
