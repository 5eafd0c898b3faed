"""What doctor reads out of the host's files."""

from __future__ import annotations

from rootless.container.doctor import BAD, GOOD, NOTE, Finding, foreign, quotas, works


def test_overlaps_with_others() -> None:
    text = "me:100000:65536\n1000:100000:65536\nyou:165535:10\nshe:165536:10\nbad:x:1\n# c\nall:0:4294967295\n"
    found = foreign(text, ("me", "1000"), [(100000, 65536)])
    assert found == [("you", 165535, 10), ("all", 0, 4294967295)]


def test_quotas() -> None:
    mounts = (
        "/dev/a / ext4 rw 0 0\n/dev/b /home ext4 rw,usrquota,grpquota 0 0\n"
        "/dev/c /home\\040two xfs rw,noquota 0 0\n"
    )
    assert quotas(mounts, "/home/me/x") == [("/home", "usrquota,grpquota")]
    assert quotas(mounts, "/homework") == []
    assert quotas(mounts, "/home two/x") == []
    assert quotas("", "/x") == []


def test_the_main_job() -> None:
    assert works([Finding("a", GOOD, ""), Finding("b", NOTE, "")])
    assert not works([Finding("a", GOOD, ""), Finding("b", BAD, "")])
