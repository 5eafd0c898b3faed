"""rootless-oci: the life of a container by the runtime-spec's operations, called as an engine calls them."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.oci import Runtime

pytestmark = pytest.mark.needs("userns", "busybox")


@pytest.fixture(scope="module")
def _oci() -> Iterator[Runtime]:
    runtime = Runtime()
    yield runtime
    runtime.close()


@pytest.fixture
def oci(_oci: Runtime) -> Iterator[Runtime]:
    yield _oci
    _oci.clear()


def test_a_life_from_create_to_delete(oci: Runtime) -> None:
    bundle = oci.bundle("sleep", "1000")
    oci.quiet("create", "--bundle", str(bundle), "--pid-file", f"{oci.folder}/pid", "one")
    state = oci.state("one")
    assert state["status"] == "created"
    assert (oci.folder / "pid").read_text() == str(state["pid"])
    os.kill(state["pid"], 0)
    oci.quiet("start", "one")
    assert oci.state("one") == {**state, "status": "running"}
    assert oci("delete", "one").code == 1
    assert oci("kill", "one", "KILL").code == 0
    oci.wait_for("one", "stopped")
    assert oci.state("one") == {**state, "status": "stopped", "pid": 0}
    assert oci("delete", "one").code == 0
    assert oci("state", "one").code == 1


def test_a_created_container_keeps_nothing_of_its_caller(oci: Runtime) -> None:
    """What a caller's pipes end at is the end of `create`: init waits with its terminal, and with no other descriptor."""
    bundle = oci.bundle("sleep", "1000", change=lambda spec: spec["process"].update(terminal=True))
    reads, writes = os.pipe()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{oci.folder}/console")
        server.listen(1)
        words = [
            "create",
            "--bundle",
            str(bundle),
            "--console-socket",
            f"{oci.folder}/console",
            "one",
        ]
        result = subprocess.run(
            [*oci.program, *words],
            env=oci.env,
            pass_fds=[writes],
            capture_output=True,
            timeout=60,
            check=False,
        )  # ends at the end of file of all that it captures
        assert (result.returncode, result.stderr) == (0, b"")
        os.close(writes)
        assert os.read(reads, 1) == b""
        os.close(reads)
        assert oci.state("one")["status"] == "created"
        assert oci("delete", "one").code == 0


def test_without_a_process_it_is_start_that_fails(oci: Runtime) -> None:
    bundle = oci.bundle(change=lambda spec: spec.pop("process"))
    oci.quiet("create", "--bundle", str(bundle), "one")
    assert oci.state("one")["status"] == "created"
    result = oci("start", "one")
    assert (result.code, "no command is given" in result.err) == (1, True)
    oci.wait_for("one", "stopped")
    assert oci("delete", "one").code == 0
    assert "process.args: is missing" in oci("run", "--bundle", str(bundle), "two").err


def killed_run(oci: Runtime, name: str) -> None:
    """A foreground `run` that is killed, and then its container: nobody takes the record away."""
    words = ["run", "--bundle", str(oci.bundle("sh", "-c", "echo on; sleep 1000")), name]
    with subprocess.Popen([*oci.program, *words], env=oci.env, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"on\n"
        run.kill()
        run.wait()
        assert oci.state(name)["status"] == "running"  # which keeps the record
        assert name in oci("list", "--quiet").lines
        os.kill(oci.state(name)["pid"], 9)
        oci.wait_for(name, "stopped")


@pytest.mark.parametrize("how", ["run", "create", "list", "the same id"])
def test_what_a_killed_run_has_left_is_taken_away(oci: Runtime, how: str) -> None:
    killed_run(oci, "gone")
    kept = oci.start("true")
    oci.wait_for(kept, "stopped")
    if how != "list":
        killed_run(oci, "too")
    if how == "run":
        assert oci.go("echo", "words").out == "words\n"
    elif how == "create":
        oci.quiet("create", "--bundle", str(oci.bundle()), "new")
    elif how == "the same id":
        result = oci("run", "--bundle", str(oci.bundle("echo", "words")), "gone")
        assert (result.code, result.out) == (0, "words\n"), result
    else:
        assert oci("list", "--quiet").lines == [kept]
    names = set(os.listdir(oci.root))
    assert not {"gone", "too"} & names
    assert kept in names  # its record is its engine's to delete


def test_run_gives_the_programs_own_status_and_streams(oci: Runtime) -> None:
    result = oci.go("sh", "-c", "cat; echo words >&2; exit 7", input="what is given\n")
    assert (result.code, result.out, result.err) == (7, "what is given\n", "words\n")


def test_run_of_a_program_that_a_signal_ends(oci: Runtime) -> None:
    # PID 1 of its namespace is ended by no signal of its own: its child is.
    assert oci.go("sh", "-c", "(kill -9 $(sh -c 'echo $PPID')) ; exit $?").code == 137


def test_the_caller_is_root_inside_where_the_bundle_says_nothing_of_users(oci: Runtime) -> None:
    result = oci.go("sh", "-c", "id -u; cat /proc/self/uid_map")
    assert result.lines[0] == "0"
    assert result.lines[1].split()[:2] == ["0", str(os.getuid())]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("start", "nobody"), "does not exist"),
        (("state", "nobody"), "does not exist"),
        (("kill", "nobody"), "does not exist"),
        (("delete", "nobody"), "does not exist"),
        (("exec", "nobody", "true"), "does not exist"),
        (("state", "a/b"), "invalid character `/` in the ID"),
        (("state", ".."), "invalid container ID format"),
        (("state",), "requires a minimum of 1 argument"),
        (("state", "a", "b"), "requires a maximum of 1 argument"),
        (("frobnicate",), "No help topic for 'frobnicate'"),
        (("delete", "--frobnicate", "x"), "flag provided but not defined: --frobnicate"),
    ],
)
def test_mistakes(oci: Runtime, words: tuple[str, ...], said: str) -> None:
    result = oci(*words)
    assert result.code == 1
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_an_id_is_taken_once(oci: Runtime) -> None:
    name = oci.start()
    result = oci("create", "--bundle", str(oci.bundle()), name)
    assert result.code == 1
    assert "already exists" in result.err
    assert oci.state(name)["status"] == "running"


def test_a_second_start_and_the_kill_of_a_stopped_one_fail(oci: Runtime) -> None:
    name = oci.start()
    before = oci.state(name)
    assert oci("kill", name, "0").code == 0
    assert oci("start", name).code == 1
    assert oci("kill", name, "frobnicate").code == 1
    assert oci.state(name) == before
    oci("kill", name, "KILL")
    oci.wait_for(name, "stopped")
    assert oci("kill", name, "0").code == 1
    assert oci("kill", "--all", name, "0").code == 0
    result = oci("kill", name, "TERM")
    assert (result.code, result.err) == (1, f"container not running: `{name}`\n")


def test_a_created_container_can_be_deleted(oci: Runtime) -> None:
    name = oci.name()
    oci.quiet("create", "--bundle", str(oci.bundle()), name)
    pid = oci.state(name)["pid"]
    assert oci("delete", name).code == 0
    assert not os.path.exists(f"/proc/{pid}/cwd")


def test_delete_with_force_of_whatever_there_is(oci: Runtime) -> None:
    assert oci("delete", "--force", "nobody").code == 0
    name = oci.start()
    assert oci("delete", "--force", name).code == 0
    assert oci("state", name).code == 1


def test_a_missing_program(oci: Runtime) -> None:
    result = oci.go("nonesuch")
    assert result.code == 1
    assert "executable file `nonesuch` not found in $PATH: no such file or directory" in result.err
    # At create, while whoever calls still tells it from other failures (podman's 127).
    result = oci("create", "--bundle", str(oci.bundle("/bin/nonesuch")), "one")
    assert (result.code, result.err) == (1, "/bin/nonesuch: no such file or directory\n")
    result = oci("create", "--bundle", str(oci.bundle("/etc/passwd")), "one")
    assert (result.code, result.err) == (1, "/etc/passwd: permission denied\n")
    assert not (oci.root / "one").exists()


def test_nothing_is_left_by_a_create_that_fails(oci: Runtime) -> None:
    def broken(spec: dict[str, Any]) -> None:
        spec["mounts"].append({"destination": "/x", "type": "bind", "source": "/nonesuch", "options": ["bind"]})  # fmt: skip

    result = oci("create", "--bundle", str(oci.bundle(change=broken)), "one")
    assert result.code == 1
    assert "/nonesuch" in result.err
    assert not (oci.root / "one").exists()


def test_a_terminal_needs_somebody_to_take_it(oci: Runtime) -> None:
    bundle = oci.bundle(change=lambda spec: spec["process"].update(terminal=True))
    # What the command line lacks is told before what is wrong with the document.
    wrong = oci.bundle(change=lambda spec: spec["process"].update(terminal=True, args=["true", 0]))
    for words in (("create",), ("run", "--detach")):
        for path in (bundle, wrong):
            result = oci(*words, "--bundle", str(path), "one")
            assert result.code == 1
            assert "use --console-socket" in result.err
    assert "process.args[1]" in oci("run", "--bundle", str(wrong), "one").err
    assert oci("state", "one").code == 1
