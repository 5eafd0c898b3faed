"""`unshare`: the user namespace of containers, for a command of the user's."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support.engine import Engine


def test_root_of_the_whole_map(rootless: Engine) -> None:
    assert rootless.ok("unshare", "id", "-u") == "0"
    first, *rest = rootless.ok("unshare", "cat", "/proc/self/uid_map").splitlines()
    assert first.split() == ["0", str(os.getuid()), "1"]
    assert rest


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "--", "-c"], 2),
    ],
)
def test_status_is_the_command_s(rootless: Engine, words: list[str], status: int) -> None:
    assert rootless("unshare", *words).code == status


def test_mistakes(rootless: Engine) -> None:
    assert rootless.fails("unshare", "nonex", code=127) == (
        'Error: exec: "nonex": executable file not found in $PATH\n'
    )
    assert rootless.fails("unshare", "/etc/passwd", code=126) == (
        "Error: fork/exec /etc/passwd: permission denied\n"
    )
    assert rootless.fails("unshare") == "Error: no command specified and no $SHELL specified\n"


def test_shell_where_no_command_is_given(rootless: Engine) -> None:
    result = rootless("unshare", input="echo $0; id -u", env={"SHELL": "/bin/sh"})
    assert result.lines == ["/bin/sh", "0"]


def test_the_store_is_still_the_user_s(rootless: Engine) -> None:
    rootless.ok("create", "--name", "inside", "--network", "none", "host", "true")
    inner = rootless.ok("unshare", *rootless.program, "ps", "-a", "--format", "{{.Names}}")
    assert inner == "inside"


def test_files_of_containers_can_be_removed(rootless: Engine) -> None:
    folder = rootless.folder / "owned"
    folder.mkdir()
    rootless.ok(
        "run", "--rm", "--network", "none", "-v", f"{folder}:/x", "host",
        "sh", "-c", "touch /x/file; chown 5:5 /x/file; mkdir -m 700 /x/sub; chown 7 /x/sub",
    )  # fmt: skip
    assert (folder / "file").stat().st_uid not in (0, os.getuid())
    assert rootless.ok("unshare", "stat", "-c", "%u:%g", str(folder / "file")) == "5:5"
    rootless.ok("unshare", "rm", "-r", str(folder / "sub"), str(folder / "file"))
    assert list(folder.iterdir()) == []


def test_signals_reach_the_command(rootless: Engine) -> None:
    script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
    with rootless.popen("unshare", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"got\n"
    assert process.returncode == 3


@pytest.mark.needs("tun")
def test_network_namespace(rootless: Engine) -> None:
    links = rootless.ok("unshare", "--rootless-netns", "cat", "/proc/net/dev")
    assert "lo:" in links
    own = os.readlink("/proc/self/ns/net")
    assert rootless.ok("unshare", "--rootless-netns", "readlink", "/proc/self/ns/net") != own


@pytest.mark.needs("userns", "subids", "overlay")
def test_the_engine_inside(rootless: Engine) -> None:
    """As root of that namespace it is the same user's engine: same store, same owners of files."""
    inside = ("unshare", *rootless.program)
    script = "touch /v/x; chown 5 /v/x; cat /proc/self/uid_map | wc -l; id -u"
    command = ("run", "--rm", "--network", "none", "-v", "v:/v", "host", "sh", "-c", script)
    assert rootless.ok(*inside, *command).split() == ["2", "0"]
    listed = ("run", "--rm", "--network", "none", "-v", "v:/v", "host", "stat", "-c", "%u", "/v/x")
    assert rootless.ok(*listed) == "5"
    rootless.ok(*inside, "run", "-d", "--name", "a", "--network", "none", "host", "sleep", "1000")
    assert rootless.ok("exec", "a", "echo", "in") == "in"
    rootless.ok(*inside, "stop", "-t", "0", "a")
    rootless.ok("start", "a")


def test_container_of_outside_cannot_be_entered(rootless: Engine) -> None:
    """The kernel lets no user namespace into its sibling; what asks no namespace works."""
    rootless.ok("run", "-d", "--name", "x", "--network", "none", "host", "sleep", "1000")
    inner = ("unshare", *rootless.program)
    for words in (
        ("exec", "x", "true"),
        ("top", "x"),
        ("cp", "x:/etc/passwd", "-"),
        ("run", "--rm", "--network", "container:x", "host", "true"),
    ):
        error = rootless.fails(*inner, *words)
        assert error == (
            "Error: container x was started outside of this `rootless unshare` session, whose user namespace may not "
            "look into the container's; "
            "leave the session for this command, or start the container from within it\n"
        ), words
    assert rootless.ok(*inner, "ps", "-q", "--no-trunc") == rootless.inspect("x")["Id"]
    rootless.ok(*inner, "stop", "-t", "0", "x")
    rootless.ok(*inner, "start", "x")
    # The same session started it now; from the host's own namespace every one of ours can be entered.
    assert rootless.ok("exec", "x", "echo", "in") == "in"
