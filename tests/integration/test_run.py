"""`run`, `create`, `start`, `stop`, `kill`, `rm`, `wait`: what the kernel reports in the container, and exit codes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.needs("userns", "overlay")

NONE = ("run", "--rm", "--network", "none")


@pytest.mark.parametrize(
    ("words", "code", "out"),
    [
        (("host", "true"), 0, ""),
        (("host", "false"), 1, ""),
        (("host", "sh", "-c", "exit 42"), 42, ""),
        (("host", "sh", "-c", "kill -TERM $$; exit 3"), 3, ""),  # PID 1 is not killed by what it does not catch
        (("host", "no-such-command"), 127, ""),
        (("host", "/no/such/command"), 127, ""),
        (("host", "/etc/passwd"), 126, ""),
        (("host", "/etc"), 126, ""),
        (("--workdir", "/etc/passwd", "host", "true"), 126, ""),
        (("host", "echo", "-n", "a  b"), 0, "a  b"),
        (("host", "pwd"), 0, "/\n"),
        (("--workdir", "/usr", "host", "pwd"), 0, "/usr\n"),
        (("--hostname", "box", "host", "hostname"), 0, "box\n"),
        (("--env", "A=1", "--env", "B", "host", "sh", "-c", "echo $A-$B-"), 0, "1-two-\n"),
        (("--user", "nobody", "host", "id", "-un"), 0, "nobody\n"),
        (("--user", "6:34", "host", "id"), 0, "uid=6(man) gid=34(backup) groups=34(backup)\n"),
        (("--umask", "0077", "host", "sh", "-c", "umask"), 0, "0077\n"),
        (("--ulimit", "nofile=100:200", "host", "sh", "-c", "ulimit -Sn; ulimit -Hn"), 0, "100\n200\n"),
        (("--oom-score-adj", "500", "host", "cat", "/proc/self/oom_score_adj"), 0, "500\n"),
        (("--cap-drop", "all", "host", "grep", "CapEff", "/proc/self/status"), 0, "CapEff:\t0000000000000000\n"),
        (("--security-opt", "no-new-privileges", "host", "grep", "NoNewPrivs", "/proc/self/status"), 0, "NoNewPrivs:\t1\n"),
        (("host", "grep", "Seccomp:", "/proc/self/status"), 0, "Seccomp:\t2\n"),
        (("--security-opt", "seccomp=unconfined", "host", "grep", "Seccomp:", "/proc/self/status"), 0, "Seccomp:\t0\n"),
        (("--read-only", "host", "sh", "-c", "touch /x 2>/dev/null || echo refused; touch /tmp/x && echo tmp"), 0, "refused\ntmp\n"),
        (("--tmpfs", "/mnt:size=1m,mode=700", "host", "sh", "-c", "stat -c %a /mnt; df --output=size -k /mnt | tail -1"), 0, "700\n     1024\n"),
        (("--shm-size", "2m", "host", "sh", "-c", "df --output=size -k /dev/shm | tail -1"), 0, "     2048\n"),
        (("--sysctl", "net.ipv4.ip_unprivileged_port_start=7", "host", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"), 0, "7\n"),
        (("--init", "host", "cat", "/proc/1/comm"), 0, "podman-init\n"),
        (("--pid", "host", "host", "sh", "-c", "test $$ -gt 1 && echo outside"), 0, "outside\n"),
        (("--uts", "host", "host", "uname", "-n"), 0, os.uname().nodename + "\n"),
        (("--entrypoint", "/bin/echo", "host", "x", "y"), 0, "x y\n"),
    ],
)  # fmt: skip
def test_run_prints_and_exits(
    rootless: Engine, words: tuple[str, ...], code: int, out: str
) -> None:
    result = rootless(*NONE, *words, env={"B": "two"})
    assert (result.code, result.out) == (code, out), result
    if code in (125, 126, 127) and "sh" not in words:
        assert result.err.startswith("Error: ") and "Traceback" not in result.err


def test_streams_are_kept_apart(rootless: Engine) -> None:
    result = rootless(*NONE, "host", "sh", "-c", "echo out; echo err >&2")
    assert (result.out, result.err) == ("out\n", "err\n")


def test_a_megabyte_each_way(rootless: Engine) -> None:
    """No byte is lost, added or reordered between standard input and output."""
    data = os.urandom(1 << 20) * 8
    result = rootless(*NONE, "--interactive", "host", "cat", input=data)
    assert hashlib.sha256(result.raw_out).digest() == hashlib.sha256(data).digest()


def test_without_interactive_input_is_empty(rootless: Engine) -> None:
    assert rootless(*NONE, "host", "cat", input="secret").out == ""


def test_head_ends_the_pipe(rootless: Engine) -> None:
    """A reader that has seen enough ends the program by SIGPIPE, as in any pipe; the container does not go on for ever."""
    program = " ".join(rootless.program)
    done = subprocess.run(
        ["sh", "-c", f"{program} run --rm --name piped --network none host yes | head -n 2"],
        env=rootless.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "y\ny\n"
    rootless("rm", "--force", "--time", "0", "piped")


def test_a_reader_that_goes_away_while_it_is_waited_for(rootless: Engine) -> None:
    words = (*NONE, "--name", "piped", "host", "yes")
    process = rootless.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    size = fcntl.fcntl(process.stdout, 1032)  # F_GETPIPE_SZ
    deadline = time.monotonic() + 30
    while int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), "little") < size:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.stdout.close()
    try:
        assert process.wait(timeout=30) not in (0, 125)
    finally:
        rootless("rm", "--force", "--ignore", "--time", "0", "piped")


def test_namespaces_are_its_own(rootless: Engine) -> None:
    names = ("user", "mnt", "pid", "net", "ipc", "uts")
    script = "; ".join(f"readlink /proc/self/ns/{name}" for name in names)
    inside = rootless.ok(*NONE, "host", "sh", "-c", script).split()
    outside = [os.readlink(f"/proc/self/ns/{name}") for name in names]
    assert all(a != b for a, b in zip(inside, outside, strict=True))


def test_nothing_leaks_in(rootless: Engine) -> None:
    """Neither descriptors nor variables of the command reach the program."""
    read, write = os.pipe()
    try:
        os.set_inheritable(write, True)
        result = rootless.ok(
            *NONE,
            "host",
            "sh",
            "-c",
            "ls /proc/self/fd; env",
            env={"SECRET": "x"},
            pass_fds=(write,),
        )
    finally:
        os.close(read)
        os.close(write)
    assert [word for word in result.splitlines() if word.isdigit()] == ["0", "1", "2", "3"]
    assert "SECRET" not in result


def test_the_monitor_holds_nothing_of_its_callers(rootless: Engine, tmp_path: Path) -> None:
    """A script's lock, held by a descriptor, is free again when the script ends, though the container runs on."""
    program = " ".join(rootless.program)
    lock = tmp_path / "lock"
    script = f"exec 7>{lock}; flock 7; {program} run -d --name held --network none host sleep 1000"
    done = subprocess.run(
        ["bash", "-c", script], env=rootless.env, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    subprocess.run(["flock", "--nonblock", str(lock), "true"], check=True, timeout=20)


def test_preserve_fds(rootless: Engine) -> None:
    read, write = os.pipe()
    try:
        program = " ".join(rootless.program)
        done = subprocess.run(
            ["bash", "-c", f"{program} run --rm --network none --preserve-fds 1 host sh -c 'echo through >&3' 3>&{write}"],
            env=rootless.env, pass_fds=(write,), stdin=subprocess.DEVNULL, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0
        assert os.read(read, 100) == b"through\n"
    finally:
        os.close(read)
        os.close(write)


def test_case_48_secrets_are_not_in_the_process_list(rootless: Engine) -> None:
    """The monitor keeps no copy of the command line that others can read."""
    rootless.ok(
        "run",
        "--detach",
        "--name",
        "quiet",
        "--network",
        "none",
        "--env",
        "P=hunter2",
        "host",
        "sleep",
        "1000",
    )
    live = json.loads(next((rootless.run / "containers").glob("*/live.json")).read_text())
    line = Path(f"/proc/{live['monitor'][0]}/cmdline").read_bytes()
    assert b"hunter2" not in line and line.startswith(b"rootless monitor ")
    rootless.ok("rm", "--force", "--time", "0", "quiet")


def test_life_cycle(rootless: Engine) -> None:
    identity = rootless.ok(
        "create", "--name", "life", "--network", "none", "host", "sh", "-c", "echo hi; sleep 1000"
    )
    assert rootless.inspect("life")["State"]["Status"] == "created"
    assert rootless.ok("start", "life") == "life"
    assert rootless.ok("start", "life") == "life"
    assert rootless.inspect("life")["State"]["Running"] is True
    assert "running" in rootless.fails("rm", "life", code=2)
    assert rootless.ok("stop", "--time", "0", "life") == "life"
    state = rootless.inspect("life")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 137)
    assert rootless.ok("wait", "life") == "137"
    assert rootless.ok("restart", "life") == "life"
    assert rootless.ok("kill", "--signal", "KILL", identity[:10]) == identity[:10]
    assert rootless.ok("wait", identity) == "137"
    assert "can only kill running containers" in rootless.fails("kill", "life")
    assert rootless.ok("rm", "life") == "life"
    assert "no such container" in rootless.fails("start", "life")
    assert "no such container" in rootless.fails("rm", "life", code=1)
    assert rootless.ok("rm", "--force", "life") == ""


def test_stop_sends_the_signal_first(rootless: Engine) -> None:
    rootless.ok(
        "run", "--detach", "--name", "polite", "--network", "none", "--stop-signal", "USR1", "host",
        "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done",
    )  # fmt: skip
    rootless.ok("logs", "polite")
    wait_for_log(rootless, "polite", "ready")
    rootless.ok("stop", "polite")
    assert rootless.inspect("polite")["State"]["ExitCode"] == 9


def test_restart_policies(rootless: Engine) -> None:
    rootless.ok(
        "run",
        "--detach",
        "--name",
        "again",
        "--network",
        "none",
        "--restart",
        "on-failure:2",
        "host",
        "sh",
        "-c",
        "echo run; exit 7",
    )
    assert rootless.ok("wait", "again") == "7"
    assert rootless.ok("logs", "again") == "run\nrun\nrun"
    assert rootless.inspect("again")["RestartCount"] == 2
    rootless.ok(
        "run",
        "--detach",
        "--name",
        "always",
        "--network",
        "none",
        "--restart",
        "always",
        "host",
        "sh",
        "-c",
        "echo run; exit 0",
    )
    wait_for_log(rootless, "always", "run\nrun")
    rootless.ok("stop", "--time", "0", "always")
    assert rootless.inspect("always")["State"]["Status"] == "exited"


def test_timeout(rootless: Engine) -> None:
    assert rootless(*NONE, "--timeout", "1", "host", "sleep", "1000").code == 137


def test_pause(rootless: Engine) -> None:
    rootless.ok(
        "run",
        "--detach",
        "--name",
        "held",
        "--network",
        "none",
        "host",
        "sh",
        "-c",
        "while :; do echo tick; sleep 0.02; done",
    )
    wait_for_log(rootless, "held", "tick")
    rootless.ok("pause", "held")
    assert rootless.inspect("held")["State"]["Status"] == "paused"
    assert "paused" in rootless.fails("exec", "held", "true")
    before = rootless.ok("logs", "held")
    time.sleep(0.2)  # time in which it would print, if it ran
    assert rootless.ok("logs", "held") == before
    rootless.ok("unpause", "held")
    wait_for_log(rootless, "held", before + "\ntick")
    rootless.ok("rm", "--force", "--time", "0", "held")


def test_signals_are_passed_on(rootless: Engine) -> None:
    process = rootless.popen(
        *NONE, "host", "sh", "-c", "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done",
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == b"caught\n"
    assert process.wait(timeout=20) == 5
    process.stdout.close()


def test_exec(rootless: Engine) -> None:
    rootless.ok(
        "run",
        "--detach",
        "--name",
        "target",
        "--network",
        "none",
        "--env",
        "A=container",
        "host",
        "sleep",
        "1000",
    )
    assert (
        rootless.ok("exec", "target", "sh", "-c", "echo $A; cat /proc/1/comm") == "container\nsleep"
    )
    assert (
        rootless.ok(
            "exec",
            "--env",
            "A=mine",
            "--workdir",
            "/usr",
            "--user",
            "nobody",
            "target",
            "sh",
            "-c",
            "echo $A; pwd; id -un",
        )
        == "mine\n/usr\nnobody"
    )
    assert rootless("exec", "target", "sh", "-c", "exit 9").code == 9
    assert rootless("exec", "target", "no-such").code == 127
    assert rootless("exec", "target", "/etc/passwd").code == 126
    assert rootless.ok("exec", "--interactive", "target", "cat", input="in") == "in"
    result = rootless("exec", "target", "sh", "-c", "echo o; echo e >&2")
    assert (result.out, result.err) == ("o\n", "e\n")
    assert len(rootless.ok("exec", "--detach", "target", "sleep", "999")) == 64
    assert "sleep 999" in rootless.ok("exec", "target", "ps", "ax")
    limits = rootless.ok("exec", "target", "grep", "-E", "CapInh|Seccomp:", "/proc/self/status")
    assert limits == "CapInh:\t0000000000000000\nSeccomp:\t2"
    assert rootless.ok("exec", "target", "sh", "-c", "ls /proc/self/fd | wc -l") == "4"
    rootless.ok("kill", "target")
    rootless.ok("wait", "target")
    assert "container state improper" in rootless.fails("exec", "target", "true")


def test_exec_on_what_is_not_there(rootless: Engine) -> None:
    assert 'no container with name or ID "ghost" found' in rootless.fails("exec", "ghost", "true")


def test_detach_keys_that_are_none(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "box", "--network", "none", "host", "sleep", "1000")
    keys, said = ("--detach-keys", "foo"), "Error: invalid detach keys 'foo': unknown key 'foo'\n"
    for options in ((), ("-t",), ("-d",)):
        assert rootless.fails("exec", *keys, *options, "box", "true", code=255) == said
    assert rootless.fails("attach", *keys, "box", code=125) == said


def test_exec_of_an_unknown_user(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "one", "--network", "none", "host", "sleep", "1000")
    for user, what in (("nope", "user nope"), ("1:nope", "group nope")):
        assert f"unable to find {what}" in rootless.fails(
            "exec", "-u", user, "one", "true", code=255
        )
        rootless.fails("exec", "-d", "-u", user, "one", "true")
    rootless.ok("rm", "-f", "-t", "0", "one")


@pytest.mark.parametrize("options", [(), ("--userns", "keep-id")])
def test_restart_of_what_is_removed_at_its_end(rootless: Engine, options: tuple[str, ...]) -> None:
    words = ("--name", "one", "--network", "none", *options, "host")
    rootless.ok("run", "-d", "--rm", *words, "sh", "-c", "echo once >> /tmp/seen; sleep 1000")
    for _ in range(2):
        assert rootless.ok("restart", "-t", "0", "one") == "one"
    seen = "until [ $(wc -l < /tmp/seen) = 3 ]; do sleep 0.02; done"
    rootless.ok("exec", "one", "sh", "-c", seen)
    rootless.ok("stop", "-t", "0", "one")
    assert rootless.ok("ps", "-aq") == ""


def test_ports_are_those_of_running_containers(rootless: Engine) -> None:
    rootless.ok("create", "--name", "made", "-p", "8080:80", "host", "true")
    assert rootless.ok("port", "made") == rootless.ok("port", "made", "81") == ""
    rootless.ok("run", "-d", "--name", "one", "--network", "none", "host", "sleep", "1000")
    assert rootless.ok("port", "one", "80") == rootless.ok("port", "--all") == ""
    rootless.ok("rm", "-f", "-t", "0", "one", "made")


def wait_for_log(engine: Engine, name: str, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in engine.ok("logs", name):
        assert time.monotonic() < deadline, f"{name} did not print {text!r}"
        time.sleep(0.02)


def test_a_signal_at_once_reaches_the_program(rootless: Engine) -> None:
    """The first byte of output may be answered with a signal: the command must pass it on by then."""
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    for _ in range(5):
        with rootless.popen(
            "run", "--rm", "--network", "none", "host", "sh", "-c", script, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            process.terminate()
            assert process.stdout.read() == b"got\n"
        assert process.returncode == 9
