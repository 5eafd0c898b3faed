"""What doctor reads out of the host's files."""

from __future__ import annotations

from rootless.container.doctor import foreign, free_range, works
from rootless.container.doctor_finding import BAD, GOOD, NOTE, Finding
from rootless.container.doctor_host import mount_options


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
