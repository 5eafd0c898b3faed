"""Other OCI runtimes under the engine: every part of a container's life by crun, by runc, and by rootless-oci itself."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support import host
from tests.support.engine import REPOSITORY, Engine
from tests.support.pseudo import Terminal
from tests.support.service import activated, passes_streams, refuses_terminals, serves_socket

pytestmark = pytest.mark.needs("userns", "overlay")

OURS = str(REPOSITORY / "bin/rootless-oci")


@pytest.fixture(params=["crun", "runc", OURS], ids=["crun", "runc", "rootless-oci"])
def runtime(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name != OURS:
        host.require(name)
    return name


def run(engine: Engine, runtime: str, *words: str, network: str = "none") -> str:
    return engine.ok("--runtime", runtime, "run", "--network", network, *words)


def wait_for(engine: Engine, name: str, status: str) -> None:
    deadline = time.monotonic() + 30
    while engine.ok("inspect", "-f", "{{.State.Status}}", name) != status:
        assert time.monotonic() < deadline, engine("inspect", name)
        time.sleep(0.05)


def test_run_gives_streams_code_user_and_place(rootless: Engine, runtime: str) -> None:
    words = ("--rm", "--user", "5:7", "--hostname", "box", "-w", "/tmp", "-e", "A=b", "host")
    got = rootless(
        "--runtime", runtime, "run", "--network", "none", *words, "sh", "-c",
        "id -u; id -g; hostname; pwd; echo $A; echo err >&2; exit 3",
    )  # fmt: skip
    assert (got.code, got.lines, got.err) == (3, ["5", "7", "box", "/tmp", "b"], "err\n")


def test_a_large_environment(rootless: Engine, runtime: str) -> None:
    """More than one message of the stage's child takes."""
    run(rootless, runtime, "-d", "--name", "c", "-e", f"A={'x' * 100000}", "host", "sleep", "100")
    assert rootless.ok("exec", "c", "sh", "-c", "echo ${#A}") == "100000"
    rootless.ok("rm", "-f", "-t", "0", "c")


def test_descriptors_with_gaps(rootless: Engine, runtime: str, tmp_path: Path) -> None:
    """A runtime passes on all up to the last: where nothing was given there is nothing of it nor of the engine's."""
    (tmp_path / "a").write_text("first ")
    (tmp_path / "b").write_text("second")
    with open(tmp_path / "a") as a, open(tmp_path / "b") as b:
        first = fcntl.fcntl(a, fcntl.F_DUPFD_CLOEXEC, 20)
        last = fcntl.fcntl(b, fcntl.F_DUPFD_CLOEXEC, first + 2)
    script = (
        f"cat /proc/self/fd/{first} /proc/self/fd/{last}; echo; "
        f"for fd in $(seq 3 {last + 40}); do readlink /proc/$$/fd/$fd; done | sort -u"
    )
    given = ("--preserve-fd", f"{first},{last}")
    seen = [str(tmp_path / "a"), str(tmp_path / "b")]
    run(rootless, runtime, "-d", "--name", "c", "host", "sleep", "100")
    for terminal in ([], ["-t"]):
        for words in (
            ["--runtime", runtime, "run", "--rm", "--network", "none", *given, *terminal, "host"],
            ["exec", *given, *terminal, "c"],
        ):
            got = rootless(*words, "sh", "-c", script, pass_fds=(first, last))
            assert (got.code, got.lines[:1]) == (0, ["first second"]), got
            assert [path for path in got.lines[1:] if not path.endswith("/null")] == seen, got
    os.close(first)
    os.close(last)
    rootless.ok("rm", "-f", "-t", "0", "c")


def test_the_same_confinement_as_under_our_own(rootless: Engine, runtime: str) -> None:
    look = ("grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status")
    words = ("--rm", "--cap-drop", "chown", "--security-opt", "no-new-privileges", "host", *look)
    ours = rootless.ok("run", "--network", "none", *words)
    assert run(rootless, runtime, *words) == ours


def test_errors_have_the_codes_of_our_own(rootless: Engine, runtime: str) -> None:
    missing = rootless("--runtime", runtime, "run", "--rm", "--network", "none", "host", "nosuch")
    assert missing.code == 127
    assert "nosuch" in missing.err and missing.err.count("\n") == 1
    folder = rootless("--runtime", runtime, "run", "--rm", "--network", "none", "host", "/etc")
    assert folder.code == 126, folder
    assert rootless.ok("ps", "-aq") == ""


def test_a_life(rootless: Engine, runtime: str) -> None:
    script = "trap 'exit 7' TERM; echo begun; while :; do sleep 0.1; done"
    run(rootless, runtime, "-d", "--name", "c", "host", "sh", "-c", script)
    assert rootless.ok("inspect", "-f", "{{.OCIRuntime}}", "c") == os.path.basename(runtime)
    assert "sleep" in rootless.ok("top", "c") or "sh -c" in rootless.ok("top", "c")
    done = rootless("exec", "-e", "A=b", "c", "sh", "-c", "echo $A; exit 4")
    assert (done.code, done.out) == (4, "b\n")
    assert rootless("exec", "-i", "c", "cat", input=b"through").out == "through"
    assert rootless.ok("exec", "-u", "nobody", "-w", "/tmp", "c", "sh", "-c", "id -un; pwd") == (
        "nobody\n/tmp"
    )
    assert rootless("exec", "c", "nosuch").code == 127
    rootless.ok("exec", "-d", "c", "sh", "-c", "echo there > /tmp/later; sleep 100")
    rootless.ok("pause", "c")
    assert rootless.ok("inspect", "-f", "{{.State.Status}}", "c") == "paused"
    rootless.ok("unpause", "c")
    rootless.ok("stop", "c")
    assert rootless.ok("inspect", "-f", "{{.State.ExitCode}}", "c") == "7"
    assert rootless.ok("logs", "c") == "begun"
    rootless.ok("start", "c")
    assert rootless.ok("exec", "c", "cat", "/tmp/later") == "there"
    rootless.ok("kill", "-s", "KILL", "c")
    assert rootless.ok("wait", "c") == "137"
    rootless.ok("rm", "c")


def test_terminals(rootless: Engine, runtime: str) -> None:
    words = ("--runtime", runtime, "run", "--rm", "-it", "--network", "none", "host")
    with Terminal(
        rootless.popen, *words, "sh", "-c", "tty; stty size; read a; echo got $a"
    ) as seen:
        seen.until("/dev/pts/0")
        seen.until_raw()
        seen.type("word\n")
        seen.until("got word")
        assert seen.wait() == 0
    run(rootless, runtime, "-d", "--name", "c", "host", "sleep", "100")
    with Terminal(
        rootless.popen, "exec", "-it", "c", "sh", "-c", "tty; read a; echo got $a; exit 5"
    ) as seen:
        seen.until("/dev/pts/")
        seen.until_raw()
        seen.type("word\n")
        seen.until("got word")
        assert seen.wait() == 5
    rootless.ok("rm", "-f", "-t", "0", "c")


def test_mounts(rootless: Engine, runtime: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("kept")
    script = (
        "cat /bound/file /over/file /one; touch /vol/a /scratch/x; stat -c ' %u' /vol/a /vol;"
        "touch /bound/x || touch /x || touch /one || echo read-only"
    )
    rootless.ok("volume", "create", "v")
    out = run(
        rootless, runtime, "--rm", "--read-only", "--tmpfs", "/scratch", "-v", f"{tmp_path}:/bound:ro", "-v",
        f"{tmp_path}:/over:O", "-v", "v:/vol:U", "--mount", f"type=bind,src={tmp_path}/file,dst=/one,ro",
        "--user", "9:9", "host", "sh", "-c", script,
    )  # fmt: skip
    assert out == "keptkeptkept 9\n 9\nread-only"


def test_with_networks_and_joined_namespaces(rootless: Engine, runtime: str) -> None:
    name = f"n-{os.path.basename(runtime)}"
    rootless.ok("network", "create", name)
    run(rootless, runtime, "-d", "--name", "one", "host", "sleep", "100", network=name)
    assert "one" in run(rootless, runtime, "--rm", "host", "getent", "hosts", "one", network=name)
    beside = run(
        rootless, runtime, "--rm", "--pid", "container:one", "--ipc", "container:one", "host", "ps", "ax",
        network="container:one",
    )  # fmt: skip
    assert "sleep 100" in beside
    rootless.ok("rm", "-f", "-t", "0", "one")
    rootless.ok("network", "rm", name)


def test_user_namespaces(rootless: Engine, runtime: str) -> None:
    assert run(rootless, runtime, "--rm", "--userns", "keep-id", "host", "id", "-u") == str(
        os.getuid()
    )
    auto = rootless(
        "--runtime", runtime, "run", "--rm", "--network", "none", "--userns", "auto", "host", "true"
    )
    assert auto.code == 125
    assert "leave out --runtime" in auto.err


def test_restart_policy_and_a_killed_monitor(rootless: Engine, runtime: str) -> None:
    got = rootless(
        "--runtime", runtime, "run", "--rm", "--network", "none", "--restart", "on-failure:2",
        "host", "sh", "-c", "echo t; exit 1",
    )  # fmt: skip
    assert (got.code, got.lines) == (1, ["t", "t", "t"])
    run(rootless, runtime, "-d", "--name", "c", "host", "sleep", "1000")
    os.kill(int(rootless.ok("inspect", "-f", "{{.State.ConmonPid}}", "c")), signal.SIGKILL)
    assert rootless.ok("inspect", "-f", "{{.State.Status}}", "c") == "running"  # as under Podman
    rootless.ok("stop", "-t", "0", "c")
    wait_for(rootless, "c", "exited")
    rootless.ok("start", "c")
    assert rootless.ok("exec", "c", "echo", "fine") == "fine"
    rootless.ok("rm", "-f", "-t", "0", "c")


def test_the_streams_of_a_service(rootless: Engine, runtime: str, tmp_path: Path) -> None:
    passes_streams(rootless, tmp_path, "--runtime", runtime)
    refuses_terminals(rootless, "--runtime", runtime)


def test_the_sockets_of_a_service(rootless: Engine, runtime: str) -> None:
    serves_socket(rootless, "--runtime", runtime)


def test_sockets_need_a_pid_that_is_known(rootless: Engine) -> None:
    words = ("--runtime", OURS, "run", "--rm", "--network", "none", "--pid", "host", "host", "true")
    with socket.create_server(("127.0.0.1", 0)) as server:
        got = activated(rootless, server, *words)
    assert got.code == 125
    assert "LISTEN_PID" in got.err and "leave out --runtime" in got.err
    assert got.err.count("\n") == 1
    assert rootless.ok("ps", "-aq") == ""


def test_a_runtime_by_configuration(rootless: Engine, runtime: str) -> None:
    path = shutil.which(runtime) or runtime
    folder = rootless.home / ".config/containers"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "containers.conf"
    settings.write_text(
        f'[engine]\nruntime = "mine"\n[engine.runtimes]\nmine = ["/nowhere/mine", "{path}"]\n'
    )
    try:
        rootless.ok("create", "--name", "c", "--network", "none", "host", "true")
        assert rootless.ok("inspect", "-f", "{{.OCIRuntime}}", "c") == "mine"
        assert rootless("start", "-a", "c").code == 0
        info = rootless("info", "-f", "json").json["host"]["ociRuntime"]
    finally:
        settings.unlink()
    assert (info["name"], info["path"]) == ("mine", path)
    assert info["version"]


def test_one_that_is_not_there(rootless: Engine) -> None:
    got = rootless("--runtime", "nosuch", "create", "host", "true")
    assert got.code == 125
    assert 'default OCI runtime "nosuch" not found' in got.err
    got = rootless("--runtime", "/nowhere/r", "create", "host", "true")
    assert got.code == 125
    assert "no valid executable found for OCI runtime /nowhere/r" in got.err


@pytest.mark.needs("crun")
def test_flags_are_passed_on(rootless: Engine, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    wrapper = tmp_path / "crun"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\nexec crun "$@"\n')
    wrapper.chmod(0o755)
    words = (
        "--runtime",
        str(wrapper),
        "--runtime-flag",
        "debug",
        "run",
        "--rm",
        "--network",
        "none",
    )
    assert rootless(*words, "host", "true").code == 0
    said = (tmp_path / "said").read_text().splitlines()
    assert all(line.startswith("--debug ") for line in said)
    assert [
        word for line in said for word in line.split() if word in ("create", "start", "delete")
    ] == [
        "create",
        "start",
        "delete",
    ]
