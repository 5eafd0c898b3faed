"""rootless-oci: exec, terminals, listings, the log, and what else runc's command line has."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
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


# exec


def test_exec_gives_the_programs_own_status_and_streams(oci: Runtime) -> None:
    name = oci.start()
    result = oci("exec", name, "sh", "-c", "cat; echo words >&2; exit 9", input="given\n")
    assert (result.code, result.out, result.err) == (9, "given\n", "words\n")
    assert oci("exec", name, "ps", "-o", "args").lines[1] == "sleep 1000"


@pytest.mark.parametrize("flags", [(), ("--detach",)])
def test_exec_of_a_program_that_is_missing(oci: Runtime, flags: tuple[str, ...]) -> None:
    name = oci.start()
    result = oci("exec", *flags, name, "nonesuch")
    assert result.code == 255
    assert "executable file `nonesuch` not found in $PATH" in result.err
    result = oci("exec", *flags, name, "/etc/passwd")
    assert (result.code, result.err) == (255, "/etc/passwd: permission denied\n")


def test_exec_where_nothing_runs(oci: Runtime) -> None:
    name = oci.start()
    oci("kill", name, "KILL")
    oci.wait_for(name, "stopped")
    result = oci("exec", name, "true")
    assert result.code == 255
    assert "cannot exec in a stopped container" in result.err


@pytest.mark.needs("subids")
def test_options_of_exec(oci: Runtime) -> None:
    name = oci.start()
    script = "id -u; id -g; pwd; echo $A$B$HOME; grep -E 'CapEff|CapBnd|NoNew' /proc/self/status"
    flags = ("--user", "1000:50", "--cwd", "/tmp", "--env", "A=1", "-e", "B=2", "--cap", "CAP_KILL", "--no-new-privs")  # fmt: skip
    result = oci("exec", *flags, name, "sh", "-c", script)
    assert result.lines == [
        "1000",
        "50",
        "/tmp",
        "12/home/app",
        "CapEff:\t0000000000000020",
        "CapBnd:\t0000000000000020",
        "NoNewPrivs:\t1",
    ]
    plain = oci("exec", name, "sh", "-c", "id -u; grep NoNew /proc/self/status")
    assert plain.lines == ["0", "NoNewPrivs:\t0"]
    assert oci("exec", "--cap", "CAP_NONESUCH", name, "true").code == 0
    groups = oci("exec", "-g", "100", "--additional-gids", "65", name, "id", "-G")
    assert groups.out.split() == ["0", "65", "100"] or groups.out.split() == ["0", "100", "65"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--user", "nobody"), "--user nobody: is no UID[:GID]"),
        (("--cwd", "tmp"), "--cwd tmp: is not an absolute path"),
        (("--console-socket", "/x"), "--console-socket is for a process with a terminal"),
        (("--tty", "--detach"), "use --console-socket"),
        (("--process", "/nonesuch"), "/nonesuch"),
        (("--cgroup", "/below"), "the container has no cgroup of its own"),
    ],
)
def test_mistakes_of_exec(oci: Runtime, flags: tuple[str, ...], said: str) -> None:
    result = oci("exec", *flags, oci.start(), "true")
    assert result.code != 0
    assert said in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.needs("subids")
def test_exec_of_a_process_document(oci: Runtime) -> None:
    name = oci.start()
    document = {
        "args": ["sh", "-c", "id -u; id -G; pwd; echo $A; umask; exit 4"],
        "cwd": "/etc",
        "env": ["A=word", "PATH=/bin"],
        "user": {"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o11},
    }
    (oci.folder / "process").write_text(json.dumps(document))
    result = oci("exec", "--process", str(oci.folder / "process"), name)
    assert (result.code, result.lines) == (4, ["5", "6 7", "/etc", "word", "0011"])
    (oci.folder / "process").write_text(json.dumps({**document, "cwd": "etc"}))
    result = oci("exec", "--process", str(oci.folder / "process"), name)
    assert result.code == 255
    assert 'cwd: "etc" is not an absolute path' in result.err


def test_unknown_capabilities_of_exec_are_left_out_with_a_warning(oci: Runtime) -> None:
    result = oci("exec", "--cap", "CAP_NONESUCH", oci.start(), "true")
    assert result.code == 0
    assert "unknown capability" in result.err and "CAP_NONESUCH" in result.err


def test_cpus_of_an_exec(oci: Runtime) -> None:
    first = min(os.sched_getaffinity(0))
    document = {"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"]}  # fmt: skip
    document["execCPUAffinity"] = {"initial": str(first), "final": str(first)}  # type: ignore[assignment]
    name = oci.start()
    (oci.folder / "process").write_text(json.dumps(document))
    result = oci("exec", "--process", str(oci.folder / "process"), name)
    assert result.out == f"Cpus_allowed_list:\t{first}\n"


def test_a_script_whose_interpreter_is_missing(oci: Runtime) -> None:
    name = oci.start()
    script = oci.rootfs / "script"
    script.write_text("#!/nonesuch foo\n")
    script.chmod(0o755)
    result = oci("exec", name, "/script")
    assert result.code == 255
    assert "exec /script: no such file or directory" in result.err


def test_a_pid_file_that_cannot_be_written(oci: Runtime) -> None:
    name = oci.start()
    assert oci("exec", "--pid-file", "/nonesuch/pid", name, "true").code == 255
    result = oci("run", "--pid-file", "/nonesuch/pid", "--bundle", str(oci.bundle()), "two")
    assert result.code == 1
    assert oci("state", "two").code == 1


def test_exec_in_the_background(oci: Runtime) -> None:
    name = oci.start()
    path = oci.folder / "pid"
    path.unlink(missing_ok=True)
    oci.quiet("exec", "--detach", "--pid-file", str(path), name, "sleep", "77")
    assert path.read_text().isdigit()
    assert Path(f"/proc/{path.read_text()}/cmdline").read_bytes() == b"sleep\x0077\0"


def test_exec_in_a_created_container(oci: Runtime) -> None:
    oci.quiet("create", "--bundle", str(oci.bundle()), "one")
    assert oci("exec", "one", "echo", "here").out == "here\n"


# terminals


def read_until_end(master: int) -> bytes:
    said = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            return said
        if not chunk:
            return said
        said += chunk


class Console:
    """The other side of --console-socket."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.path = str(path)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen(1)
        self.server.settimeout(30)

    def take(self) -> int:
        with self.server.accept()[0] as end:
            _, fds, _, _ = socket.recv_fds(end, 4096, 2)
        self.server.close()
        assert len(fds) == 1
        return fds[0]


def with_terminal(spec: dict[str, Any]) -> None:
    spec["process"].update(terminal=True, consoleSize={"height": 11, "width": 22})


def test_a_terminal_goes_to_the_console_socket(oci: Runtime) -> None:
    console = Console(oci.folder / "console")
    bundle = oci.bundle("sh", "-c", "readlink /proc/self/fd/0; stty size; ls -l /dev/console", change=with_terminal)  # fmt: skip
    oci.quiet("create", "--console-socket", console.path, "--bundle", str(bundle), "one")
    master = console.take()
    oci.quiet("start", "one")
    lines = read_until_end(master).decode().splitlines()
    os.close(master)
    assert lines[:2] == ["/dev/pts/0", "11 22"]
    assert lines[2].startswith("crw")


def test_a_terminal_of_exec_goes_to_the_console_socket(oci: Runtime) -> None:
    name = oci.start()
    console = Console(oci.folder / "console")
    oci.quiet("exec", "--tty", "--detach", "--console-socket", console.path, name, "readlink", "/proc/self/fd/0")  # fmt: skip
    master = console.take()
    assert read_until_end(master).decode().strip() == "/dev/pts/0"
    os.close(master)


def on_a_terminal(oci: Runtime, *words: str, keys: bytes = b"") -> tuple[int, bytes]:
    """Run the runtime on a terminal of 24 lines and 80 columns; its status, and what it shows."""
    pid, master = pty.fork()
    if pid == 0:
        os.execve("/usr/bin/env", ["env", *oci.program, *words], oci.env)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    said = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 1)
        if ready:
            try:
                chunk = os.read(master, 4096)
            except OSError:
                break
            said += chunk
            if keys and b"ready" in said:
                os.write(master, keys)
                keys = b""
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def test_the_output_of_a_terminal_into_a_file_has_plain_newlines(oci: Runtime) -> None:
    """As runc's has; on a screen the terminal is as it always is."""
    bundle = oci.bundle("sh", "-c", "tty; echo one", change=with_terminal)
    with open("/dev/null", "rb") as nothing, open(oci.folder / "lines", "wb") as file:
        oci_run = oci.popen("run", "--bundle", str(bundle), "one", stdin=nothing, stdout=file)
        assert oci_run.wait(30) == 0
    assert (oci.folder / "lines").read_bytes() == b"/dev/pts/0\none\n"
    name = oci.start()
    with open("/dev/null", "rb") as nothing, open(oci.folder / "lines", "wb") as file:
        assert (
            oci.popen("exec", "-t", name, "echo", "two", stdin=nothing, stdout=file).wait(30) == 0
        )
    assert (oci.folder / "lines").read_bytes() == b"two\n"
    code, said = on_a_terminal(oci, "exec", "-t", name, "echo", "three")
    assert (code, said) == (0, b"three\r\n")


def test_run_and_exec_in_the_foreground_join_the_terminals(oci: Runtime) -> None:
    script = "readlink /proc/self/fd/0; echo ready; read line; echo got $line; exit 6"
    bundle = oci.bundle("sh", "-c", script, change=with_terminal)
    code, said = on_a_terminal(oci, "run", "--bundle", str(bundle), "one", keys=b"keys\r")
    assert code == 6
    assert said.decode().splitlines()[0] == "/dev/pts/0"
    assert b"got keys" in said
    name = oci.start()
    code, said = on_a_terminal(oci, "exec", "-t", name, "sh", "-c", script, keys=b"more\r")
    assert code == 6
    assert b"got more" in said


@pytest.mark.needs("subids")
def test_a_terminal_belongs_to_its_user(oci: Runtime) -> None:
    name = oci.start()
    code, said = on_a_terminal(oci, "exec", "-t", "--user", "1", name, "stat", "-Lc", "%u", "/proc/self/fd/0")  # fmt: skip
    assert (code, said.strip()) == (0, b"1")


def test_signals_are_passed_on(oci: Runtime) -> None:
    script = "trap 'echo usr1; exit 3' USR1; echo ready; while :; do sleep 0.05; done"
    bundle = oci.bundle("sh", "-c", script)
    process = oci.popen("run", "--bundle", str(bundle), "one", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(10)
    assert process.communicate(timeout=30)[0] == b"usr1\n"
    assert process.returncode == 3


# what there is


def test_listings(oci: Runtime) -> None:
    names = [oci.start(), oci.start()]
    states = [oci.state(name) for name in names]
    assert oci("list", "-q").lines == names
    assert oci("list", "--format", "json").json == states
    lines = [line.split() for line in oci("list").lines]
    assert lines[0] == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert lines[1][:4] == [names[0], str(states[0]["pid"]), "running", states[0]["bundle"]]
    assert oci("list", "--format", "nonesuch").code == 1
    os.mkdir(oci.root / "half-made")
    assert oci("list", "-q").lines == names


def test_a_folder_that_is_no_root(oci: Runtime) -> None:
    result = oci("list", env={}, input="")
    assert result.code == 0
    process = subprocess.run([*oci.plain, "--root", "/nonesuch", "list"], env=oci.env, capture_output=True, check=False)  # fmt: skip
    assert process.returncode == 1


def test_processes(oci: Runtime) -> None:
    name = oci.start("sh", "-c", "sleep 1000 & sleep 1001; true")
    pid = oci.state(name)["pid"]
    deadline = time.monotonic() + 20
    while len(pids := oci("ps", "--format", "json", name).json) < 3:
        assert time.monotonic() < deadline
    assert pid in pids
    result = oci("ps", name)
    assert "PID" in result.lines[0].split()
    assert len(result.lines) == 4
    assert oci("ps", name, "-o", "pid,args").lines[0].split() == ["PID", "COMMAND"]
    assert oci("ps", "nobody").code == 1


def test_a_pause(oci: Runtime) -> None:
    name = oci.start("sh", "-c", "while :; do :; done")
    assert oci("resume", name).code == 1
    assert oci("pause", name).code == 0
    pid = oci.state(name)["pid"]
    assert oci.state(name)["status"] == "paused"
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert stat[0] in ("T", "D", "S")
    assert oci("pause", name).code == 1
    result = oci("exec", name, "true")
    assert (result.code, "--ignore-paused" in result.err) == (255, True)
    assert oci("resume", name).code == 0
    assert oci.state(name)["status"] == "running"
    assert oci("exec", name, "true").code == 0


def test_kill_of_all(oci: Runtime) -> None:
    name = oci.start("sh", "-c", "trap '' TERM; sleep 1000 & sleep 1001 & wait; wait")
    assert oci("kill", "--all", name, "KILL").code == 0
    oci.wait_for(name, "stopped")
    assert oci("kill", "--all", name).code == 0


@pytest.mark.needs("no-cgroup2")
def test_limits_need_a_cgroup(oci: Runtime) -> None:
    name = oci.start()
    result = oci("update", "--pids-limit", "20", name)
    assert result.code == 1
    assert "cgroups of version 1" in result.err
    resources = {"unified": {"pids.max": "20"}}
    result = oci.go(change=lambda spec: spec["linux"].update(resources=resources))
    assert result.code == 1
    assert "invalid configuration: linux.resources.unified: " in result.err


@pytest.mark.needs("no-cgroup2")
def test_what_the_processes_use_where_there_is_no_cgroup(oci: Runtime) -> None:
    name = oci.start("sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo > /dev/done; sleep 1000")  # fmt: skip
    deadline = time.monotonic() + 30
    while oci("exec", name, "cat", "/dev/done").code:
        assert time.monotonic() < deadline
    event = oci("events", "--stats", name).json
    assert (event["type"], event["id"]) == ("stats", name)
    data = event["data"]
    assert (
        data["cpu"]["usage"]["total"]
        == data["cpu"]["usage"]["user"] + data["cpu"]["usage"]["kernel"]
        > 0
    )
    assert data["memory"]["usage"]["usage"] > 0
    assert data["pids"]["current"] >= 1
    with oci.popen("events", "--interval", "10ms", name, stdout=-1) as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["type"] == "stats"
        oci("kill", name, "KILL")  # with which it ends
        follower.communicate(timeout=30)
    assert follower.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--memory", "lots"), "--memory lots: is no size"),
        (("--cpu-share", "many"), "--cpu-share many: is no number"),
        ((), "neither --resources nor a limit"),
        (("--resources", "/nonesuch"), "/nonesuch"),
    ],
)
def test_mistakes_of_update(oci: Runtime, words: tuple[str, ...], said: str) -> None:
    result = oci("update", *words, oci.start())
    assert result.code == 1
    assert said in result.err


@pytest.mark.parametrize("flags", [(), ("--rootless",)])
def test_spec_can_be_run(oci: Runtime, tmp_path: Path, flags: tuple[str, ...]) -> None:
    folder = oci.folder / f"spec{len(flags)}"
    folder.mkdir()
    assert oci("spec", *flags, "--bundle", str(folder)).code == 0
    assert oci("spec", *flags, "--bundle", str(folder)).code == 1
    spec = json.loads((folder / "config.json").read_text())
    kinds = {one["type"] for one in spec["linux"]["namespaces"]}
    assert ("user" in kinds) == bool(flags)
    assert ("network" in kinds) != bool(flags)
    spec["process"].update(terminal=False, args=["echo", "it runs"])
    (folder / "config.json").write_text(json.dumps(spec))
    (folder / "rootfs").symlink_to(oci.rootfs)
    assert oci("run", "--bundle", str(folder), "one").out == "it runs\n"


def test_features(oci: Runtime) -> None:
    found = oci("features").json
    assert found["ociVersionMin"] == "1.0.0"
    assert found["ociVersionMax"].startswith("1.2.")
    assert set(found["hooks"]) == {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}  # fmt: skip
    assert {"ro", "rro", "rbind", "idmap", "tmpcopyup", "copy-symlink"} <= set(found["mountOptions"])  # fmt: skip
    assert {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"} == set(found["linux"]["namespaces"])  # fmt: skip
    assert set(found["linux"]) == {"namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "selinux", "mountExtensions", "intelRdt", "netDevices"}  # fmt: skip
    assert "CAP_SYS_ADMIN" in found["linux"]["capabilities"]
    # Each that the runtime acts upon, and no version of a runtime that it is not.
    assert found["potentiallyUnsafeConfigAnnotations"] == ["run.oci.keep_original_groups", "run.oci.pidfd_receiver"]  # fmt: skip
    assert list(found["annotations"]) == ["run.oci.rootless.version"]


def test_version_and_help(oci: Runtime) -> None:
    lines = oci("--version").lines
    assert lines[0].startswith("rootless-oci version ")
    assert lines[1].startswith("commit: ")
    assert lines[2].startswith("spec: ")
    assert lines[3].startswith("+")
    assert "COMMANDS:" in oci("--help").out
    assert "--console-socket" in oci("create", "--help").out


def test_checkpoint_says_what_is_missing(oci: Runtime) -> None:
    name = oci.start()
    for command in ("checkpoint", "restore"):
        bundle = () if command == "checkpoint" else ("--bundle", str(oci.bundle()))
        images = str(oci.folder / "images")
        words = (command, "--image-path", images, *bundle)
        result = oci(*words, name if command == "checkpoint" else "two")
        assert (result.code, result.out) == (1, "")
        assert "criu" in result.err
        assert len(result.err.splitlines()) == 1
        assert "exit status" not in result.err  # but why


# the log


def test_errors_in_the_log(oci: Runtime) -> None:
    log = oci.folder / "log"
    log.unlink(missing_ok=True)
    result = oci("--log", str(log), "--log-format", "json", "state", "nobody")
    assert (result.code, result.err) == (1, "container `nobody` does not exist\n")
    entry = json.loads(log.read_text())
    assert (entry["level"], entry["msg"]) == ("error", "container `nobody` does not exist")
    assert entry["time"][:2] == "20" and "T" in entry["time"]
    oci("--log", str(log), "--log-format", "text", "state", "no-one")
    last = log.read_text().splitlines()[-1]
    assert last.startswith('time="20')
    assert last.endswith('level=error msg="container `no-one` does not exist"')
    oci("--log", f"file:{log}", "state", "no-two")
    assert "no-two" in log.read_text()


@pytest.mark.parametrize(
    "words",
    [("--log-format", "xml"), ("--log", "nonesuch:/x"), ("--rootless", "perhaps"), ("--cgroup-manager", "x"), ("--log-level", "loud")],
)  # fmt: skip
def test_global_options_are_checked(oci: Runtime, words: tuple[str, str]) -> None:
    result = oci(*words, "list")
    assert result.code == 1
    assert words[0] in result.err


def test_debug_messages(oci: Runtime) -> None:
    bundle = str(oci.bundle())
    result = oci("--debug", "run", "--bundle", bundle, "one")
    assert result.code == 0
    assert 'level=debug msg="container one: init is process ' in result.err
    log = oci.folder / "debug"
    result = oci("--debug", "--log", str(log), "--log-format", "json", "run", "--bundle", bundle, "two")  # fmt: skip
    assert result.err == ""
    assert "level=debug" in oci("--debug", "exec", oci.start(), "true").err
    assert all(json.loads(line)["level"] == "debug" for line in log.read_text().splitlines())


@pytest.mark.needs("no-cgroup2")
def test_a_cgroup_on_demand(oci: Runtime) -> None:
    result = oci("--rootless", "false", "run", "--bundle", str(oci.bundle()), "one")
    assert result.code == 1
    assert "--rootless=false: there can be no cgroup: this host has cgroups of version 1" in result.err  # fmt: skip
    assert oci("--rootless=true", "run", "--bundle", str(oci.bundle()), "one").code == 0


def test_state_survives_a_bundle_that_changes(oci: Runtime) -> None:
    bundle = oci.bundle("sleep", "1000")
    oci.quiet("create", "--bundle", str(bundle), "one")
    (bundle / "config.json").write_text("{}")
    oci.quiet("start", "one")
    assert oci("exec", "one", "echo", "still").out == "still\n"
    assert oci.state("one")["status"] == "running"


def test_another_name_for_the_configuration(oci: Runtime) -> None:
    bundle = oci.bundle("echo", "other")
    (bundle / "config").mkdir()
    (bundle / "config.json").rename(bundle / "config/config.json")
    result = oci("run", "--config", "config/config.json", "one", cwd=bundle)
    assert result.out == "other\n"


def test_keep(oci: Runtime) -> None:
    bundle = str(oci.bundle())
    assert oci("run", "--keep", "--bundle", bundle, "one").code == 0
    assert oci.state("one")["status"] == "stopped"
    assert oci("run", "--keep", "--bundle", bundle, "one").code == 1
    assert oci("delete", "one").code == 0
    for _ in range(2):
        assert oci("run", "--bundle", bundle, "two").code == 0


def test_readiness_is_passed_on(oci: Runtime) -> None:
    path = oci.folder / "notify"
    path.unlink(missing_ok=True)
    script = "ls -d $NOTIFY_SOCKET; cat /proc/self/mountinfo"
    result = oci.go("sh", "-c", script, env={"NOTIFY_SOCKET": str(path)})
    assert result.lines[0] == f"{path}/notify"
    assert any(f" {path} " in line for line in result.lines)


@pytest.mark.needs("subids")
def test_exec_begins_in_a_folder_that_its_user_may_not_enter(oci: Runtime) -> None:
    """As runc and crun have it: the folder is entered with root's rights first."""
    name = oci.start()
    assert oci("exec", name, "mkdir", "-p", "-m", "700", "/tmp/closed").code == 0
    result = oci(
        "exec", "--user", "1000:1000", "--cwd", "/tmp/closed", name, "readlink", "/proc/self/cwd"
    )
    assert result.out == "/tmp/closed\n", result
