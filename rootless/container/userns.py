"""The id map of a container, from `--userns`, `--uidmap` and `--gidmap`.

Podman's numbers are kept: the host's side of a mapping counts the ids that this user has, 0 being the user and 1 the
first subordinate one. `on_host` turns them into the host's own. Pure; the map is recorded with the container, so that
it stays when the ranges change.
"""

from __future__ import annotations

from rootless.container.read_security import keep_id as keep_id_options
from rootless.errors import RootlessError, Usage
from rootless.linux.idmap import IdMap, Unmapped, compose, count, to_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rootless.container.options import CreateOptions

    Range = tuple[int, int, int]

_AUTO_SIZE = 1024


def on_host(inner: Iterable[Range], outer: Sequence[Range]) -> list[Range]:
    """The map that `inner` is, which counts this user's ids, to the host's ids that `outer` has for them."""
    try:
        return joined(compose(inner, outer))
    except Unmapped as error:
        raise Usage(
            f"id mapping {error.container}:{error.host}:{error.size}: this user has {count(outer)} ids, 0 to {count(outer) - 1}",
            hint="`rootless unshare cat /proc/self/uid_map` shows them",
        ) from None


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The ranges in order, with those that continue each other made one."""
    found: list[Range] = []
    for inside, host, size in sorted(ranges):
        if found:
            last_inside, last_host, last_size = found[-1]
            if last_inside + last_size == inside and last_host + last_size == host:
                found[-1] = (last_inside, last_host, last_size + size)
                continue
            if inside < last_inside + last_size:
                raise Usage(f"id mapping: container id {inside} is mapped twice")
        found.append((inside, host, size))
    return found


def keep_ids(options: CreateOptions, uid: int, gid: int) -> tuple[int, int] | None:
    """Which ids the caller has inside, under keep-id."""
    if options.userns.partition(":")[0] != "keep-id":
        return None
    asked = keep_id_options(options.userns)
    return asked.get("uid", uid), asked.get("gid", gid)


def choose(
    options: CreateOptions,
    default: IdMap,
    uid: int,
    gid: int,
    taken: Iterable[IdMap] = (),
) -> IdMap | None:
    """The map to record for a new container, None where it is the default one.

    `taken` are the maps of the containers made with --userns=auto, which no other one may share.
    """
    mode = options.userns.partition(":")[0]
    if options.uidmap or options.gidmap or options.subuidname or options.subgidname:
        return _explicit(options, default)
    if mode == "keep-id":
        if uid == 0:
            raise Usage("keep-id is only supported in rootless mode")
        inside = keep_ids(options, uid, gid)
        assert inside is not None
        most = keep_id_options(options.userns).get("size", 0)
        return IdMap(
            on_host(_kept(inside[0], count(default.uids), most), default.uids),
            on_host(_kept(inside[1], count(default.gids), most), default.gids),
        )
    if mode == "nomap":
        sizes = count(default.uids), count(default.gids)
        if min(sizes) < 2:
            raise Usage("--userns=nomap: this user has no subordinate ids")
        return IdMap(
            on_host([(0, 1, sizes[0] - 1)], default.uids),
            on_host([(0, 1, sizes[1] - 1)], default.gids),
        )
    if mode == "auto":
        return _automatic(options, default, list(taken))
    return None


def _kept(inside: int, available: int, most: int) -> list[Range]:
    """The caller's id at `inside`, and around it the subordinate ones from 0 on."""
    if most:
        available = min(available, most)
    found = [(inside, 0, 1)]
    below = min(inside, available - 1)
    if below:
        found.append((0, 1, below))
    if available - 1 > inside:
        found.append((inside + 1, inside + 1, available - 1 - inside))
    return found


def _automatic(options: CreateOptions, default: IdMap, taken: list[IdMap]) -> IdMap:
    size = 0
    extra: dict[str, list[Range]] = {"uidmapping": [], "gidmapping": []}
    for word in options.userns.partition(":")[2].split(","):
        name, _, value = word.partition("=")
        if name == "size":
            size = int(value)
        elif name in extra:
            extra[name].append(_parse(value, default.uids if name[0] == "u" else default.gids)[0])
    size = size or _AUTO_SIZE
    ranges = []
    for kind, outer, others in (
        ("uidmapping", default.uids, [idmap.uids for idmap in taken]),
        ("gidmapping", default.gids, [idmap.gids for idmap in taken]),
    ):
        free = _free(count(outer), size, [r for ranges_ in others for r in ranges_], outer)
        wanted = extra[kind]
        held = {inside for inside, _, n in wanted for inside in range(inside, inside + n)}
        inner = list(wanted)
        for at in range(size):
            # The ids that are mapped by hand are left out of the row.
            if at not in held:
                inner.append((at, free + at, 1))
        ranges.append(on_host(inner, outer))
    return IdMap(ranges[0], ranges[1])


def _free(available: int, size: int, used: Iterable[Range], outer: Sequence[Range]) -> int:
    """The first subordinate id with `size` free ones from there on."""
    # The user's own id, 0, is never given to a container that is to be apart from all others.
    busy = []
    for _, host, length in used:
        start = to_container(list(outer), host)
        if start is not None:
            busy.append((start, length))
    at = 1
    for start, length in sorted(busy):
        if at + size <= start:
            break
        at = max(at, start + length)
    if at + size > available:
        raise RootlessError(
            f"--userns=auto: no {size} of {available} subordinate ids are free",
            hint="remove containers made with --userns=auto, give a smaller size=, or ask for more subordinate ids",
        )
    return at


def _parse(word: str, outer: Sequence[Range]) -> tuple[Range, str]:
    """`[flags]CONTAINER:[@]FROM[:SIZE]` as a range, and its flags."""
    parts = word.split(":")
    digits = parts[0].lstrip("+ug")
    flags = parts[0][: len(parts[0]) - len(digits)]
    start = parts[1]
    if start.startswith("@"):
        # A host's own id in place of a number among the user's.
        middle = to_container(list(outer), int(start[1:]))
        if middle is None:
            raise Usage(f"id mapping {word}: host id {start[1:]} is not among this user's")
    else:
        middle = int(start)
    return (int(digits), middle, int(parts[2]) if len(parts) > 2 else 1), flags


def _explicit(options: CreateOptions, default: IdMap) -> IdMap:
    for name in (options.subuidname, options.subgidname):
        if name:
            _check_own(name)
    uidmap, gidmap = options.uidmap, options.gidmap
    if not uidmap and not gidmap:
        return default
    uids = _extended([w for w in uidmap if "g" not in w.split(":")[0]], default.uids)
    words = gidmap or [word for word in uidmap if "u" not in word.split(":")[0]]
    gids = _extended(words, default.gids)
    if not uidmap:
        uids = _extended([w for w in gidmap if "g" not in w.split(":")[0]], default.uids)
    return IdMap(uids, gids)


def _extended(words: list[str], outer: Sequence[Range]) -> list[Range]:
    """The map that the words make; with a `+` among them the rest is filled with what the user has left."""
    parsed = [_parse(word, outer) for word in words]
    inner = [mapping for mapping, _ in parsed]
    if any("+" in flags for _, flags in parsed):
        used = sorted((middle, size) for _, middle, size in inner)
        free = []
        at = 0
        for middle, size in used:
            if middle > at:
                free.append((at, middle - at))
            at = max(at, middle + size)
        if at < count(outer):
            free.append((at, count(outer) - at))
        # Container ids in order, over the holes that the words leave.
        taken = sorted((inside, size) for inside, _, size in inner)
        place = 0
        for middle, size in free:
            while size:
                following = next((t for t in taken if t[0] + t[1] > place), None)
                if following is not None and following[0] <= place:
                    place = following[0] + following[1]
                    continue
                step = size if following is None else min(size, following[0] - place)
                inner.append((place, middle, step))
                place, middle, size = place + step, middle + step, size - step
    return on_host(inner, outer)


def _check_own(name: str) -> None:
    """--subuidname: ranges of another name cannot be mapped by a user; newuidmap(1) allows the own ones only."""
    import os

    from rootless.runtime.idmap import subordinate_spans, user_name

    uid = os.geteuid()
    if uid == 0 or name in (user_name(uid), str(uid)):
        return
    if not subordinate_spans(name, -1)[0]:
        raise Usage(f'no subuid ranges found for user "{name}" in /etc/subuid')
    raise Usage(
        f"the subordinate ids of {name} are not yours: newuidmap maps a user's own ranges only"
    )
