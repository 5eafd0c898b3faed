"""What the kernel reports of a process after init's steps, in a user namespace of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from rootless.linux.idmap import IdMap
from rootless.linux.userns import fork_in_userns
from rootless.runtime.capabilities import DEFAULT, Sets, mask, process_sets


def status() -> dict[str, int]:
    with open("/proc/self/status", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith("Cap")]
    return {name.removeprefix("Cap").rstrip(":"): int(value, 16) for name, value in lines}


def in_namespace(body: Callable[[], object]) -> None:
    fork_in_userns(IdMap([(0, os.getuid(), 1)], [(0, os.getgid(), 1)]), body).wait()


def enter(document: dict[str, Any] | None) -> None:
    """The order that init keeps."""
    sets = Sets(document)
    sets.drop_bounding()
    sets.keep()
    sets.apply()


def test_case_19_nothing_is_inheritable() -> None:
    def body() -> None:
        enter(process_sets(DEFAULT, ["net_raw"], []))
        held = mask([*DEFAULT, "CAP_NET_RAW"])
        assert status() == {"Inh": 0, "Prm": held, "Eff": held, "Bnd": held, "Amb": 0}
        check = f"set -- $(grep ^Cap /proc/self/status); test $2 = {0:016x} -a $4 = {held:016x} -a $8 = {held:016x}"
        os.execv("/bin/sh", ["sh", "-c", check])

    in_namespace(body)


def test_case_20_ambient_ones_alone_outlive_a_program_of_another_user() -> None:
    """With one id there is no other user to become, so `effective` stands for what the change of user leaves."""

    def body() -> None:
        enter(process_sets(DEFAULT, ["net_raw"], [], is_root=False))
        asked = mask(["CAP_NET_RAW"])
        assert status() == {
            "Inh": asked, "Prm": asked, "Eff": asked, "Amb": asked, "Bnd": mask([*DEFAULT, "CAP_NET_RAW"])
        }  # fmt: skip

    in_namespace(body)


def test_a_process_without_capabilities_has_none() -> None:
    def body() -> None:
        enter(None)
        assert set(status().values()) == {0}

    in_namespace(body)


def test_each_set_for_itself() -> None:
    document = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_FOWNER"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_CHOWN", "CAP_FOWNER"],
        "ambient": ["CAP_CHOWN"],
    }

    def body() -> None:
        enter(document)
        assert status() == {
            "Inh": mask(document["inheritable"]), "Prm": mask(document["permitted"]),
            "Eff": mask(document["effective"]), "Bnd": mask(document["bounding"]), "Amb": mask(document["ambient"]),
        }  # fmt: skip

    in_namespace(body)


def test_what_is_not_held_is_left_out() -> None:
    """In a runtime that is called inside a container: what it has not got cannot be granted, and is no error."""

    def body() -> None:
        enter(
            {
                "bounding": ["CAP_CHOWN", "CAP_KILL"],
                "permitted": ["CAP_CHOWN"],
                "effective": ["CAP_CHOWN"],
            }
        )
        sets = Sets({"bounding": ["CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"]})  # fmt: skip
        sets.apply()
        assert status()["Eff"] == status()["Prm"] == mask(["CAP_CHOWN"])

    in_namespace(body)


@pytest.mark.parametrize("privileged", [False, True])
def test_no_capability_of_the_kernel_is_missed(privileged: bool) -> None:
    def body() -> None:
        full = status()["Bnd"]
        enter(process_sets([], [], [], privileged=privileged))
        assert status()["Bnd"] == (full if privileged else 0)

    in_namespace(body)
