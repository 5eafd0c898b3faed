"""Namespaces that a container may not join: the kernel decides, and whose they are is told."""

from __future__ import annotations

import os

import pytest

from rootless.container import joining
from rootless.errors import RootlessError
from rootless.linux.idmap import IdMap
from rootless.linux.prctl import capset
from tests.support.namespaces import Namespaces

pytestmark = pytest.mark.needs("userns")


def refused(path: str) -> str:
    with pytest.raises(RootlessError) as raised:
        joining._of_path(joining.Joined(), "net", path)
    return raised.value.message


def test_namespace_that_is_not_below_ours() -> None:
    """From inside a user namespace, that of the host and that of a neighbour."""
    inside, beside = Namespaces(), Namespaces()
    ours = os.open("/proc/self/ns/net", os.O_RDONLY)

    def body() -> None:
        for fd in (ours, beside.net):
            path = f"/proc/self/fd/{fd}"
            assert refused(path) == (
                f"cannot join the network namespace {path}: it belongs to a user namespace that is not below the one of "
                "this command"
            )

    inside.inside(body)
    os.close(ours)
    beside.close()  # first: it holds the pipe on which the other one hangs
    inside.close()


def test_namespace_of_ours_without_the_right_to_it() -> None:
    """As an ordinary user has it with one that the host's root has made."""
    space = Namespaces()

    def body() -> None:
        from rootless.linux.sched import CLONE_NEWNET, unshare

        unshare(CLONE_NEWNET)
        fd = os.open("/proc/self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        joined = joining.Joined()
        assert joining._of_path(joined, "net", f"/proc/self/fd/{fd}")
        assert list(joined.paths) == [
            "network"
        ]  # by its own user namespace, ours: there is none to be joined
        joined.close()
        capset(0, 0, 0)
        assert refused(f"/proc/self/fd/{fd}").endswith(
            "it belongs to the host, where this command lacks the right to"
        )

    space.inside(body)
    space.close()


def test_ids_of_a_foreign_user_namespace() -> None:
    """As we count them, whichever process is asked."""
    space = Namespaces()
    joined = joining.Joined()
    try:
        assert joining._of_path(joined, "net", f"/proc/{space.pid}/ns/net")
        assert joined.idmap == IdMap([(0, os.getuid(), 1)], [(0, os.getgid(), 1)])
        assert list(joined.paths) == ["user", "network"]
    finally:
        joined.close()
        space.close()
