"""`logs`: what Podman 5.4.2 prints for the same output."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import Engine


@pytest.fixture
def two(rootless: Engine) -> Engine:
    script = "echo out1; echo err1 >&2; printf partial; echo; printf nonl"
    rootless("run", "--name", "la", "--network", "none", "host", "sh", "-c", script)
    rootless("run", "--name", "lb", "--network", "none", "host", "printf", "b1\\nb2\\nb3\\n")
    return rootless


def test_streams_are_kept_apart(two: Engine) -> None:
    result = two("logs", "la")
    assert (result.out, result.err) == ("out1\npartial\nnonl", "err1\n")


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["--tail", "2", "lb"], "b2\nb3\n"),
        (["--tail", "0", "lb"], ""),
        (["--tail", "-1", "lb"], "b1\nb2\nb3\n"),
        (["--tail", "99", "lb"], "b1\nb2\nb3\n"),
        (["--tail", "1", "la"], "nonl"),
        (["--since", "1h", "lb"], "b1\nb2\nb3\n"),
        (["--since", "2100-01-01", "lb"], ""),
        (["--until", "2001-01-01T00:00:00Z", "lb"], ""),
        (["--until", "1h", "lb"], "b1\nb2\nb3\n"),
        (["--color", "lb"], "\033[37mb1\033[0m\n\033[37mb2\033[0m\n\033[37mb3\033[0m\n"),
        (["-n", "la", "lb"], "la out1\nla partial\nla nonllb b1\nlb b2\nlb b3\n"),
        (["-f", "lb"], "b1\nb2\nb3\n"),
        (["-l"], "b1\nb2\nb3\n"),
        (["-f", "--tail", "1", "lb"], "b3\n"),
    ],
)
def test_options(two: Engine, words: list[str], out: str) -> None:
    assert two("logs", *words).out == out


def test_several_containers_are_told_apart_by_id(two: Engine) -> None:
    identity = two.ok("ps", "-aq", "--filter", "name=lb")
    assert f"{identity} b1\n{identity} b2\n" in two("logs", "la", "lb").out


def test_timestamps(two: Engine) -> None:
    lines = two.ok("logs", "-t", "lb").splitlines()
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) "
    assert [re.sub(f"^{moment}", "", line) for line in lines] == ["b1", "b2", "b3"]


@pytest.mark.parametrize("options", [(), ("--rm",)], ids=["kept", "removed"])
def test_follow_ends_with_the_container(rootless: Engine, options: tuple[str, ...]) -> None:
    """Also where the container is removed before the follower has read its last line."""
    script = "echo one; while [ ! -e /root/go ]; do sleep 0.01; done; echo two"
    rootless.ok(
        "run", "-d", *options, "--name", "lf", "--network", "none", "host", "sh", "-c", script
    )
    with rootless.popen("logs", "-f", "lf", stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"one\n"
        rootless.ok("exec", "lf", "touch", "/root/go")
        assert follower.stdout.read() == b"two\n"
        assert follower.wait() == 0


def test_follow_across_a_restart(rootless: Engine) -> None:
    script = "echo begun; exec sleep 1000"
    rootless.ok("run", "-d", "--name", "web", "--network", "none", "host", "sh", "-c", script)
    reader = rootless.popen("logs", "-f", "web", stdout=subprocess.PIPE)
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"begun\n"
    rootless.ok("restart", "-t", "0", "web")
    assert reader.stdout.readline() == b"begun\n"
    rootless.ok("kill", "web")
    assert reader.stdout.read() == b""
    assert reader.wait(timeout=30) == 0
    reader.stdout.close()


def test_rotation_loses_nothing_that_is_kept(rootless: Engine) -> None:
    rootless(
        "run",
        "--name",
        "lr",
        "--log-opt",
        "max-size=20k",
        "--network",
        "none",
        "host",
        "seq",
        "1000",
    )
    lines = rootless.ok("logs", "lr").splitlines()
    first = int(lines[0])
    assert lines == [str(number) for number in range(first, 1001)]
    assert rootless.ok("logs", "--tail", "300", "lr").splitlines() == lines[-300:]


def test_a_long_line_is_one_line(rootless: Engine) -> None:
    script = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo next"
    rootless("run", "--name", "ll", "--network", "none", "host", "sh", "-c", script)
    lines = rootless.ok("logs", "-t", "ll").splitlines()
    assert [len(line.partition(" ")[2]) for line in lines] == [300000, 4]
    assert rootless.ok("logs", "--tail", "2", "ll").splitlines()[0] == "x" * 300000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "specify at least one container name or ID to log"),
        (["-l", "x"], "--latest and containers cannot be used together"),
        (["nonex"], 'no container with name or ID "nonex" found: no such container'),
        (["--since", "x", "a"], 'parsing --since "x": unable to interpret time value'),
        (["--until", "x", "a"], 'parsing --until "x": unable to interpret time value'),
    ],
)
def test_mistakes(rootless: Engine, words: list[str], message: str) -> None:
    assert rootless.fails("logs", *words) == f"Error: {message}\n"


def test_no_log_driver(rootless: Engine) -> None:
    rootless(
        "run", "--name", "ln", "--log-driver", "none", "--network", "none", "host", "echo", "x"
    )
    assert rootless.fails("logs", "ln") == (
        "Error: this container is using the 'none' log driver, cannot read logs: "
        "this container is not logging output\n"
    )


def test_closed_pipe_is_silent(rootless: Engine) -> None:
    rootless("run", "--name", "lp", "--network", "none", "host", "seq", "100000")
    process = rootless.popen("logs", "lp", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"1\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_rotation_keeps_to_its_size(rootless: Engine) -> None:
    """However much comes at once; lines are never cut, and the last ones are there."""
    script = "seq 20000; echo last"
    rootless.ok(
        "run", "--name", "lr", "--network", "none", "--log-opt", "max-size=10k", "host", "sh", "-c", script
    )  # fmt: skip
    path = Path(rootless.inspect("lr")["HostConfig"]["LogConfig"]["Path"])
    files = [path, path.with_name(f"{path.name}.1")]
    assert all(0 < file.stat().st_size <= 10 << 10 for file in files)
    lines = rootless.ok("logs", "lr").splitlines()
    assert lines[-2:] == ["20000", "last"]
    assert lines[:-1] == [str(number) for number in range(20002 - len(lines), 20001)]


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_rotation_over_several_files(rootless: Engine, tmp_path: Path, driver: str) -> None:
    """max-size and max-file, as compose files have them."""
    options = ("--log-driver", driver, "--log-opt", "max-size=1k", "--log-opt", "max-file=4")
    place = ("--log-opt", f"path={tmp_path}/log")
    count = ("sh", "-c", "for i in $(seq 1000 1199); do echo $i; done")
    words = ("run", "--name", "rotated", "--network", "none", *options, *place, "host", *count)
    assert len(rootless.ok(*words).split()) == 200
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1", "log.2", "log.3"]
    assert all(one.stat().st_size <= 1024 for one in tmp_path.iterdir())
    lines = rootless.ok("logs", "rotated").split()
    assert len(lines) >= 50 and lines == [str(n) for n in range(1200 - len(lines), 1200)]
    assert rootless.ok("logs", "--tail", "30", "rotated").split() == lines[-30:]
    assert rootless.inspect("rotated")["HostConfig"]["LogConfig"]["Config"] == {"max-file": "4"}


@pytest.mark.parametrize("value", ["0", "-1", "x", ""])
def test_number_of_log_files(rootless: Engine, value: str) -> None:
    error = rootless.fails("run", "--rm", "--log-opt", f"max-file={value}", "host", "true")
    assert error == f"Error: --log-opt max-file={value}: must be a number of at least 1\n"
