"""`rename`, `init`, `container exists`, `prune` and `cleanup`."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.engine import Engine


def test_rename(rootless: Engine) -> None:
    identity = rootless.ok("create", "--name", "old", "host", "true")
    assert rootless.ok("rename", "old", "new") == ""
    assert rootless.inspect("new")["Id"] == identity
    assert rootless("container", "exists", "old").code == 1
    rootless.ok("create", "--name", "old", "host", "true")


def test_rename_of_a_running_one(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "old", "--network", "none", "host", "sleep", "100")
    rootless.ok("container", "rename", "old", "new")
    assert rootless.inspect("new")["State"]["Running"] is True
    rootless.ok("stop", "-t", "0", "new")


def test_rename_to_its_own_name(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    assert rootless.ok("rename", "web", "web") == ""
    assert rootless.inspect("web")["Name"] == "web"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (
            ("rename", "nosuch", "x"),
            'no container with name or ID "nosuch" found: no such container',
        ),
        (("rename", "one", "b@d"), "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"),
        (
            ("rename", "one", "../x"),
            "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument",
        ),
        (("rename", "one"), "accepts 2 arg(s), received 1"),
        (("rename", "one", "two"), 'the container name "two" is already in use by '),
        (
            ("create", "--name", "one", "host", "true"),
            'creating container storage: the container name "one" is already in use by ',
        ),
        (("init", "nosuch"), 'no container with name or ID "nosuch" found: no such container'),
        (("init",), "you must provide at least one name or id"),
        (("container", "cleanup"), "you must provide at least one name or id"),
        (("container", "exists"), "accepts 1 arg(s), received 0"),
        (("container", "prune", "--force", "--filter", "foo=b"), "foo is an invalid filter"),
        (("container", "prune", "x"), "`rootless container prune` takes no arguments"),
    ],
)
def test_errors_are_podmans(rootless: Engine, args: tuple[str, ...], error: str) -> None:
    for name in ("one", "two"):
        rootless.ok("create", "--name", name, "host", "true")
    assert rootless.fails(*args).startswith(f"Error: {error}")


def test_init_then_start(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "--network", "none", "host", "echo", "now")
    assert rootless.ok("init", "web") == "web"
    state = rootless.inspect("web")["State"]
    assert state["Status"] == "initialized" and state["Pid"] > 0 and not state["Running"]
    error = rootless.fails("init", "web")
    assert error.endswith("has already been created in runtime: container state improper\n")
    assert rootless.ok("init", "--all").splitlines() == [rootless.inspect("web")["Id"]]
    assert rootless.ok("start", "--attach", "web") == "now"


def test_exists(rootless: Engine) -> None:
    identity = rootless.ok("create", "--name", "web", "host", "true")
    for name, code in (("web", 0), (identity, 0), (identity[:12], 0), ("nosuch", 1)):
        result = rootless("container", "exists", name)
        assert (result.code, result.out, result.err) == (code, "", "")


def test_prune_leaves_what_runs(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "up", "--network", "none", "host", "sleep", "100")
    rootless.ok("create", "--name", "kept", "--label", "keep=1", "host", "true")
    gone = rootless.ok("create", "--name", "gone", "host", "true")
    result = rootless("container", "prune", input="n\n")
    assert (result.code, result.out) == (
        0,
        "WARNING! This will remove all non running containers.\nAre you sure you want to continue? [y/N] ",
    )
    assert rootless.ok("container", "prune", "--force", "--filter", "label!=keep") == gone
    assert rootless("container", "prune", input="y\n").code == 0
    assert rootless.ok("ps", "--all", "--format", "{{.Names}}") == "up"


def test_prune_until(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "host", "true")
    assert rootless.ok("container", "prune", "--force", "--filter", "until=1h") == ""
    assert (
        rootless.ok("container", "prune", "--force", "--filter", "until=2100-01-01T00:00:00Z") != ""
    )


def test_cleanup(rootless: Engine) -> None:
    rootless.ok("run", "-d", "--name", "web", "--network", "none", "host", "sleep", "100")
    assert rootless.fails("container", "cleanup", "web").endswith(
        "is running, refusing to clean up: container state improper\n"
    )
    state = rootless.inspect("web")["State"]
    for pid in (state["ConmonPid"], state["Pid"]):
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
    assert rootless.ok("container", "cleanup", "--rm", "web") == "web"
    assert rootless("container", "exists", "web").code == 1


def test_cleanup_ends_what_was_only_initialised(rootless: Engine) -> None:
    rootless.ok("create", "--name", "web", "--network", "none", "host", "true")
    rootless.ok("init", "web")
    rootless.ok("container", "cleanup", "web")
    assert rootless.inspect("web")["State"]["Pid"] == 0
