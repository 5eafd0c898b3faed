"""rootless-oci: hooks at each of their moments, and what becomes of the container when one fails."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.oci import Runtime

pytestmark = pytest.mark.needs("userns", "busybox")

MOMENTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")  # fmt: skip


@pytest.fixture(scope="module")
def _oci() -> Iterator[Runtime]:
    runtime = Runtime()
    yield runtime
    runtime.close()


@pytest.fixture
def oci(_oci: Runtime) -> Iterator[Runtime]:
    yield _oci
    _oci.clear()


def hook(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def with_hooks(**hooks: list[dict[str, Any]]) -> Callable[[dict[str, Any]], object]:
    def change(spec: dict[str, Any]) -> None:
        spec["hooks"] = hooks
        spec["annotations"] = {"org.example": "word"}

    return change


def test_each_moment_in_order_with_its_state(oci: Runtime) -> None:
    said = oci.folder / "said"
    said.unlink(missing_ok=True)
    said.touch()
    hooks = {
        moment: [hook(f'(echo -n "{moment} "; cat; echo) >> {said}', env=["A=1", "PATH=/bin:/usr/bin"])]
        for moment in MOMENTS if moment != "startContainer"
    }  # fmt: skip
    # Inside: with the container's own files.
    hooks["startContainer"] = [hook('(echo -n "startContainer "; cat; echo) >> /shared/said')]

    def change(spec: dict[str, Any]) -> None:
        with_hooks(**hooks)(spec)
        spec["mounts"].append({"destination": "/shared", "type": "bind", "source": str(oci.folder), "options": ["bind"]})  # fmt: skip

    bundle = oci.bundle("sleep", "1000", change=change)
    oci.quiet("create", "--bundle", str(bundle), "one")
    state = oci.state("one")
    assert [line.split()[0] for line in said.read_text().splitlines()] == list(MOMENTS[:3])
    oci.quiet("start", "one")
    oci("kill", "one", "KILL")
    oci.wait_for("one", "stopped")
    assert oci("delete", "one").code == 0
    lines = [line.partition(" ") for line in said.read_text().splitlines()]
    assert [line[0] for line in lines] == list(MOMENTS)
    states = {line[0]: json.loads(line[2]) for line in lines}
    assert {moment: one["status"] for moment, one in states.items()} == {
        "prestart": "created",
        "createRuntime": "created",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }
    for moment, one in states.items():
        assert (one["id"], one["bundle"], one["ociVersion"]) == ("one", state["bundle"], "1.0.2")
        assert one["annotations"] == {"org.example": "word"}
        if moment != "poststop":
            assert one["pid"] == state["pid"], moment


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_fails_create(oci: Runtime, moment: str) -> None:
    hooks = [hook("true"), hook("echo no luck >&2; exit 7")]
    bundle = oci.bundle("sleep", "1000", change=with_hooks(**{moment: hooks}))
    result = oci("create", "--bundle", str(bundle), "one")
    assert result.code == 1
    assert f"error running hook: {moment} #1: /bin/sh: exit status 7: no luck" in result.err
    assert not (oci.root / "one").exists()


def test_a_failing_start_hook_fails_start(oci: Runtime) -> None:
    bundle = oci.bundle("sleep", "1000", change=with_hooks(startContainer=[hook("exit 3")]))
    oci.quiet("create", "--bundle", str(bundle), "one")
    result = oci("start", "one")
    assert result.code == 1
    assert "error running hook: startContainer #0" in result.err
    oci.wait_for("one", "stopped")


@pytest.mark.parametrize("command", ["run", "start"])
def test_a_failing_poststart_ends_the_container(oci: Runtime, command: str) -> None:
    """The specification's way since 1.1, and runc's; crun goes on."""
    bundle = oci.bundle("sleep", "1000", change=with_hooks(poststart=[hook("exit 3")]))
    if command == "run":
        result = oci("run", "--bundle", str(bundle), "one")
        assert oci("state", "one").code == 1
    else:
        oci.quiet("create", "--bundle", str(bundle), "one")
        result = oci("start", "one")
        assert oci.state("one")["status"] == "stopped"
    assert result.code == 1
    assert "error running hook: poststart #0" in result.err


def test_a_failing_poststop_is_only_told(oci: Runtime) -> None:
    said = oci.folder / "after"
    hooks = [hook("exit 3"), hook(f"echo called > {said}")]
    bundle = oci.bundle("true", change=with_hooks(poststop=hooks))
    result = oci("run", "--bundle", str(bundle), "one")
    assert result.code == 0
    assert "error running hook: poststop #0" in result.err
    assert said.read_text() == "called\n"
    assert oci("state", "one").code == 1


def test_a_hook_that_takes_too_long(oci: Runtime) -> None:
    bundle = oci.bundle(change=with_hooks(prestart=[hook("sleep 100", timeout=1)]))
    result = oci("run", "--bundle", str(bundle), "one")
    assert result.code == 1
    assert "did not end within 1 seconds" in result.err


def test_a_hook_that_is_not_there(oci: Runtime) -> None:
    bundle = oci.bundle(change=with_hooks(prestart=[{"path": "/nonesuch"}]))
    result = oci("run", "--bundle", str(bundle), "one")
    assert result.code == 1
    assert "/nonesuch: no such file or directory" in result.err
    bundle = oci.bundle(change=with_hooks(prestart=[{"path": "relative"}]))
    result = oci("run", "--bundle", str(bundle), "one")
    assert 'hooks.prestart[0].path: "relative" is not an absolute path' in result.err


def test_hooks_get_their_environment_and_arguments_alone(oci: Runtime) -> None:
    said = oci.folder / "environment"
    hooks = [hook(f'echo "$0 $1" > {said}; env >> {said}', env=["A=1"])]
    hooks[0]["args"] += ["first", "second"]
    bundle = oci.bundle(change=with_hooks(prestart=hooks))
    assert oci("run", "--bundle", str(bundle), "one").code == 0
    lines = said.read_text().splitlines()
    assert lines[0] == "first second"
    assert {line.partition("=")[0] for line in lines[1:]} <= {"A", "PWD", "SHLVL", "_", "OLDPWD"}


def test_hooks_without_an_environment_have_the_callers(oci: Runtime) -> None:
    said = oci.folder / "inherited"
    bundle = oci.bundle(change=with_hooks(prestart=[hook(f"echo $MINE > {said}")]))
    assert oci("run", "--bundle", str(bundle), "one", env={"MINE": "word"}).code == 0
    assert said.read_text() == "word\n"

    def change(spec: dict[str, Any]) -> None:
        with_hooks(startContainer=[hook("echo $MINE > /shared/inside")])(spec)
        spec["mounts"].append({"destination": "/shared", "type": "bind", "source": str(oci.folder), "options": ["bind"]})  # fmt: skip

    bundle = oci.bundle(change=change)
    assert oci("run", "--bundle", str(bundle), "one", env={"MINE": "secret"}).code == 0
    assert (oci.folder / "inside").read_text() == "\n"


def test_create_container_hooks_see_its_mounts_in_the_bundle(oci: Runtime) -> None:
    said = oci.folder / "mounts"
    inside = "test -e $root/proc/self && test -c $root/dev/null"
    script = f"pwd > {said}; root=$BUNDLE/rootfs; {inside}; root=.; {inside} && touch dev/made"
    bundle = oci.bundle(
        "ls", "/dev/made", own=True, change=with_hooks(createContainer=[hook("set -e; BUNDLE=$PWD/..; " + script)])
    )  # fmt: skip
    result = oci("run", "--bundle", str(bundle), "one")
    assert (result.code, result.out) == (0, "/dev/made\n"), result
    assert said.read_text() == f"{bundle}/rootfs\n"
    assert list((bundle / "rootfs/dev").iterdir()) == []


def test_hooks_of_the_host_begin_in_the_bundle(oci: Runtime) -> None:
    """As runc's and crun's do; the caller stays where it is."""
    said = oci.folder / "folders"
    said.unlink(missing_ok=True)
    moments = ("prestart", "createRuntime", "poststart", "poststop")
    bundle = oci.bundle(change=with_hooks(**{one: [hook(f"pwd >> {said}")] for one in moments}))
    oci.quiet("create", "--bundle", str(bundle), "--pid-file", "pid", "one", cwd=oci.folder)
    oci.quiet("start", "one", cwd="/")
    oci.wait_for("one", "stopped")
    oci.quiet("delete", "one", cwd="/")
    assert said.read_text().splitlines() == [str(bundle)] * 4
    assert (oci.folder / "pid").exists()


def test_hooks_before_pivot_root_find_the_hosts_files_in_the_mount_namespace(oci: Runtime) -> None:
    """What hooks for libraries and graphics cards do: enter it by the pid of the state, and bind from host to root."""
    given = oci.folder / "given"
    given.write_text("of the host\n")
    script = (
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); touch {root}/etc/given; "
        "nsenter --user --preserve-credentials --mount --target $pid "
        "mount --bind {given} {root}/etc/given"
    )
    bundle = oci.bundle("cat", "/etc/given", own=True)
    root = bundle / "rootfs"
    spec = json.loads((bundle / "config.json").read_text())
    for moment in ("prestart", "createRuntime"):
        spec["hooks"] = {moment: [hook(script.format(given=given, root=root))]}
        (bundle / "config.json").write_text(json.dumps(spec))
        for flags in ((), ("--no-pivot",)):
            result = oci("run", *flags, "--bundle", str(bundle), "one")
            assert (result.code, result.out) == (0, "of the host\n"), (moment, flags, result)
            assert (root / "etc/given").read_bytes() == b""


def test_start_hooks_are_confined_as_the_process_is(oci: Runtime) -> None:
    """They are the container's own files: its user, its capabilities, its filter, and nothing that the caller has open."""
    said = oci.folder / "confined"
    said.unlink(missing_ok=True)
    script = "exec > /shared/confined; id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; ls /proc/self/fd"

    def change(spec: dict[str, Any]) -> None:
        with_hooks(startContainer=[hook(script, env=["PATH=/bin"])])(spec)
        spec["mounts"].append({"destination": "/shared", "type": "bind", "source": str(oci.folder), "options": ["bind"]})  # fmt: skip
        spec["process"] |= {"capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}, "noNewPrivileges": True}  # fmt: skip
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]}  # fmt: skip

    with open(oci.folder / "leak", "wb") as leak:
        oci.quiet(
            "run", "--bundle", str(oci.bundle(change=change)), "one", pass_fds=(leak.fileno(),)
        )
    uid, *status = said.read_text().split("\n")
    assert uid == "0"
    assert status[:3] == ["CapEff:\t0000000000000020", "NoNewPrivs:\t1", "Seccomp:\t2"]
    assert status[3:] == ["0", "1", "2", "3", ""]  # 3 is the folder that ls reads


def test_a_start_hook_that_the_filter_kills(oci: Runtime) -> None:
    def change(spec: dict[str, Any]) -> None:
        with_hooks(startContainer=[hook("mkdir /tmp/made")])(spec)
        names = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [names]}

    result = oci("run", "--bundle", str(oci.bundle(change=change)), "one")
    assert result.code == 1
    assert "error running hook: startContainer #0: /bin/sh: " in result.err
    assert "bad system call" in result.err.lower()


def test_a_hook_may_ask_for_the_state(oci: Runtime) -> None:
    said = oci.folder / "asked"
    script = f"{' '.join(oci.program)} state one > {said}"
    bundle = oci.bundle(change=with_hooks(createRuntime=[hook(script)]))
    assert oci("run", "--bundle", str(bundle), "one").code == 0
    assert json.loads(said.read_text())["status"] == "creating"


def test_a_create_that_is_killed_in_a_hook(oci: Runtime) -> None:
    ready = oci.folder / "ready"
    bundle = oci.bundle(change=with_hooks(prestart=[hook(f"echo > {ready}; sleep 1000")]))
    process = oci.popen("create", "--bundle", str(bundle), "one", stdin=-3, stdout=-3, stderr=-3)
    deadline = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pid = oci.state("one")["pid"]
    process.kill()
    process.wait()
    oci.wait_for("one", "stopped")  # init dies with whoever makes it
    assert not os.path.exists(f"/proc/{pid}/cwd")
    assert oci("delete", "one").code == 0
    assert not (oci.root / "one").exists()


def test_a_hook_that_says_much(oci: Runtime) -> None:
    bundle = oci.bundle(change=with_hooks(prestart=[hook("yes | head -c 300000; exit 1")]))
    result = oci("run", "--bundle", str(bundle), "one")
    assert result.code == 1
    assert "exit status 1: y y y" in result.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -15), (signal.SIGINT, 130)])
def test_until_the_program_starts_a_signal_means_run_itself(
    oci: Runtime, number: int, code: int
) -> None:
    said, gate = oci.folder / f"said-{number}", oci.folder / f"gate-{number}"
    os.mkfifo(said)
    os.mkfifo(gate)
    bundle = oci.bundle("true", change=with_hooks(prestart=[hook(f"echo up >{said}; cat {gate}")]))
    process = oci.popen("run", "--bundle", str(bundle), "one")
    try:
        assert said.read_text() == "up\n"
        process.send_signal(signal.SIGWINCH)  # nothing to die of, neither before nor after
        process.send_signal(number)
        assert process.wait(30) == code
    finally:
        os.close(os.open(gate, os.O_RDWR))
    oci.ok("delete", "--force", "one")
    assert oci("list", "-q").lines == []
