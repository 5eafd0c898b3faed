"""Users and groups of an image's account files, hostile ones included."""

from __future__ import annotations

import pytest

from rootless.container.user import (
    User,
    add_groups,
    group_addition,
    host_user_addition,
    parse_group,
    parse_passwd,
    passwd_addition,
    resolve_user,
)
from rootless.errors import RootlessError

PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\n"
    b"alice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
    b"toor:x:0:0::/root2:/bin/sh\n"
    b"1001:x:0:0:a name like a number:/evil:/bin/sh\n"
    b"nohome:x:1002:1002\n"
)
GROUP = b"root:x:0:\nwheel:x:10:alice,bob\nalice:x:1000:\nusers:x:100:alice\n20:x:0:\n"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", User(0, 0, [0], "/root", "root")),
        (":", User(0, 0, [0], "/root", "root")),
        ("root", User(0, 0, [0], "/root", "root")),
        ("0", User(0, 0, [0], "/root", "root")),
        ("toor", User(0, 0, [0], "/root2", "toor")),
        ("alice", User(1000, 1000, [1000, 10, 100], "/home/alice", "alice")),
        ("1000", User(1000, 1000, [1000, 10, 100], "/home/alice", "alice")),
        ("01000", User(1000, 1000, [1000, 10, 100], "/home/alice", "alice")),
        ("1000:", User(1000, 1000, [1000, 10, 100], "/home/alice", "alice")),
        ("alice:wheel", User(1000, 10, [10], "/home/alice", "alice")),
        ("alice:77", User(1000, 77, [77], "/home/alice", "alice")),
        ("4444", User(4444, 0, [0], "/", "")),
        ("4444:10", User(4444, 10, [10], "/", "")),
        (":10", User(0, 10, [10], "/root", "root")),
        ("nohome", User(1002, 1002, [1002], "/", "nohome")),
        ("2147483647", User(2147483647, 0, [0], "/", "")),
    ],
)
def test_resolve(spec: str, expected: User) -> None:
    assert resolve_user(spec, PASSWD, GROUP) == expected


def test_missing_files() -> None:
    assert resolve_user("", b"", b"") == User(0, 0, [0], "/", "")
    assert resolve_user("5:6", b"", b"") == User(5, 6, [6], "/", "")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nope", "unable to find user nope: no matching entries in passwd file"),
        ("alice:nope", "unable to find group nope: no matching entries in group file"),
        ("alice:wheel:x", "unable to find group wheel:x: no matching entries in group file"),
    ],
)
def test_not_there(spec: str, message: str) -> None:
    with pytest.raises(RootlessError, match=f"^{message}$") as caught:
        resolve_user(spec, PASSWD, GROUP)
    assert caught.value.exit_code == 126


@pytest.mark.parametrize(
    "spec",
    ["-1", "+1", "2147483648", "4294967295", "4294967296", "99999999999", "1" * 40, "0:-1", "0:4294967296"],
)  # fmt: skip
def test_case_22_ids_out_of_range(spec: str) -> None:
    with pytest.raises(RootlessError, match="must be in range 0-2147483647"):
        resolve_user(spec, PASSWD, GROUP)


def test_case_22_a_number_is_an_id() -> None:
    """A name that looks like a number never stands for that number."""
    assert resolve_user("1001", PASSWD, GROUP) == User(1001, 0, [0], "/", "")
    user = resolve_user("1001:20", PASSWD, GROUP)
    assert (user.uid, user.gid) == (1001, 20)


@pytest.mark.parametrize("word", ["١", "１", "1_0", " 1", "1 ", "0x1", "1e3", "1.0"])
def test_case_22_what_only_looks_like_a_number(word: str) -> None:
    with pytest.raises(RootlessError, match="unable to find user"):
        resolve_user(word, PASSWD, GROUP)


@pytest.mark.parametrize(
    "line",
    [
        b"x:x:-1:0::/:",
        b"x:x:4294967296:0::/:",
        b"x:x:99999999999999999999:0::/:",
        b"x:x::0::/:",
        b"x:x:0x0:0::/:",
        b"x:x: 0:0::/:",
        b"x:x:0",
        b":x:0:0::/:",
        b"#x:x:0:0::/:",
        b"+x:x",
        b"\xff\xfe",
        b"",
    ],
)
def test_case_22_lines_that_are_no_entries(line: bytes) -> None:
    assert list(parse_passwd(line)) == []
    with pytest.raises(RootlessError):
        resolve_user("x", line, b"")


def test_lines_that_are_no_groups() -> None:
    data = b"a:x:-1:\nb:x:1\nc:x:2:d,e\n#f:x:3:\n:x:4:\ng:x:5:,\n"
    assert list(parse_group(data)) == [
        (b"b", 1, []),
        (b"c", 2, [b"d", b"e"]),
        (b"g", 5, [b"", b""]),
    ]


def test_case_21_primary_group_among_the_others() -> None:
    for spec in ("alice", "alice:wheel", "4444:5", ""):
        user = resolve_user(spec, PASSWD, GROUP)
        assert user.groups[0] == user.gid


def test_add_groups() -> None:
    user = resolve_user("alice", PASSWD, GROUP)
    add_groups(user, ["77", "wheel", "1000"], GROUP)
    assert user.groups == [1000, 10, 100, 77]
    with pytest.raises(
        RootlessError, match="looking up supplemental groups: unable to find group nope"
    ):
        add_groups(user, ["nope"], GROUP)


def test_bytes_that_are_not_utf8() -> None:
    passwd = b"\xe9ve:x:7:7::/h\xe9:/bin/sh\n"
    user = resolve_user("\udce9ve", passwd, b"")
    assert (user.uid, user.home.encode("utf-8", "surrogateescape")) == (7, b"/h\xe9")


def added(spec: str, template: str = "", cwd: str = "/", name: str = "") -> bytes:
    return passwd_addition(resolve_user(spec, PASSWD, GROUP), PASSWD, template, cwd, name)


def test_passwd_addition() -> None:
    """Podman's lines, for the same users."""
    assert added("77") == b"77:*:77:0:container user:/:/bin/sh\n"
    assert added("77:88", cwd="/w") == b"77:*:77:88:container user:/w:/bin/sh\n"
    assert added("alice") == b""
    assert added("0:88") == b""
    assert added("77", name="me") == b"me:*:77:0:me:/:/bin/sh\n"
    assert added("77", name="alice") == b"77:*:77:0:alice:/:/bin/sh\n"
    assert (
        added("77:8", "x:x:$UID:$GID:$USERNAME,$NAME:$HOME:") == b"x:x:77:8:77,container user:/:\n"
    )


def test_addition_to_a_file_without_last_newline() -> None:
    user = resolve_user("77", b"root:x:0:0::/:", b"")
    assert passwd_addition(user, b"root:x:0:0::/:", "", "/").startswith(b"\n77:")


def test_one_entry_only_is_added() -> None:
    """A newline in a template would add an entry that nobody sees on the command line."""
    assert added("77", "x:x:77:0::/:\nevil:x:0:0::/:").count(b"\n") == 1
    assert added("77", cwd="/\nevil:x:0:0::/:").count(b"\n") == 1


def test_group_addition() -> None:
    user = resolve_user("77:88", PASSWD, GROUP)
    assert group_addition(user, GROUP, "") == b"88:x:88:77\n"
    assert group_addition(user, GROUP, "x:x:$GID:$USERLIST") == b"x:x:88:77\n"
    assert group_addition(resolve_user("alice:88", PASSWD, GROUP), GROUP, "") == b"88:x:88:alice\n"
    assert group_addition(resolve_user("alice", PASSWD, GROUP), GROUP, "") == b""


def test_host_user_addition() -> None:
    assert (
        host_user_addition(b"me:*:5:5::/home/me:/bin/sh", PASSWD) == b"me:*:5:5::/home/me:/bin/sh\n"
    )
    assert host_user_addition(b"me:*:1000:5::/home/me:/bin/sh", PASSWD) == b""
    assert host_user_addition(b"alice:*:5:5::/home/me:/bin/sh", PASSWD) == b""
