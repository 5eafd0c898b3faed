"""What doctor reads out of the host's files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import pytest

from rootless.container import doctor_host
from rootless.container.doctor import foreign, free_range, works
from rootless.container.doctor_finding import BAD, GOOD, NOTE, Finding
from rootless.container.doctor_host import mount_options

if TYPE_CHECKING:
    from rootless.container.engine import Engine


def test_overlaps_with_others() -> None:
    text = "me:100000:65536\n1000:100000:65536\nyou:165535:10\nshe:165536:10\nbad:x:1\n# c\nall:0:4294967295\n"
    found = foreign(text, ("me", "1000"), [(100000, 65536)])
    assert found == [("you", 165535, 10), ("all", 0, 4294967295)]


def test_the_first_free_range() -> None:
    assert free_range("") == (100000, 165535)
    text = "a:100000:65536\nb:231072:65536\n# c\nd:165536:10\n"
    assert free_range(text) == (296608, 362143), "the gap is 65,526 wide"
    assert free_range("a:0:4294967295\n")[0] == 4294967295


def test_mount_options() -> None:
    mounts = (
        "/dev/a / ext4 rw 0 0\n/dev/b /home ext4 rw,usrquota,grpquota 0 0\n"
        "/dev/c /home\\040two xfs rw,noquota 0 0\n"
    )
    assert mount_options(mounts, "/home/me/x") == ("/home", "rw,usrquota,grpquota")
    assert mount_options(mounts, "/homework") == ("/", "rw")
    assert mount_options(mounts, "/home two/x") == ("/home two", "rw,noquota")
    assert mount_options("", "/x") == ("", "")


def test_the_main_job() -> None:
    assert works([Finding("a", GOOD, ""), Finding("b", NOTE, "")])
    assert not works([Finding("a", GOOD, ""), Finding("b", BAD, "")])


class _Store:
    """As much of an engine as is asked here: where the store is."""

    class paths:  # noqa: N801
        data = "/"


# Ubuntu's kernels have the first, SELinux's hosts the second; no machine of the tests is either, nor has a home on NFS.
@pytest.mark.parametrize(
    ("files", "subject", "state", "words"),
    [
        ({"apparmor_restrict_unprivileged_userns": "1"}, "AppArmor", NOTE, "with a profile only"),
        ({"apparmor_restrict_unprivileged_userns": "0"}, "", GOOD, ""),
        ({"enforce": "1", "current": "user_t\0"}, "SELinux", GOOD, "enforcing; containers run as user_t"),
        ({"enforce": "0", "current": "user_t\0"}, "SELinux", GOOD, "permissive; containers run as user_t"),
    ],
)  # fmt: skip
def test_security_modules_of_other_hosts(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], subject: str, state: str, words: str
) -> None:
    monkeypatch.setattr(doctor_host, "read", lambda path: files.get(os.path.basename(path), ""))
    found = list(doctor_host.modules(cast("Engine", _Store)))
    assert [one.subject for one in found] == ([subject] if subject else [])
    for one in found:
        assert one.state == state and one.text.endswith(words)


@pytest.mark.parametrize("remote", [True, False])
def test_a_home_on_a_network_file_system(monkeypatch: pytest.MonkeyPatch, remote: bool) -> None:
    monkeypatch.setattr("rootless.paths.is_network_fs", lambda path: remote)
    found = [one for one in doctor_host.mounted(cast("Engine", _Store)) if "network" in one.text]
    assert [(one.subject, one.state) for one in found] == ([("store", NOTE)] if remote else [])
    assert all("--root on a local disk" in one.remedy for one in found)
