"""`cp`: Podman's rules for names (recorded in tests/data/podman/cp.txt), streams, owners, and hostile containers."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.support.engine import Engine

RECORDED = Path(__file__).parents[1] / "data/podman/cp.txt"


def cases() -> list[tuple[str, int, str, frozenset[str]]]:
    """(arguments, exit code, error, changes) of each recorded call."""
    found = []
    for block in RECORDED.read_text().split("=== cp ")[1:]:
        lines = block.splitlines()
        error = "".join(line for line in lines[1:] if line.startswith("Error: "))
        code = next(int(line[3:]) for line in lines if line.startswith("rc "))
        changes = frozenset(line for line in lines[1:] if line[:1] in "+-")
        found.append((lines[0], code, error, changes))
    return found


def make_tree(folder: Path, word: str) -> None:
    (folder / "d/sub").mkdir(parents=True)
    (folder / "e").mkdir()
    for name, text in (("f", "f"), ("d/x", "x"), ("d/sub/y", "y")):
        (folder / name).write_text(f"{word}{text}\n")
    for name, target in (("lf", "f"), ("ld", "d"), ("dl", "nope")):
        (folder / name).symlink_to(target)


def state(folder: Path, prefix: str) -> set[str]:
    found = set()
    for path in folder.rglob("*"):
        name = f"{prefix}/{path.relative_to(folder)}"
        if path.is_symlink():
            found.add(f"{name} l {os.readlink(path)}")
        elif path.is_dir():
            found.add(f"{name} d")
        else:
            found.add(f"{name} f {path.read_text().replace(chr(10), '|')}")
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root file system of a container that never runs, which can be looked at from outside."""
    folder = tmp_path / "root"
    make_tree(folder / "c", "c")
    for name, target in (("al", "/c/d"), ("up", "../../../../../../c/e"), ("abs", "/etc/passwd")):
        (folder / "c" / name).symlink_to(target)
    (folder / "etc").mkdir()
    (folder / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
    )
    return folder


# Where we differ: a dangling link at the destination on the host is replaced like any other link.
OURS = {"CTR:/c/f dl": (0, "", frozenset({"-h/dl l nope", "+h/dl f cf|"}))}


@pytest.mark.parametrize(
    ("words", "code", "error", "changes"),
    cases(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_as_recorded(
    rootless: Engine,
    tmp_path: Path,
    root: Path,
    words: str,
    code: int,
    error: str,
    changes: frozenset[str],
) -> None:
    code, error, changes = OURS.get(words, (code, error, changes))
    host = tmp_path / "h"
    make_tree(host, "h")
    rootless.ok("create", "--name", "web", "--rootfs", str(root), "true")
    before = state(host, "h") | state(root / "c", "c")
    result = rootless("cp", *words.replace("CTR", "web").split(), cwd=host)
    assert (result.code, result.err.strip()) == (code, error.replace("CTR", "web")), result
    after = state(host, "h") | state(root / "c", "c")
    made = {f"+{line}" for line in after - before} | {f"-{line}" for line in before - after}
    assert made == changes


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("f", "d"), "f and d are both on the host: name a container, as in web:/etc/hosts"),
        (("f",), "accepts 2 arg(s), received 1"),
        (("f", "web:"), 'invalid arguments "f", "web:": you must specify paths'),
        (("web:/c/d", "web:/c/d/sub"), "cannot copy /c/d into itself"),
        (("-", "web:/c/f"), "destination must be a directory when copying from stdin"),
        (("d", "web:/c/f"), "destination must be a directory when copying a directory"),
    ],
)
def test_mistakes(
    rootless: Engine, tmp_path: Path, root: Path, words: tuple[str, ...], error: str
) -> None:
    make_tree(tmp_path / "h", "h")
    rootless.ok("create", "--name", "web", "--rootfs", str(root), "true")
    assert rootless.fails("cp", *words, cwd=tmp_path / "h").splitlines()[0] == f"Error: {error}"


def test_overwrite(rootless: Engine, tmp_path: Path, root: Path) -> None:
    make_tree(tmp_path / "h", "h")
    rootless.ok("create", "--name", "web", "--rootfs", str(root), "true")
    rootless.ok("cp", "--overwrite", "d", "web:/c/f", cwd=tmp_path / "h")
    assert (root / "c/f/x").read_text() == "hx\n"
    (tmp_path / "h/e/x").mkdir()
    error = rootless.fails("cp", "web:/c/d/x", "e", cwd=tmp_path / "h")
    assert "is a folder in the destination and none in the source" in error
    rootless.ok("cp", "--overwrite", "web:/c/d/x", "e", cwd=tmp_path / "h")
    assert (tmp_path / "h/e/x").read_text() == "cx\n"
    (root / "c/e/d").write_text("a file\n")
    assert "is a folder in the source and none in the destination" in rootless.fails(
        "cp", "d", "web:/c/e", cwd=tmp_path / "h"
    )
    rootless.ok("cp", "--overwrite", "d", "web:/c/e", cwd=tmp_path / "h")
    assert (root / "c/e/d/x").read_text() == "hx\n"


def test_between_containers(rootless: Engine, tmp_path: Path, root: Path) -> None:
    rootless.ok("create", "--name", "one", "--rootfs", str(root), "true")
    rootless.ok("run", "-d", "--name", "two", "--network", "none", "host", "sleep", "100")
    rootless.ok("cp", "one:/c/d", "two:/root")
    rootless.ok("cp", "two:/root/d/.", "one:/c/new")
    assert state(root / "c/new", "n") == {"n/x f cx|", "n/sub d", "n/sub/y f cy|"}
    rootless.ok("cp", "one:/c/d", "one:/c/e")
    assert (root / "c/e/d/sub/y").read_text() == "cy\n"


def test_running_and_stopped_show_the_same(rootless: Engine, tmp_path: Path) -> None:
    rootless.ok(
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "-v",
        "data:/data",
        "host",
        "sleep",
        "100",
    )
    (tmp_path / "f").write_text("text\n")
    for _ in ("running", "stopped"):
        rootless.ok("cp", str(tmp_path / "f"), "web:/data/f")
        rootless.ok("cp", str(tmp_path / "f"), "web:/root/f")
        rootless.ok("cp", "web:/data/f", str(tmp_path / "back"))
        assert (tmp_path / "back").read_text() == "text\n"
        (tmp_path / "back").unlink()
        rootless.ok("stop", "-t", "0", "web")
    data = rootless.ok("volume", "inspect", "--format", "{{.Mountpoint}}", "data")
    assert (Path(data) / "f").read_text() == "text\n"
    rootless.ok("start", "web")
    assert rootless.ok("exec", "web", "cat", "/root/f", "/data/f") == "text\ntext"


def test_files_belong_to_the_containers_user(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    rootless.ok(
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "none",
        "--user",
        "daemon",
        "host",
        "sleep",
        "100",
    )
    rootless.ok("cp", str(tmp_path / "f"), "web:/tmp/given")
    rootless.ok("cp", "--archive=false", str(tmp_path / "f"), "web:/tmp/kept")
    assert rootless.ok(
        "exec", "web", "stat", "-c", "%u:%g %n", "/tmp/given", "/tmp/kept"
    ).splitlines() == [
        "1:1 /tmp/given",
        "0:0 /tmp/kept",
    ]
    rootless.ok("cp", "web:/tmp/given", str(tmp_path / "back"))
    assert (tmp_path / "back").stat().st_uid == os.getuid()


@pytest.mark.needs("subids")
def test_keep_id_gives_files_to_the_caller(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    rootless.ok(
        *(
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "none",
            "--userns",
            "keep-id",
            "host",
            "sleep",
            "100",
        )
    )
    for turn in ("running", "stopped"):
        rootless.ok("cp", str(tmp_path / "f"), f"web:/tmp/{turn}")
        rootless.ok("cp", f"web:/tmp/{turn}", str(tmp_path / turn))
        rootless.ok("stop", "-t", "0", "web")
    rootless.ok("start", "web")
    owners = rootless.ok(
        "exec", "web", "stat", "-c", "%u", "/tmp/running", "/tmp/stopped"
    ).splitlines()
    assert owners == [str(os.getuid())] * 2


def test_nothing_is_left_of_a_killed_copy(rootless: Engine, tmp_path: Path) -> None:
    """The helpers inside die with the command."""
    rootless.ok("run", "-d", "--name", "web", "--network", "none", "host", "sleep", "100")
    before = set(rootless.processes())
    reader, writer = os.pipe()
    process = rootless.popen("cp", "-", "web:/root", stdin=reader)
    os.write(writer, b"\0" * 512)
    while len(set(rootless.processes()) - before) < 2 and process.poll() is None:
        pass
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while set(rootless.processes()) - before and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel ends processes that are not our children
    assert not set(rootless.processes()) - before
    os.close(reader)
    os.close(writer)


def test_modes_times_and_hard_links(rootless: Engine, tmp_path: Path) -> None:
    tree = tmp_path / "t"
    tree.mkdir()
    (tree / "f").write_text("x")
    (tree / "f").chmod(0o751)
    os.link(tree / "f", tree / "g")
    os.utime(tree / "f", (1_000_000_000, 1_000_000_000))
    (tree / "closed").mkdir(mode=0o500)
    rootless.ok("create", "--name", "web", "--network", "none", "host", "true")
    rootless.ok("cp", str(tree), "web:/root/t")
    rootless.ok("cp", "web:/root/t", str(tmp_path / "back"))
    back = tmp_path / "back"
    assert stat.S_IMODE((back / "f").stat().st_mode) == 0o751
    assert (back / "f").stat().st_mtime == 1_000_000_000
    assert (back / "f").stat().st_ino == (back / "g").stat().st_ino
    assert stat.S_IMODE((back / "closed").stat().st_mode) == 0o500


def test_streams(rootless: Engine, tmp_path: Path, root: Path) -> None:
    rootless.ok("create", "--name", "web", "--rootfs", str(root), "true")
    raw = rootless("cp", "web:/c/d", "-").raw_out
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert archive.getnames() == ["d", "d/sub", "d/sub/y", "d/x"]
        assert {member.uid for member in archive.getmembers()} == {os.getuid()}
    for packed in (
        raw,
        subprocess.run(["gzip"], input=raw, capture_output=True, check=True).stdout,
    ):
        rootless.ok("cp", "-", "web:/c/e", input=packed)
        assert (root / "c/e/d/sub/y").read_text() == "cy\n"
    assert "no tar archive" in rootless.fails("cp", "-", "web:/c/e", input=b"no archive" * 100)
    assert "must be a (compressed) tar" in rootless.fails("cp", "-", "web:/c/e", input=b"")


def test_large_file_round_trip(rootless: Engine, tmp_path: Path) -> None:
    data = os.urandom(5_000_001)
    (tmp_path / "f").write_bytes(data)
    rootless.ok("run", "-d", "--name", "web", "--network", "none", "host", "sleep", "100")
    rootless.ok("cp", str(tmp_path / "f"), "web:/root/f")
    rootless.ok("cp", "web:/root/f", str(tmp_path / "g"))
    assert (tmp_path / "g").read_bytes() == data


# --- hostile containers


def test_case_13_links_lead_nowhere_outside(rootless: Engine, tmp_path: Path, root: Path) -> None:
    """Absolute, climbing and magic links are resolved inside the container, on the way in and out."""
    secret = tmp_path / "secret"
    secret.write_text("host\n")
    links = {
        "one": str(secret),
        "two": f"../../../../../../..{secret}",
        "three": "/proc/self/root" + str(secret),
    }
    for name, target in links.items():
        (root / "c" / name).symlink_to(target)
    (root / "c/out").symlink_to(tmp_path)
    rootless.ok("create", "--name", "web", "--rootfs", str(root), "true")
    (tmp_path / "evil").write_text("evil\n")
    for name in links:
        rootless.fails("cp", f"web:/c/{name}", str(tmp_path / "copy"))
        assert not (tmp_path / "copy").exists()
        rootless("cp", str(tmp_path / "evil"), f"web:/c/{name}")
        rootless("cp", str(tmp_path / "evil"), "web:/c/out/secret")
        assert secret.read_text() == "host\n"


def test_case_13_magic_links_of_a_running_one(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("evil\n")
    rootless.ok("run", "-d", "--name", "web", "--network", "none", "host", "sleep", "100")
    for path in (
        "/proc/self/root/etc/hostname",
        "/proc/1/root/etc/passwd",
        "/proc/self/exe",
        "/proc/1/cwd/x",
    ):
        rootless.fails("cp", f"web:{path}", str(tmp_path / "copy"))
        rootless.fails("cp", str(tmp_path / "f"), f"web:{path}")
    assert not (tmp_path / "copy").exists()


def test_case_13_links_in_a_copied_tree_are_not_followed_on_the_host(
    rootless: Engine, tmp_path: Path, root: Path
) -> None:
    """A container cannot plant a link with one file and write through it with the next."""
    target = tmp_path / "target"
    target.mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("x")
        link.type, link.linkname = tarfile.SYMTYPE, str(target)
        archive.addfile(link)
        member = tarfile.TarInfo("x/planted")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    rootless.ok("create", "--name", "web", "--rootfs", str(root), "true")
    rootless.fails("cp", "-", "web:/c/e", input=buffer.getvalue())
    host = tmp_path / "h"
    host.mkdir()
    (host / "d").symlink_to(target)
    rootless.fails("cp", "web:/c/d", str(host))
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("name", ["../planted", "/../../planted", "a/../../planted"])
def test_case_31_names_that_climb(rootless: Engine, root: Path, name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    rootless.ok("create", "--name", "web", "--rootfs", str(root), "true")
    rootless.fails("cp", "-", "web:/c/e", input=buffer.getvalue())
    assert not (root / "c/planted").exists() and not (root / "planted").exists()


SWAP = """
import os
os.makedirs('/c/real', exist_ok=True)
open('/c/real/f', 'w').write('inside')
os.symlink({outside!r}, '/c/evil')
os.rename('/c/real', '/c/x')
print('go', flush=True)
while True:
    os.rename('/c/x', '/c/real'); os.rename('/c/evil', '/c/x')
    os.rename('/c/x', '/c/evil'); os.rename('/c/real', '/c/x')
"""


def test_case_13_swapping_loop(rootless: Engine, tmp_path: Path) -> None:
    """While a folder and a link out of the container change places, no copy touches the host's files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("host")
    before = state(outside, "o")
    os.mkfifo(tmp_path / "ready")
    program = SWAP.format(outside=str(outside)).replace(
        "print('go', flush=True)", "open('/mnt/ready', 'w').close()"
    )
    rootless.ok(
        *(
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "none",
            "-v",
            f"{tmp_path / 'ready'}:/mnt/ready",
        ),
        *("host", "python3", "-c", program),
    )
    (tmp_path / "ready").read_bytes()
    (tmp_path / "evil").write_text("evil")
    inside = 0
    for turn in range(12):
        rootless("cp", str(tmp_path / "evil"), "web:/c/x/f")
        copy = tmp_path / f"copy{turn}"
        if not rootless("cp", "web:/c/x", str(copy)).code and (copy / "f").exists():
            assert (copy / "f").read_text() in ("inside", "evil")
            inside += 1
        assert state(outside, "o") == before
    assert inside


def test_set_uid_bits_stay_in_the_container(rootless: Engine, tmp_path: Path, root: Path) -> None:
    (root / "c/f").chmod(0o6755)
    rootless.ok("create", "--name", "web", "--rootfs", str(root), "true")
    rootless.ok("cp", "web:/c/f", str(tmp_path / "f"))
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o755


def test_what_is_no_file(rootless: Engine, tmp_path: Path, root: Path) -> None:
    """A pipe neither blocks nor is read; in a folder it is copied as a pipe."""
    os.mkfifo(root / "c/pipe")
    rootless.ok("create", "--name", "web", "--rootfs", str(root), "true")
    assert "neither a file nor a folder" in rootless.fails("cp", "web:/c/pipe", str(tmp_path / "p"))
    rootless.ok("cp", "web:/c", str(tmp_path / "all"))
    assert stat.S_ISFIFO((tmp_path / "all/pipe").lstat().st_mode)


def test_a_stopped_one_can_start_afterwards(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    rootless.ok("create", "--rm", "--name", "web", "--network", "none", "host", "cat", "/root/f")
    rootless.ok("cp", str(tmp_path / "f"), "web:/root/f")
    assert rootless.ok("start", "--attach", "web") == "x"
