"""What `-v`, `--mount`, `--tmpfs`, `--volumes-from` and an image's volumes ask for, as one list of mounts.

A mount here is what was asked: a plain dict that is kept in the container's record. `type` is bind, volume (`source` is a
name, "" until an anonymous one has been made), overlay (`-v DIR:DST:O`), image, tmpfs, ramfs or devpts. `spec` turns it
into what the kernel is told. Words and errors are Podman's. Lean: on `run`'s path.
"""

from __future__ import annotations

import os

from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import NotRequired, TypedDict

    class Mount(TypedDict):
        type: str
        source: str
        destination: str
        options: list[str]
        subpath: NotRequired[str]
        #: The volume was made for this container alone and goes with it.
        anonymous: NotRequired[bool]
        #: Where it comes from, unless the command line: "image" or "volumes-from".
        origin: NotRequired[str]
        #: Where the source lies on this host, once known.
        path: NotRequired[str]
        #: The volume's folder, as long as no container has used it (runtime/volumes.py)
        first_use: NotRequired[str]
        #: Options for the creation of a volume that is not there yet (volume-opt=).
        driver_options: NotRequired[dict[str, str]]


PROPAGATION = (
    "shared",
    "rshared",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
)
BAD = "invalid mount option"
NO_ARGUMENT = "must provide an argument for option"
# Options of -v of which one may be given, and what the message calls them.
_VOLUME_ONE_OF: tuple[tuple[tuple[str, ...], str], ...] = (
    (("exec", "noexec"), "'noexec' or 'exec'"),
    (("dev", "nodev"), "'nodev' or 'dev'"),
    (("suid", "nosuid"), "'nosuid' or 'suid'"),
    (("rw", "ro"), "'rw' or 'ro'"),
    (("z", "Z", "O"), "'z', 'Z', or 'O'"),
    (("U",), "'U'"),
    (PROPAGATION, "'[r]shared', '[r]private', '[r]slave' or '[r]unbindable'"),
    (("bind", "rbind"), "'[r]bind'"),
    (("copy", "nocopy"), "'copy' or 'nocopy'"),
)


def volume_options(options: Sequence[str]) -> list[str]:
    """Check the options of a bind mount or volume; those that mean nothing on Linux are dropped."""
    kept = []
    seen: dict[str, bool] = {}
    upper = work = False
    for option in options:
        if option.startswith(("upperdir=", "workdir=")):
            upper = upper or option.startswith("upperdir=")
            work = work or option.startswith("workdir=")
        elif option in ("cached", "delegated", "consistent"):
            continue
        elif option.partition("=")[0] == "idmap":
            raise idmap_refused(option)
        elif option != "no-dereference":
            for words, said in _VOLUME_ONE_OF:
                if option in words:
                    if said in seen:
                        raise Usage(
                            f'invalid options "{", ".join(options)}", can only specify 1 {said} option'
                        )
                    seen[said] = True
                    break
            else:
                raise Usage(f'invalid option type "{option}"')
        kept.append(option)
    if upper != work:
        raise Usage("must set both `upperdir` and `workdir`")
    return kept


def idmap_refused(option: str) -> Usage:
    """The error for a mount whose ids were to be shifted."""
    # mount_setattr(2), MOUNT_ATTR_IDMAP: CAP_SYS_ADMIN in the namespace that the file system was mounted in.
    return Usage(
        f"mount option {option}: the kernel lets only root of the host shift the owners of its file systems",
        hint="use --userns=keep-id, or the option U",
    )


# Options of a mount as the kernel gets them, of which one may be given.
_MOUNT_ONE_OF: tuple[tuple[tuple[str, ...], str], ...] = (
    (("copy", "nocopy"), "only one of 'nocopy' and 'copy' can be used"),
    (("exec", "noexec"), "only one of 'noexec' and 'exec' can be used"),
    (("suid", "nosuid"), "only one of 'nosuid' and 'suid' can be used"),
    (("dev", "nodev"), "only one of 'nodev' and 'dev' can be used"),
    (("ro", "rw"), "only one of 'rw' and 'ro' can be used"),
    (PROPAGATION, "only one root propagation mode can be used"),
    (("tmpcopyup", "notmpcopyup"), "the 'tmpcopyup' or 'notmpcopyup' option can only be set once"),
    (("bind", "rbind"), "only one of 'rbind' and 'bind' can be used"),
    (("z", "Z"), "only one of 'z' and 'Z' can be used"),
    (("U",), "the 'U' option can only be set once"),
    (("no-dereference",), "the 'no-dereference' option can only be set once"),
)


def check_options(options: Iterable[str], *, is_tmpfs: bool, is_overlay: bool = False) -> None:
    """Refuse what a mount of this kind cannot have."""
    seen = set()
    for option in options:
        name, _, _ = option.partition("=")
        if is_overlay and name in ("upperdir", "workdir"):
            continue
        if name in ("size", "mode"):
            if not is_tmpfs:
                raise Usage(f"the '{name}' option is only allowed with tmpfs mounts: {BAD}")
            if not option.partition("=")[2]:
                raise Usage(f"{name}: {NO_ARGUMENT}")
        elif name in ("tmpcopyup", "notmpcopyup") and not is_tmpfs:
            raise Usage(f"the '{name}' option is only allowed with tmpfs mounts: {BAD}")
        elif is_tmpfs and name in ("bind", "rbind"):
            raise Usage(f"the 'bind' and 'rbind' options are not allowed with tmpfs mounts: {BAD}")
        elif is_tmpfs and name in ("z", "Z"):
            raise Usage(f"the 'z' and 'Z' options are not allowed with tmpfs mounts: {BAD}")
        if name in ("size", "mode", "idmap", "volume-opt", "O", "consistency"):
            said = ""
        elif name == "noswap":
            raise Usage(
                f"the 'noswap' option is only allowed with rootful tmpfs mounts: {NO_ARGUMENT}"
            )
        else:
            for words, said in _MOUNT_ONE_OF:  # noqa: B007
                if option in words:
                    break
            else:
                raise Usage(f'unknown mount option "{option}": {BAD}')
        if said:
            if said in seen:
                raise Usage(f"{said}: duplicate mount option passed")
            seen.add(said)


def destination(path: str) -> str:
    """Check and clean the place of a mount inside the container."""
    if not path:
        raise Usage("container directory cannot be empty")
    if not path.startswith("/"):
        raise Usage(f'invalid container path "{path}", must be an absolute path')
    if "\0" in path:
        raise Usage("container path contains a null character")
    return "/" + os.path.normpath(path).lstrip("/")


def volume_name(name: str) -> str:
    """Check a volume's name; it becomes a folder's (security case 10)."""
    if not is_name(name):
        raise Usage(
            f'creating named volume "{name}": running volume create option: '
            "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"
        )
    return name


def is_name(name: str) -> bool:
    """Whether it may be the name of a container or volume: [a-zA-Z0-9][a-zA-Z0-9_.-]*."""
    if not name or len(name) > 255 or not name.isascii() or not name[0].isalnum():
        return False
    return all(c.isalnum() or c in "_.-" for c in name)


def parse_volume(text: str, cwd: str) -> Mount:
    """Read `-v [SOURCE:]DESTINATION[:OPTIONS]`."""
    parts = text.split(":")
    if len(parts) > 3:
        raise Usage(f"{text}: incorrect volume format, should be [host-dir:]ctr-dir[:option]")
    if len(parts) == 1:
        return {"type": "volume", "source": "", "destination": destination(parts[0]), "options": []}
    source = parts[0]
    if not source:
        raise Usage("host directory cannot be empty")
    place = destination(parts[1])
    options = volume_options(parts[2].split(",")) if len(parts) == 3 else []
    if source.startswith(("/", ".")):
        if source.startswith("."):
            try:
                source = os.path.realpath(os.path.join(cwd, source), strict=True)
            except OSError as error:
                raise Usage(
                    f"lstat {os.path.normpath(source)}: {(error.strerror or '').lower()}"
                ) from None
        # What a DIR:DST:O overlay writes goes to the container, never to DIR.
        kind = "overlay" if "O" in options else "bind"
        return {
            "type": kind,
            "source": os.path.normpath(source),
            "destination": place,
            "options": [o for o in options if o != "O"] if kind == "overlay" else options,
        }
    volume_name(source)
    check_options(options, is_tmpfs=False)
    return {"type": "volume", "source": source, "destination": place, "options": options}


def parse_tmpfs(text: str) -> Mount:
    """Read `--tmpfs DESTINATION[:OPTIONS]`."""
    place, colon, rest = text.partition(":")
    options = rest.split(":")[0].split(",") if colon else []
    mount: Mount = {
        "type": "tmpfs",
        "source": "tmpfs",
        "destination": destination(place),
        "options": [o for o in options if o],
    }
    check_options(mount["options"], is_tmpfs=True)
    return mount


def parse(
    volumes: Iterable[str], mounts: Iterable[str], tmpfs: Iterable[str], cwd: str
) -> list[Mount]:
    """Read all of `-v`, `--mount` and `--tmpfs`. The same mount twice is one; two at one place are an error."""
    found: dict[str, Mount] = {}
    for text in mounts:
        from rootless.container.mount_words import parse_mount

        for mount in parse_mount(text, cwd):
            place = mount["destination"]
            if place in found:
                raise _duplicate(place)
            found[place] = mount
    for text in volumes:
        _add(found, parse_volume(text, cwd))
    memory: dict[str, Mount] = {}
    for text in tmpfs:
        _add(memory, parse_tmpfs(text))
    for place, mount in memory.items():
        # `--mount type=tmpfs` says more than `--tmpfs` and wins.
        if found.setdefault(place, mount)["type"] != "tmpfs":
            raise _duplicate(place)
    return list(found.values())


def _add(found: dict[str, Mount], mount: Mount) -> None:
    place = mount["destination"]
    if found.setdefault(place, mount) != mount:
        raise _duplicate(place)


def _duplicate(place: str) -> Usage:
    return Usage(f"{place}: duplicate mount destination")


#: Folders that `U` must not give to a container, whatever their owner is: Podman's list.
_NEVER_CHOWN = frozenset(
    (
        "/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64",
        "/media", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib",
        "/var/log",
    )
)  # fmt: skip


def check_sources(mounts: Iterable[Mount]) -> None:
    """Refuse a bind mount whose source is not there."""
    for mount in mounts:
        if mount["type"] in ("bind", "overlay"):
            try:
                os.stat(mount["source"])
            except PermissionError:
                if mount["type"] == "overlay" or not _is_below_own(mount["source"]):
                    raise Usage(f"statfs {mount['source']}: permission denied") from None
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise Usage(f"statfs {mount['source']}: {reason}") from None
            if "U" in mount["options"] and os.path.realpath(mount["source"]) in _never_chown():
                raise Usage(f'chowning host path "{mount["source"]}" is not allowed')
        if mount["type"] == "overlay" and not os.path.isdir(mount["source"]):
            raise Usage(f"{mount['source']}: overlay volumes only work for directories")


def _is_below_own(source: str) -> bool:
    """Whether a path that is closed to us is so by one of our subordinate ids: then init, which has them, opens it."""
    from rootless.runtime.idmap import default_idmap

    while source != "/":
        source = os.path.dirname(source)
        try:
            owner = os.stat(source).st_uid
        except OSError:
            continue
        return any(start <= owner < start + size for _, start, size in default_idmap().uids)
    return False


def _never_chown() -> frozenset[str]:
    return _NEVER_CHOWN | {os.path.realpath(os.environ.get("HOME") or "/")}


def parse_volumes_from(words: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Read `--volumes-from CONTAINER[:OPTIONS]`."""
    found = []
    for word in words:
        name, colon, rest = word.partition(":")
        options = rest.split(",") if colon else []
        for option in options:
            if option not in ("z", "ro", "rw"):
                raise Usage(
                    f'invalid option "{rest}" specified - '
                    "volumes from another container can only use z,ro,rw options"
                )
            if option != "z" and ("ro" in options) and ("rw" in options):
                raise Usage(f"invalid options \"{rest}\", can only specify 1 'rw' or 'ro' option")
        found.append((name, options))
    return found


def from_other(mounts: Iterable[Mount], options: list[str]) -> list[Mount]:
    """Another container's binds and volumes as `--volumes-from` takes them over."""
    taken: list[Mount] = []
    for mount in mounts:
        if mount["type"] not in ("bind", "volume"):
            continue
        copy: Mount = {**mount, "options": list(mount["options"]), "origin": "volumes-from"}
        copy.pop("anonymous", None)
        for option in options:
            if option in ("ro", "rw"):
                copy["options"] = [o for o in copy["options"] if o not in ("ro", "rw")]
            if option not in copy["options"]:
                copy["options"].append(option)
        taken.append(copy)
    return taken


def plan(
    asked: Iterable[Mount],
    image_volumes: Iterable[str] | Mapping[str, object] | None,
    image_mode: str,
    others: Iterable[Mount] = (),
) -> list[Mount]:
    """All mounts of a new container: the user's over `--volumes-from`'s over the image's VOLUMEs.

    A container keeps this list; `volume.claim` fills in the names of its anonymous volumes.
    """
    found: dict[str, Mount] = {}
    if image_mode != "ignore":
        for path in image_volumes or ():
            # An image's own words: one that is no absolute path is dropped rather than made an error of the user's.
            if not path.startswith("/") or "\0" in path:
                continue
            place = destination(path)
            if place == "/":
                continue
            options = ["rprivate", "rw", "nodev", "exec"]
            if image_mode == "tmpfs":
                found[place] = {
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "destination": place,
                    "options": options,
                    "origin": "image",
                }
            else:
                found[place] = {
                    "type": "volume",
                    "source": "",
                    "destination": place,
                    "options": options,
                    "origin": "image",
                }
    for mount in others:
        found[mount["destination"]] = mount
    for mount in asked:
        found[mount["destination"]] = mount
    return list(found.values())
