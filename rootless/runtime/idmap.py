"""Which ids a user may map: subordinate ranges from /etc/subuid and /etc/subgid, or getsubids where NSS has them."""

from __future__ import annotations

import os

from rootless.errors import SetupError
from rootless.linux.idmap import IdMap, find_trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    Span = tuple[int, int]


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 20):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def parse_subordinate(data: bytes, owners: tuple[str, ...]) -> list[Span]:
    """The (start, count) ranges of `owners` (a name and a uid) in a subuid(5) file; lines that are not ranges are
    passed over, as shadow does."""
    spans = []
    for line in data.split(b"\n"):
        parts = line.strip().split(b":")
        if len(parts) != 3 or parts[0].decode("utf-8", "surrogateescape") not in owners:
            continue
        if parts[1].isdigit() and parts[2].isdigit() and int(parts[2]) > 0:
            spans.append((int(parts[1]), int(parts[2])))
    return spans


def parse_getsubids(data: bytes) -> list[Span]:
    """The output of getsubids(1): `0: user 100000 65536` a line."""
    spans = []
    for line in data.split(b"\n"):
        parts = line.split()
        if len(parts) >= 4 and parts[-1].isdigit() and parts[-2].isdigit():
            spans.append((int(parts[-2]), int(parts[-1])))
    return spans


def subid_source(nsswitch: bytes) -> str:
    """The first service on nsswitch.conf's `subid:` line; `files` where there is none."""
    for line in nsswitch.split(b"\n"):
        words = line.split(b"#")[0].split()
        if len(words) > 1 and words[0] == b"subid:":
            return words[1].decode()
    return "files"


def _ask_getsubids(name: str, group: bool) -> list[Span]:
    path = find_trusted("getsubids")
    if path is None:
        return []
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.posix_spawn(
        path,
        ["getsubids", *(["-g"] if group else []), name],
        {"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
        ],
    )
    os.close(writer)
    data = b""
    while chunk := os.read(reader, 65536):
        data += chunk
    os.close(reader)
    os.waitpid(pid, 0)
    return parse_getsubids(data)


def user_name(uid: int) -> str:
    """The user's name from /etc/passwd or, where it is not there, from the user database (LDAP, SSSD)."""
    wanted = str(uid).encode()
    for line in _read("/etc/passwd").split(b"\n"):
        parts = line.split(b":")
        if len(parts) > 3 and parts[2] == wanted:
            return parts[0].decode("utf-8", "surrogateescape")
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def subordinate_spans(owner: str, uid: int) -> tuple[list[Span], list[Span]]:
    """The user's and group's subordinate ranges, from where this host keeps them."""
    if subid_source(_read("/etc/nsswitch.conf")) != "files":
        uids, gids = _ask_getsubids(owner, False), _ask_getsubids(owner, True)
        if uids and gids:
            return uids, gids
    owners = (owner, str(uid))
    return parse_subordinate(_read("/etc/subuid"), owners), parse_subordinate(
        _read("/etc/subgid"), owners
    )


def without(spans: list[Span], identity: int) -> list[Span]:
    """The ranges with `identity` cut out: one host id can be mapped only once."""
    result = []
    for start, size in spans:
        if start <= identity < start + size:
            if identity > start:
                result.append((start, identity - start))
            if identity + 1 < start + size:
                result.append((identity + 1, start + size - identity - 1))
        else:
            result.append((start, size))
    return result


def disjoint(spans: list[Span]) -> list[Span]:
    """The ranges in their order, without ids that an earlier one has already."""
    taken: list[Span] = []
    for start, size in spans:
        pieces = [(start, size)]
        for other, length in taken:
            rest = []
            for first, many in pieces:
                end, other_end = first + many, other + length
                if end <= other or other_end <= first:
                    rest.append((first, many))
                    continue
                if first < other:
                    rest.append((first, other - first))
                if other_end < end:
                    rest.append((other_end, end - other_end))
            pieces = rest
        taken += pieces
    return taken


def chain(first: list[tuple[int, int, int]], spans: list[Span]) -> list[tuple[int, int, int]]:
    """A map of `first` followed by the ranges, container ids in one row."""
    result = list(first)
    at = sum(size for _, _, size in first)
    for start, size in spans:
        result.append((at, start, size))
        at += size
    return result


def nested_idmap(uid_map: bytes, gid_map: bytes) -> IdMap | None:
    """The map of containers of a user namespace's root (`rootless unshare`, a container): all that is mapped in it, as
    it is. None in the host's own, where root's ids are not to be given away.
    """
    maps = []
    for text in (uid_map, gid_map):
        ranges = [tuple(map(int, line.split())) for line in text.splitlines()]
        if not ranges or (0, 0, 0xFFFFFFFF) in ranges:
            return None
        maps.append([(inside, inside, size) for inside, _, size in sorted(ranges)])
    return IdMap(*maps)


_cached: IdMap | None = None


def default_idmap() -> IdMap:
    """This user's id map: container root is the user, then every subordinate range; only the user's own ids where
    there are no ranges. For root: root's or the `containers` user's ranges, so that no container holds host root.
    """
    global _cached
    if _cached is not None:
        return _cached
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _cached = nested_idmap(_read("/proc/self/uid_map"), _read("/proc/self/gid_map"))
        if _cached is not None:
            return _cached
        for owner in ("containers", "root"):
            uids, gids = subordinate_spans(owner, 0)
            if uids and gids:
                _cached = IdMap(
                    chain([], disjoint(without(uids, 0))), chain([], disjoint(without(gids, 0)))
                )
                return _cached
        raise SetupError(
            "root has no subordinate ids, and no container is run with host root's",
            stage="id map",
            hint="add `containers:2147483647:2147483648` to /etc/subuid and /etc/subgid, or run as an ordinary user",
        )
    uids, gids = subordinate_spans(user_name(uid), uid)
    if not uids or not gids:
        _cached = IdMap([(0, uid, 1)], [(0, gid, 1)])
    else:
        _cached = IdMap(
            chain([(0, uid, 1)], disjoint(without(uids, uid))),
            chain([(0, gid, 1)], disjoint(without(gids, gid))),
        )
    return _cached


def single_id_remedy() -> str:
    """One line for the administrator of a host where this user has no ranges."""
    name = user_name(os.geteuid())
    return f"no subordinate ids for {name}: containers have one id; ask for `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}`"
