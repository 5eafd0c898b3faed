"""tests/integration/test_as_root.py, called by host root where nobody minds: two of it, since each takes its time here."""

from __future__ import annotations

import shlex

from tests.vm.guest.conftest import Command

SOME = (
    "test_no_container_holds_host_root[]",
    "test_a_store_that_root_fills_serves_a_user_with_one_id",
)
#: Ids for root's containers, as the engine's own message asks for them.
RANGE = "containers:2147483647:2147483648"


def test_called_by_root(sudo: Command) -> None:
    names = [f"tests/integration/test_as_root.py::{name}" for name in SOME]
    options = ("-q", "-m", "root", "-p", "no:cacheprovider", "--timeout", "300")
    tests = shlex.join(["python3", "-m", "pytest", *options, *names])
    files = ("/etc/subuid", "/etc/subgid")
    sudo.ok("sh", "-c", f"for file in {shlex.join(files)}; do echo {RANGE} >>$file; done")
    try:
        said = sudo.ok("env", "ROOTLESS_TEST_MACHINE=1", "sh", "-c", tests)
    finally:
        sudo.ok("sed", "-i", f"/^{RANGE}$/d", *files)
    assert f"{len(SOME)} passed" in said
