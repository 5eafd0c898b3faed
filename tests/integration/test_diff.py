"""`diff` and `export`: a container's changes and its tree, without a mount."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from tests.support.engine import Engine

CHANGE = "echo x > /new; mkdir /d; echo y > /d/f; rm /etc/passwd; echo z >> /etc/group; ln -s /new /srv/l; exit 0"


def changed(rootless: Engine) -> None:
    assert (
        rootless("run", "--name", "web", "--network", "none", "host", "sh", "-c", CHANGE).code == 0
    )


def test_diff(rootless: Engine) -> None:
    changed(rootless)
    lines = rootless.ok("diff", "web").splitlines()
    assert lines == [
        "A /d", "A /d/f", "C /etc", "C /etc/group", "D /etc/passwd", "A /new", "C /srv", "A /srv/l",
    ]  # fmt: skip
    assert json.loads(rootless.ok("container", "diff", "--format", "json", "web")) == {
        "changed": ["/etc", "/etc/group", "/srv"],
        "added": ["/d", "/d/f", "/new", "/srv/l"],
        "deleted": ["/etc/passwd"],
    }
    assert rootless.ok("diff", "--latest").splitlines() == lines


def test_diff_of_a_running_one_has_nothing_of_the_engines(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "web", "host", "sleep", "100")
    assert set(rootless.ok("diff", "web").splitlines()) <= {"C /etc"}


def test_diff_against_another(rootless: Engine) -> None:
    changed(rootless)
    rootless.ok("create", "--name", "other", "host", "true")
    found = set(rootless.ok("diff", "web", "other").splitlines())
    assert {"A /new", "D /etc/passwd", "C /etc/group"} <= found
    assert rootless.ok("diff", "web", "web") == ""
    assert rootless.ok("diff", "web", "host").splitlines()


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("diff", "nosuch"), "nosuch not found: layer not known"),
        (
            ("container", "diff", "nosuch"),
            'no container with name or ID "nosuch" found: no such container',
        ),
        (("diff", "--format", "foo", "x"), "only supported value for '--format' is 'json'"),
        (("export", "nosuch"), 'no container with name or ID "nosuch" found: no such container'),
        (("export", "-o", "/nosuch/x", "web"), "open /nosuch/x: no such file or directory"),
        (("export", "-o", "a:b", "web"), "invalid filename (should not contain ':') \"a:b\""),
    ],
)
def test_errors_are_podmans(rootless: Engine, args: tuple[str, ...], error: str) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    assert rootless.fails(*args) == f"Error: {error}\n"


def test_rootfs_has_nothing_to_compare_with(rootless: Engine, tmp_path: Path) -> None:
    rootless.ok("create", "--name", "web", "--rootfs", str(tmp_path), "true")
    assert "has nothing to be compared with" in rootless.fails("diff", "web")


def test_export(rootless: Engine, tmp_path: Path) -> None:
    changed(rootless)
    raw = rootless("export", "web").raw_out
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        names = set(archive.getnames())
        assert {"new", "d/f", "etc/group", "srv/l", "usr"} <= names and "etc/passwd" not in names
        member = archive.extractfile("etc/group")
        assert member is not None and member.read().endswith(b"z\n")
        assert archive.getmember("new").uid == 0
    rootless.ok("export", "--output", str(tmp_path / "x.tar"), "web")
    assert (tmp_path / "x.tar").read_bytes() == raw


def test_case_14_links_are_exported_as_links(rootless: Engine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    (tmp_path / "root").mkdir()
    os.symlink(tmp_path / "secret", tmp_path / "root/l")
    os.symlink(tmp_path, tmp_path / "root/d")
    rootless.ok("create", "--name", "web", "--rootfs", str(tmp_path / "root"), "true")
    with tarfile.open(fileobj=io.BytesIO(rootless("export", "web").raw_out)) as archive:
        assert sorted((one.name, one.issym()) for one in archive.getmembers()) == [
            ("d", True),
            ("l", True),
        ]


def test_export_into_a_closed_pipe(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    reader, writer = os.pipe()
    os.close(reader)
    process = rootless.popen("export", "web", stdout=writer, stderr=-3)
    os.close(writer)
    assert process.wait(30) != 0


def test_folders_nested_beyond_any_path(rootless: Engine, tmp_path: Path) -> None:
    """Listed; what would have to name them in an archive says so in one line, and leaves nothing behind."""
    name = "n" * 250
    chain = f"mkdir -p /$1{f'/{name}' * 10}"
    script = f"set -- a; {chain}; set -- b; {chain}; mv /b /a{f'/{name}' * 10}"
    rootless.ok("run", "--name", "deep", "--network", "none", "host", "sh", "-c", script)
    listed = rootless.ok("diff", "deep").splitlines()
    assert max(map(len, listed)) > 5000

    def files() -> list[str]:
        return sorted(map(str, (rootless.data / "images").glob("**/*")))

    before = files()
    archive = tmp_path / "deep.tar"
    for args in (
        ("export", "--output", str(archive), "deep"),
        ("export", "deep"),
        ("cp", "deep:/a", "-"),
        ("commit", "deep", "deepimage"),
    ):
        message = rootless.fails(*args)
        assert ": path too long for an archive: " in message and message.count("\n") == 1
    assert not archive.exists()
    assert files() == before
    rootless.ok("rm", "deep")
