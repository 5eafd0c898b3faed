"""A monitor that sleeps, in the end as a program of some hundred bytes (container/dormancy.py): nobody notices but the
memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.engine import Engine

# What a bare interpreter has of its own is 2.3 MiB on Debian 12; a copy of the command 6 to 8; a sleeper, some pages.
_LEAN_KIB = 4608
_ASLEEP_KIB = 64


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def title_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ").strip()


def own_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.split("Private_Dirty:")[1].split()[0])


def is_asleep(pid: int) -> bool:
    """Whether the monitor holds the memory file from which it makes itself again."""
    folder = Path(f"/proc/{pid}/fd")
    return any("memfd:monitor" in os.readlink(one) for one in folder.iterdir())


def start(engine: Engine, *words: str) -> tuple[str, int]:
    identity = engine.ok("run", "--detach", *words)
    pid = int(engine.ok("inspect", "--format", "{{.State.ConmonPid}}", identity))
    until(lambda: is_asleep(pid))
    return identity, pid


ECHO = "while read line; do echo got $line; done; echo end"


def test_it_keeps_its_pid_and_sheds_its_memory(sleepy: Engine) -> None:
    identity, pid = start(sleepy, "--network", "none", "host", "sleep", "1000")
    # Between execve and its first lines it is the interpreter's.
    until(lambda: title_of(pid) == f"rootless monitor {identity}")
    assert Path(f"/proc/{pid}/comm").read_text() == "rootless-mon\n"
    assert own_kib(pid) < _LEAN_KIB
    until(lambda: own_kib(pid) < _ASLEEP_KIB)
    assert (
        sleepy.ok("inspect", "--format", "{{.State.Status}} {{.State.ConmonPid}}", identity)
        == f"running {pid}"
    )


def test_output_input_and_the_exit_code_pass(sleepy: Engine) -> None:
    identity, _ = start(
        sleepy, "--interactive", "--network", "none", "host", "sh", "-c", f"{ECHO}; exit 7"
    )
    done = sleepy("attach", identity, input="one\ntwo\n")
    assert (done.code, done.out) == (7, "got one\ngot two\nend\n")
    assert sleepy.ok("wait", identity) == "7"
    assert sleepy.ok("logs", identity) == "got one\ngot two\nend"


def test_each_event_wakes_it_for_a_moment(sleepy: Engine) -> None:
    script = "touch /tmp/said; exec tail -f /tmp/said"
    identity, pid = start(sleepy, "--tty", "--network", "none", "host", "sh", "-c", script)

    def said() -> list[str]:
        return sleepy.ok("logs", identity).split()

    words: list[str] = []
    for word in ("one", "two", "three"):
        until(lambda: own_kib(pid) < _ASLEEP_KIB)
        words.append(word)
        sleepy.ok("exec", identity, "sh", "-c", f"echo {word} >> /tmp/said")
        until(lambda: said() == words)
    until(lambda: own_kib(pid) < _ASLEEP_KIB)


def test_its_signals_are_the_containers(sleepy: Engine) -> None:
    script = "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    identity, pid = start(sleepy, "--network", "none", "host", "sh", "-c", script)
    until(lambda: sleepy.ok("logs", identity) == "up")
    os.kill(pid, signal.SIGTERM)
    assert sleepy.ok("wait", identity) == "3"
    assert sleepy.ok("logs", identity) == "up\nterm"


def test_a_restart_policy_wakes_it_again_and_again(sleepy: Engine) -> None:
    words = ("--restart", "on-failure:3", "--network", "none")
    identity = sleepy.ok(
        "run", "--detach", *words, "host", "sh", "-c", "echo run; sleep 0.3; exit 4"
    )
    assert sleepy.ok("wait", identity) == "4"
    assert sleepy.ok("logs", identity).split() == ["run"] * 4
    assert sleepy.ok("inspect", "--format", "{{.RestartCount}}", identity) == "3"


def test_a_time_limit_outlasts_its_sleep(sleepy: Engine) -> None:
    identity, _ = start(sleepy, "--timeout", "2", "--network", "none", "host", "sleep", "1000")
    assert sleepy.ok("wait", identity) == "137"


def test_health_checks_go_on(sleepy: Engine) -> None:
    check = (
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "1s",
        "--health-retries",
        "1",
    )
    identity, _ = start(sleepy, *check, "--network", "none", "host", "sh", "-c", "sleep 1000")
    state = ("inspect", "--format", "{{.State.Health.Status}}", identity)
    until(lambda: sleepy.ok(*state) == "unhealthy")
    assert sleepy("healthcheck", "run", identity).code == 1
    sleepy.ok("exec", identity, "touch", "/tmp/well")
    until(lambda: sleepy.ok(*state) == "healthy")


def test_the_network_helpers_end_wakes_it(sleepy: Engine) -> None:
    identity, pid = start(sleepy, "host", "sleep", "1000")
    (helper,) = (one for one, text in sleepy.processes().items() if "pasta" in text)
    os.kill(helper, signal.SIGKILL)

    def replaced() -> bool:
        return [one for one, text in sleepy.processes().items() if "pasta" in text] not in (
            [],
            [helper],
        )

    until(replaced)
    until(lambda: is_asleep(pid))
    assert sleepy("exec", identity, "ip", "-o", "route", "show", "default").code == 0


def test_its_death_is_told_like_any_monitors(sleepy: Engine) -> None:
    identity, pid = start(sleepy, "--network", "none", "host", "sleep", "1000")
    os.kill(pid, signal.SIGKILL)
    until(lambda: sleepy.ok("ps", "--quiet") == "")
    assert (
        sleepy.ok("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", identity)
        == "exited 137"
    )
    sleepy.ok("rm", identity)


def test_what_it_leaves_at_the_end_is_nothing(sleepy: Engine) -> None:
    identity, _ = start(sleepy, "--rm", "host", "sleep", "1000")
    sleepy.ok("kill", identity)
    until(lambda: not sleepy.processes())
    assert sleepy.ok("ps", "--all", "--quiet") == ""
