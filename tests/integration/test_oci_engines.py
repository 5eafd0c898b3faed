"""Other engines on top of rootless-oci: podman and buildah, rootless, and conmon as CRI-O calls it."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import host
from tests.support.engine import Engine
from tests.support.oci import Runtime, command, make_rootfs

pytestmark = [pytest.mark.needs("userns", "subids", "busybox"), pytest.mark.peer, pytest.mark.slow]


class Podman(Engine):
    """podman with a home and a store of its own, and our runtime in the place of crun."""

    def __init__(self, folder: Path) -> None:
        super().__init__(program=["podman"])
        config = self.home / ".config/containers"
        config.mkdir(parents=True)
        (config / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\nrunroot = "{self.run_home}/storage"\n'
            f'graphroot = "{self.home}/.local/share/containers/storage"\n'
        )
        runtime = command()[0]
        (config / "containers.conf").write_text(
            '[engine]\nruntime = "rootless-oci"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'[engine.runtimes]\nrootless-oci = ["{runtime}"]\n'
        )
        make_rootfs(folder / "rootfs")
        with tarfile.open(folder / "root.tar", "w") as archive:
            archive.add(folder / "rootfs", arcname=".")
        self.ok("import", str(folder / "root.tar"), "localhost/box")

    def shutdown(self) -> None:
        for words in (("pod", "rm", "--all", "--force", "--time", "0"), ("rm", "--all", "--force", "--time", "0"), ("rmi", "--all", "--force")):  # fmt: skip
            self(*words)
        subprocess.run(
            ["podman", "unshare", "rm", "-rf", str(self.home / ".local/share/containers")],
            env=self.env, capture_output=True, check=False,
        )  # fmt: skip
        self("system", "migrate")  # ends the process that podman keeps for each of its stores
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    host.require("podman")
    engine = Podman(tmp_path_factory.mktemp("podman"))
    yield engine
    engine.shutdown()


RUN = ("run", "--rm", "--network", "none", "localhost/box")


def test_podman_run(podman: Podman) -> None:
    result = podman(*RUN, "sh", "-c", "cat; echo words >&2; exit 5", input="")
    assert result.code == 5
    assert "words" in result.err
    assert podman(*RUN, "echo", "out").out == "out\n"
    assert podman(*RUN, "nonesuch").code == 127
    assert podman(*RUN, "/etc").code == 126
    given = podman("run", "--rm", "-i", "--network", "none", "localhost/box", "cat", input="given")
    assert given.out == "given"


def test_podman_run_with_options(podman: Podman) -> None:
    options = ("--user", "1000", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")  # fmt: skip
    script = "id -u; touch /x || echo read-only; grep -E 'CapBnd|NoNew' /proc/self/status; echo again > /dev/stdout"  # fmt: skip
    result = podman(
        "run", "--rm", "--network", "none", *options, "localhost/box", "sh", "-c", script
    )
    assert result.lines == [
        "1000",
        "read-only",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "again",
    ]
    result = podman("run", "--rm", "--userns", "keep-id", "localhost/box", "id", "-u")
    assert result.out == f"{os.getuid()}\n"
    assert podman("run", "--rm", "--network", "host", "localhost/box", "ls", "/sys/class/net").code == 0  # fmt: skip
    assert podman("run", "--rm", "--pid", "host", "localhost/box", "true").code == 0
    assert podman("run", "--rm", "--privileged", "localhost/box", "true").code == 0


def test_podman_on_a_running_container(podman: Podman) -> None:
    script = "trap 'exit 4' TERM; while :; do sleep 0.1; done"
    podman.ok("run", "--detach", "--network", "none", "--name", "one", "localhost/box", "sh", "-c", script)  # fmt: skip
    assert podman.ok("exec", "one", "id", "-u") == "0"
    assert podman("exec", "one", "sh", "-c", "exit 9").code == 9
    assert podman("exec", "one", "nonesuch").code == 127
    assert podman("exec", "-i", "one", "cat", input="given").out == "given"
    podman.ok("exec", "--detach", "one", "sleep", "55")
    assert "sleep 55" in podman.ok("top", "one")
    found = json.loads(podman.ok("inspect", "one"))[0]
    assert found["State"]["Status"] == "running"
    assert found["OCIRuntime"] == "rootless-oci"
    podman.ok("stop", "one")
    assert podman.ok("inspect", "--format", "{{.State.ExitCode}} {{.State.Status}}", "one") == "4 exited"  # fmt: skip
    podman.ok("start", "one")
    podman.ok("kill", "one")
    podman.ok("wait", "one")
    podman.ok("rm", "one")


@pytest.mark.needs("freezer")
def test_podman_pause(podman: Podman) -> None:
    podman.ok("run", "--detach", "--network", "none", "--name", "held", "localhost/box", "sleep", "1000")  # fmt: skip
    podman.ok("pause", "held")
    assert podman.ok("inspect", "--format", "{{.State.Status}}", "held") == "paused"
    podman.ok("unpause", "held")
    podman.ok("rm", "--force", "--time", "0", "held")


def on_a_terminal(engine: Engine, *words: str, keys: bytes) -> tuple[int, bytes]:
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(engine.program[0], [*engine.program, *words], {**os.environ, **engine.env})
    said = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([master], [], [], 1)[0]:
            try:
                said += os.read(master, 4096)
            except OSError:
                break
            if keys and b"ready" in said:
                os.write(master, keys)
                keys = b""
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def test_podman_with_a_terminal(podman: Podman) -> None:
    script = "readlink /proc/self/fd/0; echo ready; read line; echo got $line; exit 6"
    code, said = on_a_terminal(podman, "run", "--rm", "-it", "--network", "none", "localhost/box", "sh", "-c", script, keys=b"keys\r")  # fmt: skip
    assert code == 6
    assert b"/dev/pts/0" in said
    assert b"got keys" in said
    podman.ok("run", "--detach", "--network", "none", "--name", "tty", "localhost/box", "sleep", "1000")  # fmt: skip
    code, said = on_a_terminal(podman, "exec", "-it", "tty", "sh", "-c", script, keys=b"more\r")
    podman.ok("rm", "--force", "--time", "0", "tty")
    assert code == 6
    assert b"got more" in said


@pytest.mark.needs("catatonit")  # the process of its infra container
def test_podman_pod(podman: Podman) -> None:
    podman.ok("pod", "create", "--network", "none", "--name", "pod")
    for name in ("a", "b"):
        podman.ok("run", "--detach", "--pod", "pod", "--name", name, "localhost/box", "sleep", "1000")  # fmt: skip
    links = [podman.ok("exec", name, "readlink", "/proc/self/ns/net") for name in ("a", "b")]
    assert links[0] == links[1]
    assert podman.ok("exec", "a", "hostname") == "pod"
    podman.ok("pod", "rm", "--force", "--time", "0", "pod")


def test_podman_build(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text("FROM localhost/box\nRUN echo made > /made\nRUN cat /made\n")  # fmt: skip
    podman.ok("build", "--network", "none", "--tag", "localhost/built", str(tmp_path), timeout=120)
    assert podman.ok("run", "--rm", "--network", "none", "localhost/built", "cat", "/made") == "made"  # fmt: skip


@pytest.mark.needs("buildah")
def test_buildah_run(podman: Podman) -> None:
    buildah = Engine(folder=podman.folder / "buildah", program=["buildah"])
    buildah.env = podman.env
    name = buildah.ok("from", "localhost/box")
    result = buildah("run", "--runtime", command()[0], "--network", "none", name, "sh", "-c", "id -u; exit 3")  # fmt: skip
    assert (result.code, result.out) == (3, "0\n")
    buildah.ok("rm", name)


# conmon by itself


@pytest.fixture
def oci() -> Iterator[Runtime]:
    host.require("conmon")
    runtime = Runtime()
    yield runtime
    runtime.clear()
    runtime.close()


def conmon(oci: Runtime, *words: str) -> int:
    """Call conmon with its pipes, as CRI-O does; the pid that it reports, or the negative number of its failure."""
    reader, writer = os.pipe()
    start_reader, start_writer = os.pipe()
    os.set_inheritable(writer, True)
    os.set_inheritable(start_reader, True)
    env = {**oci.env, "_OCI_SYNCPIPE": str(writer), "_OCI_STARTPIPE": str(start_reader)}
    process = subprocess.Popen(
        ["conmon", "--api-version", "1", "--runtime", oci.plain[0], "--runtime-arg", f"--root={oci.root}", *words],
        env=env, pass_fds=(writer, start_reader), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writer)
    os.close(start_reader)
    os.write(start_writer, b"\0")  # go on
    os.close(start_writer)
    said = b""
    while not said.endswith(b"\n"):
        chunk = os.read(reader, 4096)
        if not chunk:
            break
        said += chunk
    os.close(reader)
    process.wait(30)
    report = json.loads(said.splitlines()[0])
    assert "data" in report or "pid" in report, report
    pid: int = report.get("data", report.get("pid"))
    return pid


def wait_for_file(path: Path) -> str:
    deadline = time.monotonic() + 30
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text()


def test_conmon_as_cri_o_calls_it(oci: Runtime) -> None:
    bundle = oci.bundle("sh", "-c", "echo to the log; exit 7")
    exits = oci.folder / "exits"
    exits.mkdir()
    log = oci.folder / "log"
    pid = conmon(
        oci,
        *("--cid", "one", "--cuuid", "one", "--name", "one", "--bundle", str(bundle)),
        *("--container-pidfile", str(oci.folder / "pid"), "--conmon-pidfile", str(oci.folder / "cpid")),
        *("--exit-dir", str(exits), "--log-path", str(log), "--persist-dir", str(oci.folder)),
        *("--socket-dir-path", str(oci.folder), "--log-level", "info"),
    )  # fmt: skip
    assert oci.state("one")["status"] == "created"
    assert oci.state("one")["pid"] == pid
    assert (oci.folder / "pid").read_text() == str(pid)
    oci.quiet("start", "one")
    assert wait_for_file(exits / "one") == "7"
    assert " stdout F to the log" in log.read_text()
    assert oci.state("one")["status"] == "stopped"
    assert oci("delete", "one").code == 0


def test_what_conmon_reports_of_a_failure(oci: Runtime) -> None:
    bundle = oci.bundle("nonesuch")
    pid = conmon(
        oci,
        *("--cid", "one", "--cuuid", "one", "--name", "one", "--bundle", str(bundle)),
        *("--container-pidfile", str(oci.folder / "pid"), "--exit-dir", str(oci.folder)),
        *("--log-path", str(oci.folder / "log"), "--socket-dir-path", str(oci.folder)),
    )
    assert pid < 0
    assert oci("state", "one").code == 1


def test_exec_by_conmon(oci: Runtime) -> None:
    name = oci.start()
    document = {"args": ["sh", "-c", "id -u; exit 8"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}  # fmt: skip
    process = oci.folder / "process.json"
    process.write_text(json.dumps(document))
    exits = oci.folder / "exits"
    exits.mkdir()
    pid = conmon(
        oci,
        *("--cid", name, "--cuuid", "session", "--exec", "--exec-process-spec", str(process)),
        *("--container-pidfile", str(oci.folder / "pid"), "--exit-dir", str(exits)),
        *("--bundle", oci.state(name)["bundle"], "--log-path", str(oci.folder / "log")),
        *("--socket-dir-path", str(oci.folder)),
    )
    assert pid > 0
    assert wait_for_file(exits / name) == "8"
