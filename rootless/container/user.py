"""Who a container's process is: `--user` against the image's own /etc/passwd and /etc/group.

Pure: bytes in, numbers out, so that init can import it before it enters the container's root and call it after, with the
files read there through openat2 (security cases 12, 16). A number is always an id, never the name of an entry that looks
like one, and an id above 2^31-1 is refused instead of wrapping to 0 (case 22).
"""

from __future__ import annotations

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Passwd = tuple[bytes, int, int, bytes, bytes]  # name, uid, gid, home, shell
    Group = tuple[bytes, int, list[bytes]]  # name, gid, members

MAX_ID = 2147483647


class User:
    """A resolved user: ids, supplementary groups (the primary one included), home, login name or ""."""

    __slots__ = ("gid", "groups", "home", "name", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str, name: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, User) and all(
            getattr(self, slot) == getattr(other, slot) for slot in self.__slots__
        )

    def __repr__(self) -> str:
        return f"User({self.uid}, {self.gid}, {self.groups}, {self.home!r}, {self.name!r})"


def _id(text: bytes) -> int | None:
    """The id that a field of an account file holds, None where it holds none."""
    # bytes.isdigit is ASCII only: no sign, no blank, no other script's digits.
    if not text.isdigit() or len(text) > 12:
        return None
    value = int(text)
    return value if value <= MAX_ID else None


def parse_passwd(data: bytes) -> Iterator[Passwd]:
    """The entries of a passwd(5) file; a line that is none is passed over."""
    for line in data.split(b"\n"):
        fields = line.strip().split(b":")
        if len(fields) < 4 or not fields[0] or fields[0].startswith(b"#"):
            continue
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is None or gid is None:
            continue
        home = fields[5] if len(fields) > 5 else b""
        yield fields[0], uid, gid, home, fields[6] if len(fields) > 6 else b""


def parse_group(data: bytes) -> Iterator[Group]:
    """The entries of a group(5) file; a line that is none is passed over."""
    for line in data.split(b"\n"):
        fields = line.strip().split(b":")
        if len(fields) < 3 or not fields[0] or fields[0].startswith(b"#"):
            continue
        gid = _id(fields[2])
        if gid is None:
            continue
        yield fields[0], gid, fields[3].split(b",") if len(fields) > 3 and fields[3] else []


def _looks_numeric(text: str) -> bool:
    digits = text[1:] if text[:1] in ("-", "+") else text
    return digits.isascii() and digits.isdigit()


def number(text: str) -> int | None:
    """The id that `text` is, None where it is a name; an id out of range is an error."""
    if not _looks_numeric(text):
        return None
    if text[0] in "-+" or len(text) > 12 or int(text) > MAX_ID:
        raise RootlessError(f"uids and gids must be in range 0-{MAX_ID}", exit_code=126)
    return int(text)


def _encode(text: str) -> bytes:
    # Not os.fsencode: no codec may be looked up once the container's root is entered (case 12).
    return text.encode("utf-8", "surrogateescape")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def resolve_user(spec: str, passwd: bytes, group: bytes) -> User:
    """Find `[user|uid][:[group|gid]]`; "" is root.

    Without a group it is the user's own (0 for a uid without entry), and the groups are those that list the user. With
    one there are no others (image-spec, config.md, `User`).
    """
    user_word, _, group_word = spec.partition(":")
    uid = number(user_word) if user_word else 0
    name, gid, home = b"", 0, ""
    for entry in parse_passwd(passwd):
        if entry[1] == uid if uid is not None else entry[0] == _encode(user_word):
            name, uid, gid, home = entry[0], entry[1], entry[2], _decode(entry[3])
            break
    if uid is None:
        raise RootlessError(
            f"unable to find user {user_word}: no matching entries in passwd file", exit_code=126
        )
    groups: list[int] = []
    if group_word:
        gid = find_group(group_word, group)
    elif name:
        groups = [entry[1] for entry in parse_group(group) if name in entry[2]]
    # The primary group is among the supplementary ones, or a setgid(2) of the program would lose it and escape
    # permissions that deny the group (security case 21).
    groups = [gid, *(other for other in dict.fromkeys(groups) if other != gid)]
    return User(uid, gid, groups, home or "/", _decode(name))


def find_group(word: str, group: bytes) -> int:
    """A group's id by number or by the image's /etc/group."""
    gid = number(word)
    if gid is not None:
        return gid
    wanted = _encode(word)
    for entry in parse_group(group):
        if entry[0] == wanted:
            return entry[1]
    raise RootlessError(
        f"unable to find group {word}: no matching entries in group file", exit_code=126
    )


def add_groups(user: User, words: Iterable[str], group: bytes) -> None:
    """Add `--group-add`, by name or number, to the user's groups."""
    for word in words:
        try:
            gid = find_group(word, group)
        except RootlessError as error:
            raise RootlessError(f"looking up supplemental groups: {error}", exit_code=126) from None
        if gid not in user.groups:
            user.groups.append(gid)


def passwd_addition(user: User, passwd: bytes, template: str, cwd: str, name: str = "") -> bytes:
    """The line to add to /etc/passwd so that the user has an entry, or nothing where it has one.

    `template` is --passwd-entry; `name` a login name for the user (keep-id gives the host's), by default its uid.
    """
    taken = set()
    for entry in parse_passwd(passwd):
        if entry[1] == user.uid:
            return b""
        taken.add(entry[0])
    login = name if name and _encode(name) not in taken else str(user.uid)
    home = user.home if user.home != "/" else cwd or "/"
    line = template or "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh"
    full = name or "container user"
    for key, value in (
        ("$USERNAME", login),
        ("$UID", str(user.uid)),
        ("$GID", str(user.gid)),
        ("$NAME", full),
        ("$HOME", home),
    ):
        line = line.replace(key, value)
    return _appended(passwd, line)


def host_user_addition(entry: bytes, passwd: bytes) -> bytes:
    """The line of --hostuser, unless its name or its uid has one already."""
    name, _, uid = entry.split(b":")[:3]
    for known in parse_passwd(passwd):
        if known[0] == name or known[1] == int(uid):
            return b""
    return _appended(passwd, entry.decode("utf-8", "surrogateescape"))


def group_addition(user: User, group: bytes, template: str, name: str = "") -> bytes:
    """The line to add to /etc/group so that the primary group has an entry, or nothing where it has one."""
    taken = set()
    for entry in parse_group(group):
        if entry[1] == user.gid:
            return b""
        taken.add(entry[0])
    login = name if name and _encode(name) not in taken else str(user.gid)
    line = template or "$GROUPNAME:x:$GID:$USERLIST"
    for key, value in (
        ("$GROUPNAME", login),
        ("$GID", str(user.gid)),
        ("$USERLIST", user.name or str(user.uid)),
    ):
        line = line.replace(key, value)
    return _appended(group, line)


def _appended(data: bytes, line: str) -> bytes:
    """`line` as it is to be appended to `data`, which may lack its last newline."""
    start = b"" if not data or data.endswith(b"\n") else b"\n"
    # One entry only: a newline in a template or a name would add others.
    return start + _encode(line.replace("\n", "").rstrip()) + b"\n"
