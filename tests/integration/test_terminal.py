"""Terminals: `-it`, attach, exec, detach keys, sizes, and a terminal that is always put back as it was."""

from __future__ import annotations

import signal

import pytest

from tests.support.engine import Engine
from tests.support.pseudo import Terminal

pytestmark = pytest.mark.needs("userns", "overlay")

SHELL = ("--network", "none", "--env", "PS1=> ", "host", "bash", "--norc")


def test_shell_with_job_control(rootless: Engine) -> None:
    with Terminal(rootless.popen, "run", "--rm", "-it", "--name", "jobs", *SHELL) as terminal:
        terminal.until("> ")
        terminal.type("tty; stty size\n")
        terminal.until("/dev/pts/0")
        terminal.until("40 100")
        terminal.type("sleep 1000 &\n")
        terminal.until("[1]")
        terminal.type("jobs; kill %1; fg\n")
        terminal.until("Running")
        terminal.until("> ")
        terminal.type("sleep 999\n")
        while "sleep 999" not in rootless.ok("top", "jobs"):
            pass
        terminal.type("\x03")  # Ctrl-C reaches the foreground job, not the command
        terminal.until("^C")
        terminal.type("echo $((6 * 7)); exit 3\n")
        terminal.until("42")
        assert terminal.wait() == 3
        assert terminal.is_restored()


def test_suspended_job_goes_on(rootless: Engine) -> None:
    with Terminal(rootless.popen, "run", "--rm", "-it", "--name", "jobs", *SHELL) as terminal:
        terminal.until("> ")
        terminal.type("sleep 998\n")
        while "sleep 998" not in rootless.ok("top", "jobs"):
            pass
        terminal.type(
            "\x1a"
        )  # Ctrl-Z stops the foreground job, and neither the shell nor the command
        terminal.until("Stopped")
        terminal.until("> ")
        terminal.type("fg\n")
        terminal.until("sleep 998")
        terminal.type("\x03")
        terminal.until("^C")
        terminal.type("echo $((6 * 7)); exit 5\n")
        terminal.until("42")
        assert terminal.wait() == 5
        assert terminal.is_restored()


def test_two_clients_of_one_terminal(rootless: Engine) -> None:
    rootless.ok("run", "-dit", "--name", "shared", *SHELL)
    with (
        Terminal(rootless.popen, "attach", "shared") as one,
        Terminal(rootless.popen, "attach", "shared") as two,
    ):
        for terminal in (one, two):
            terminal.until_raw()
        one.type("echo $((6 * 7))\n")
        for terminal in (one, two):
            terminal.until("42")
        two.type("\x10\x11")
        assert two.wait() == 0
        one.type("exit 7\n")
        assert one.wait() == 7
        assert one.is_restored() and two.is_restored()


def test_resize(rootless: Engine) -> None:
    with Terminal(rootless.popen, "run", "--rm", "-it", *SHELL) as terminal:
        terminal.until("> ")
        terminal.resize(50, 132)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.type("trap 'stty size' WINCH; sleep 0.2; stty size\n")
        terminal.until("50 132")
        terminal.type("exit\n")
        assert terminal.wait() == 0
    rootless.ok("run", "-d", "--name", "box", "--network", "none", "host", "sleep", "1000")
    with Terminal(rootless.popen, "exec", "-it", "box", "bash", "--norc") as terminal:
        terminal.until_raw()
        terminal.resize(51, 133)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.type("while [ $(stty size | tr -d ' ') != 51133 ]; do sleep 0.1; done; exit 9\n")
        assert terminal.wait() == 9


def test_detach_and_attach(rootless: Engine) -> None:
    with Terminal(rootless.popen, "run", "-it", "--name", "shell", *SHELL) as terminal:
        terminal.until("> ")
        terminal.type("X=kept\n")
        terminal.until("> ")
        terminal.type("\x10\x11")
        assert terminal.wait() == 0
        assert terminal.is_restored()
    assert rootless.inspect("shell")["State"]["Running"] is True
    with Terminal(rootless.popen, "attach", "--detach-keys", "ctrl-x,x", "shell") as terminal:
        terminal.type("echo is-$X\n")
        terminal.until("is-kept")
        terminal.type("\x10\x11")  # not the keys any more
        terminal.type("\x18x")
        assert terminal.wait() == 0
        assert terminal.is_restored()
    with Terminal(rootless.popen, "attach", "shell") as terminal:
        terminal.until_raw()
        terminal.type("\x15exit 6\n")
        assert terminal.wait() == 6


def test_exec_terminal_and_detach(rootless: Engine) -> None:
    rootless.ok("run", "--detach", "--name", "box", "--network", "none", "host", "sleep", "1000")
    with Terminal(
        rootless.popen, "exec", "-it", "box", "sh", "-c", "tty; stty size; exit 4"
    ) as terminal:
        terminal.until("/dev/pts/0")
        terminal.until("40 100")
        assert terminal.wait() == 4
        assert terminal.is_restored()
    with Terminal(rootless.popen, "exec", "-it", "box", "sleep", "998") as terminal:
        while "sleep 998" not in rootless.ok("exec", "box", "ps", "ax"):
            pass
        terminal.until_raw()
        terminal.type("\x10\x11")
        assert terminal.wait() == 0
    assert "sleep 998" in rootless.ok("exec", "box", "ps", "ax")
    with Terminal(
        rootless.popen, "exec", "-it", "--detach-keys", "ctrl-a", "box", "cat"
    ) as terminal:
        terminal.until_raw()
        terminal.type("\x10\x11typed\n")  # these are a program's own now
        terminal.until("typed")
        terminal.type("\x01")
        assert terminal.wait() == 0
        assert terminal.is_restored()


def test_terminal_is_restored_after_a_kill(rootless: Engine) -> None:
    with Terminal(rootless.popen, "run", "-it", "--name", "gone", *SHELL) as terminal:
        terminal.until("> ")
        rootless.ok("kill", "gone")
        assert terminal.wait() == 137
        assert terminal.is_restored()


def test_start_attached(rootless: Engine) -> None:
    rootless.ok("create", "--tty", "--interactive", "--name", "later", *SHELL)
    with Terminal(rootless.popen, "start", "--attach", "--interactive", "later") as terminal:
        terminal.until("> ")
        terminal.type("exit 8\n")
        assert terminal.wait() == 8


def test_no_terminal_at_hand(rootless: Engine) -> None:
    """`-t` works where standard streams are no terminal: output comes through one all the same."""
    assert (
        rootless.ok(
            "run", "--rm", "--tty", "--network", "none", "host", "sh", "-c", "test -t 1 && echo tty"
        ).rstrip("\r")
        == "tty"
    )


def test_hang_up_leaves_the_container(rootless: Engine) -> None:
    """The terminal window is closed: the container goes on, as with Podman."""
    terminal = Terminal(rootless.popen, "run", "-it", "--name", "hung", "--sig-proxy=false", *SHELL)
    terminal.until("> ")
    terminal.process.kill()
    terminal.process.wait()
    terminal.close()
    assert rootless.inspect("hung")["State"]["Running"] is True
