"""`mount` and `unmount`: inside `unshare`, in that shell's mount namespace alone."""

from __future__ import annotations

import json
import shlex

import pytest

from tests.support.engine import Engine


def inside(rootless: Engine, script: str) -> list[str]:
    """A shell of `unshare`'s, with the command as a function."""
    words = shlex.join(rootless.program)
    return rootless.ok("unshare", "sh", "-ec", f'rl() {{ {words} "$@"; }}\n{script}').splitlines()


def test_outside_it_says_where_it_works(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    for args in ((), ("web",), ("--all",)):
        assert rootless.fails("mount", *args) == (
            'Error: cannot run command "rootless mount" in rootless mode, must execute `rootless unshare` first\n'
        )
    assert rootless.ok("unmount", "web") == "web"


@pytest.mark.needs("overlay")
def test_what_is_written_there_is_in_the_container(rootless: Engine) -> None:
    identity = rootless.ok("create", "--name", "web", "--network", "none", "host", "cat", "/root/f")
    lines = inside(
        rootless,
        'at=$(rl mount web); echo text > "$at/root/f"; rl mount; rl mount --format json | tr -d "\\n "; echo;'
        " rl unmount web; rl mount",
    )
    place = f"{rootless.data}/containers/{identity}/rootfs"
    assert lines[0] == f"{identity[:12]}  {place}"
    assert json.loads(lines[1]) == [{"id": identity, "Names": ["web"], "mountpoint": place}]
    assert lines[2:] == ["web"]
    assert rootless.ok("start", "--attach", "web") == "text"


@pytest.mark.needs("overlay")
def test_with_the_shell_the_mount_is_gone(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    inside(rootless, "rl mount web >&2; rl mount --all >&2")
    assert inside(rootless, "rl mount") == []


@pytest.mark.needs("overlay")
def test_a_running_one_is_refused(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "web", "--network", "none", "host", "sleep", "100")
    (line,) = inside(rootless, "rl mount web 2>&1 | head -n 1")
    assert line == (
        "Error: container web is running: its root is mounted in its own namespace only; "
        "`rootless cp`, or `rootless exec web`, or stop it first"
    )
