"""Hostile images and containers against the runtime: each tries an attack that another runtime has fallen to."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import images
from tests.support.engine import REPOSITORY, Engine

pytestmark = pytest.mark.needs("userns", "overlay", "busybox")

NONE = ("--network", "none")


def load(
    engine: Engine, folder: Path, name: str, more: list[images.Entry], **settings: object
) -> str:
    """An image of busybox with some hostile entries on top."""
    archive = images.busybox_archive(
        folder / f"{name}.tar", f"localhost/{name}:latest", more=more, **settings
    )
    engine.ok("load", "--input", str(archive))
    return f"localhost/{name}:latest"


def interpreter() -> Path:
    return Path(os.path.realpath(sys.executable))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_case_01_the_engine_is_not_run_from_inside(rootless: Engine, tmp_path: Path) -> None:
    """A program that is /proc/self/exe would be the interpreter, and then a process of the container's that has it open."""
    name = load(rootless, tmp_path, "exe", [images.symlink("bin/evil", "/proc/self/exe")])
    before = digest(interpreter())
    for program in ("/proc/self/exe", "/bin/evil", "/proc/1/exe"):
        error = rootless.fails("run", "--rm", *NONE, name, program, code=126)
        assert "leads through a link of /proc" in error
    rootless.ok("run", "--detach", "--name", "c", *NONE, name, "sleep", "1000")
    for program in ("/proc/self/exe", "/bin/evil"):
        rootless.fails("exec", "c", program, code=126)
    assert digest(interpreter()) == before


def test_case_01_interpreter_that_belongs_to_the_user(tmp_path: Path) -> None:
    """A script whose interpreter is /proc/self/exe is run by ours. One in the user's home is the container's root's to
    write to, if it is not a sealed copy."""
    own = Engine()
    try:
        python = own.folder / "env/bin/python3"
        python.parent.mkdir(parents=True)
        shutil.copy(interpreter(), python)
        base = Path(sys.base_prefix) / "bin"
        (own.folder / "env/pyvenv.cfg").write_text(f"home = {base}\n")
        evil = own.folder / "evil/x"
        evil.parent.mkdir()
        evil.write_text(
            "#!/proc/self/exe\nimport os\nprint(os.readlink('/proc/self/exe'), flush=True)\n"
            "fd = os.open('/proc/self/exe', os.O_RDONLY)\nos.set_inheritable(fd, True)\n"
            "os.execv('/bin/sh', ['sh', '-c', f'echo pwned >> /proc/self/fd/{fd}; echo $LD_LIBRARY_PATH.'])\n"
        )
        evil.chmod(0o755)
        enter = (
            "import sys; sys.path.append(sys.argv.pop(1)); from rootless.start import main; main()"
        )
        own.program = [str(python), "-I", "-S", "-c", enter, str(REPOSITORY)]
        module = [str(python), "-m", "rootless"]
        before = digest(python)
        volume = ("-v", f"{evil.parent}:/e:ro")
        out = own.ok("run", "--rm", *NONE, *volume, "-e", "LD_LIBRARY_PATH", "host", "/e/x", env={"LD_LIBRARY_PATH": "/l"})  # fmt: skip
        assert out.split() == ["/memfd:rootless", "(deleted)", "/l."]
        own.ok("run", "-d", "--name", "c", *NONE, *volume, "host", "sleep", "1000")
        assert own.ok("exec", "c", "/e/x").startswith("/memfd:rootless ")
        own.program = module
        assert own.ok("exec", "c", "/e/x", cwd=REPOSITORY).startswith("/memfd:rootless ")
        assert digest(python) == before
    finally:
        own.clear()
        own.close()


def test_case_01_03_who_joins_shows_nothing_of_the_host(rootless: Engine, tmp_path: Path) -> None:
    """A root process inside with CAP_SYS_PTRACE watches /proc for the processes of `exec`, their files and program."""
    script = (
        "trap 'exit 0' TERM; echo ready; while :; do for p in /proc/[0-9]*; do"
        " [ ${p#/proc/} -le 2 ] && continue;"
        " readlink $p/exe $p/cwd $p/fd/* 2>/dev/null;"
        " ( : > $p/exe ) 2>/dev/null && echo OVERWRITTEN;"
        " tr '\\0' ' ' < $p/environ 2>/dev/null; done; done"
    )
    name = load(rootless, tmp_path, "watch", [])
    before = digest(interpreter())
    rootless.ok(
        "run", "--detach", "--name", "w", "--cap-add", "SYS_PTRACE", *NONE, name, "sh", "-c", script
    )
    for _ in range(15):
        rootless.ok("exec", "w", "true", env={"HOST_SECRET": "hunter2"})
    rootless.ok("kill", "--signal", "TERM", "w")
    rootless.ok("wait", "w")
    seen = rootless.ok("logs", "w")
    assert "ready" in seen
    for trace in ("python", "hunter2", str(rootless.folder), "OVERWRITTEN", "rootless/"):
        assert trace not in seen
    assert digest(interpreter()) == before


@pytest.mark.parametrize("how", ["workdir", "image", "exec"])
def test_case_02_working_directory_outside(rootless: Engine, tmp_path: Path, how: str) -> None:
    """A working directory below /proc/self/fd never is one of the host's folders."""
    if how == "exec":
        rootless.ok("run", "--detach", "--name", "c", *NONE, "host", "sleep", "1000")
    for number in (*range(3, 16), 20, 30):
        place = f"/proc/self/fd/{number}"
        if how == "workdir":
            result = rootless(
                "run",
                "--rm",
                "--workdir",
                place,
                *NONE,
                "host",
                "cat",
                "../../../../etc/machine-id",
            )
        elif how == "exec":
            result = rootless("exec", "--workdir", place, "c", "cat", "../../../../etc/machine-id")
        else:
            name = load(rootless, tmp_path, f"wd{number}", [], WorkingDir=place)
            result = rootless(
                "run", "--rm", *NONE, name, "sh", "-c", "pwd -P; cat ../../../../etc/machine-id"
            )
        own = (
            Path("/etc/machine-id").read_text().strip()
            if Path("/etc/machine-id").exists()
            else "none here"
        )
        assert own not in result.out or not own
        assert "Traceback" not in result.err


def test_case_04_masked_paths_use_the_hosts_null(rootless: Engine, tmp_path: Path) -> None:
    """The image's own /dev/null is a link to a file that would be bound writable over what is masked."""
    name = load(
        rootless, tmp_path, "null",
        [images.file("bait", "bait", mode=0o666), images.symlink("dev/null", "/bait"), images.symlink("dev/zero", "/bait")],
    )  # fmt: skip
    out = rootless.ok(
        "run", "--rm", "--security-opt", "mask=/etc/passwd", *NONE, name,
        "sh", "-c", "stat -c '%F %t %T' /etc/passwd /dev/null; cat /etc/passwd | wc -c; cat /bait",
    )  # fmt: skip
    lines = out.splitlines()
    assert lines[:2] == ["character special file 1 3"] * 2
    assert lines[2:] == ["0", "bait"]


@pytest.mark.parametrize("entry", ["dev/console", "dev/pts", "dev/ptmx", "dev"])
def test_case_05_07_console_and_dev_are_links(rootless: Engine, tmp_path: Path, entry: str) -> None:
    """/dev, its console or its pts is a link of the image to a place of the host: nothing is made or bound there."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "console").write_text("kept")
    name = load(
        rootless,
        tmp_path,
        "con" + entry.replace("/", ""),
        [images.symlink(entry, str(target / "console") if "console" in entry else str(target))],
    )
    result = rootless(
        "run", "--rm", "--tty", *NONE, name, "sh", "-c", "tty; echo over > /dev/console"
    )
    assert "Traceback" not in result.err
    assert sorted(path.name for path in target.iterdir()) == ["console"]
    assert (target / "console").read_text() == "kept"


@pytest.mark.parametrize("entry", ["proc", "sys"])
def test_case_06_proc_and_sys_are_links(rootless: Engine, tmp_path: Path, entry: str) -> None:
    name = load(
        rootless,
        tmp_path,
        f"link{entry}",
        [images.folder("fake", 0o777), images.symlink(entry, "/fake")],
    )
    assert "must be mounted on ordinary directory" in rootless.fails(
        "run", "--rm", *NONE, name, "true"
    )


def test_case_06_mounts_over_proc(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "fake").mkdir()
    for place in ("/proc/self", "/proc/sys", "/proc/1/attr", "//proc/./sys/kernel"):
        assert "nothing may be mounted below /proc" in rootless.fails(
            "run", "--rm", *NONE, "--volume", f"{tmp_path}/fake:{place}", "host", "true"
        )


@pytest.mark.parametrize(
    "target", ["/etc/hosts", "/etc/resolv.conf", "/run/.containerenv", "/etc/hostname"]
)
def test_case_17_default_mounts_follow_no_link_out(
    rootless: Engine, tmp_path: Path, target: str
) -> None:
    """The folder of a default mount is a link of the image to one of the host's: it is resolved inside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    top = target.split("/")[1]
    name = load(
        rootless, tmp_path, f"def{top}", [images.symlink(top, f"../../../../../../..{outside}")]
    )
    rootless("run", "--rm", name, "true")
    assert list(outside.iterdir()) == []


def test_case_08_10_mount_targets_stay_inside(rootless: Engine, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "data").mkdir()
    name = load(
        rootless, tmp_path, "targets",
        [images.symlink("abs", str(outside)), images.symlink("rel", "../../../../../../../../.." + str(outside))],
    )  # fmt: skip
    for place in ("/abs/new", "/rel/new", "/abs", "/../../../../abs/x"):
        rootless("run", "--rm", *NONE, "--volume", f"{tmp_path}/data:{place}", name, "true")
        rootless("run", "--rm", *NONE, "--tmpfs", place, name, "true")
    assert list(outside.iterdir()) == []


def test_case_12_nothing_of_the_image_is_loaded(rootless: Engine, tmp_path: Path) -> None:
    """Libraries, codecs and programs that the engine might look for are planted in the image; a marker shows their use."""
    bait = "#!/bin/sh\ntouch /caught\n"
    entries = [
        images.file(path, bait, mode=0o755)
        for path in (
            "bin/unpigz",
            "bin/gzip",
            "bin/newuidmap",
            "usr/bin/pasta",
            "bin/ps",
            "sbin/ldconfig",
        )
    ]
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    code = "open('/caught', 'w').close()\n"
    entries += [
        images.file(f"usr/lib/{python}/{module}", code)
        for module in (
            "encodings/__init__.py",
            "encodings/idna.py",
            "site.py",
            "os.py",
            "pwd.py",
            "rootless/__init__.py",
        )
    ]
    entries += [
        images.file(f"lib/{name}", b"\x7fELF not really")
        for name in ("libnss_files.so.2", "libc.so.6", "libseccomp.so.2")
    ]
    name = load(rootless, tmp_path, "planted", entries)
    for words in (
        ("--user", "app"),
        ("--user", "1000:wheel"),
        ("--tty",),
        ("--workdir", "/new/folder"),
        (),
    ):
        result = rootless("run", "--rm", *NONE, *words, name, "ls", "/")
        assert "caught" not in result.out, result
    rootless.ok("run", "--detach", "--name", "c", *NONE, name, "sleep", "1000")
    rootless.ok("exec", "--user", "app", "c", "true")
    rootless.ok("top", "c")
    rootless.ok("cp", "c:/etc/passwd", "-")
    assert "caught" not in rootless.ok("exec", "c", "ls", "/")


@pytest.mark.needs("pasta")
def test_case_43_the_hosts_loopback_is_out_of_reach(rootless: Engine) -> None:
    """A service on the host's 127.0.0.1 is not reached from a container, by any address that leads to the host."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline().split(b"port ")[1].split()[0])
        script = (
            f"for a in 127.0.0.1 $(ip route show default | cut -d' ' -f3) host.containers.internal; do"
            f' timeout 2 bash -c "exec 3<>/dev/tcp/$a/{port}" 2>/dev/null && echo reached $a; done; true'
        )
        assert "reached" not in rootless.ok("run", "--rm", "host", "bash", "-c", script)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_case_48_variables_of_a_container_stay_with_its_owner(rootless: Engine) -> None:
    """`-e NAME=VALUE` is kept to start the container again, and the command for `generate systemd --new`, as Podman does:
    in files that only the owner can open, in no command line that outlives the command, in no log of events."""
    word = f"s3cr3t{rootless.word}"
    rootless.ok("run", "-d", "--name", "s", "-e", f"TOKEN={word}", "host", "sleep", "1000")
    found = []
    for top in (rootless.data, rootless.run):
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    if not os.path.isfile(path) or word.encode() not in Path(path).read_bytes():
                        continue
                except OSError:
                    continue
                found.append(os.path.relpath(path, top))
                assert os.stat(path).st_mode & 0o077 == 0, path
        assert os.stat(top).st_mode & 0o077 == 0
    assert found and not [name for name in found if "events" in name], found
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            assert word.encode() not in words, words
    assert word not in rootless.ok("events", "--stream=false", "--since", "1m")
    assert word not in rootless.ok("ps", "--no-trunc", "--format", "json")
    # Where it is asked for by name, it is told: to whoever could read it from the kernel, too.
    assert rootless.inspect("s")["Config"]["CreateCommand"][-4] == f"TOKEN={word}"
    # With no value on the command line there is none in the command that is kept.
    rootless.ok("create", "--name", "t", "-e", "TOKEN", "host", "true", env={"TOKEN": word})
    assert word not in str(rootless.inspect("t")["Config"]["CreateCommand"])
