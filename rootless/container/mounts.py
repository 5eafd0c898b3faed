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


_PROPAGATION = (
    "shared",
    "rshared",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
)
_BAD = "invalid mount option"
_NO_ARGUMENT = "must provide an argument for option"
_FORMAT = (
    "incorrect mount format: should be --mount type=<bind|glob|tmpfs|volume>,"
    "[src=<host-dir|volume-name>,]target=<ctr-dir>[,options]"
)
_NO_DESTINATION = "must set volume destination"

# Options of -v of which one may be given, and what the message calls them.
_VOLUME_ONE_OF: tuple[tuple[tuple[str, ...], str], ...] = (
    (("exec", "noexec"), "'noexec' or 'exec'"),
    (("dev", "nodev"), "'nodev' or 'dev'"),
    (("suid", "nosuid"), "'nosuid' or 'suid'"),
    (("rw", "ro"), "'rw' or 'ro'"),
    (("z", "Z", "O"), "'z', 'Z', or 'O'"),
    (("U",), "'U'"),
    (_PROPAGATION, "'[r]shared', '[r]private', '[r]slave' or '[r]unbindable'"),
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
            raise _idmap(option)
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


def _idmap(option: str) -> Usage:
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
    (_PROPAGATION, "only one root propagation mode can be used"),
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
                raise Usage(f"the '{name}' option is only allowed with tmpfs mounts: {_BAD}")
            if not option.partition("=")[2]:
                raise Usage(f"{name}: {_NO_ARGUMENT}")
        elif name in ("tmpcopyup", "notmpcopyup") and not is_tmpfs:
            raise Usage(f"the '{name}' option is only allowed with tmpfs mounts: {_BAD}")
        elif is_tmpfs and name in ("bind", "rbind"):
            raise Usage(f"the 'bind' and 'rbind' options are not allowed with tmpfs mounts: {_BAD}")
        elif is_tmpfs and name in ("z", "Z"):
            raise Usage(f"the 'z' and 'Z' options are not allowed with tmpfs mounts: {_BAD}")
        if name in ("size", "mode", "idmap", "volume-opt", "O", "consistency"):
            said = ""
        elif name == "noswap":
            raise Usage(
                f"the 'noswap' option is only allowed with rootful tmpfs mounts: {_NO_ARGUMENT}"
            )
        else:
            for words, said in _MOUNT_ONE_OF:  # noqa: B007
                if option in words:
                    break
            else:
                raise Usage(f'unknown mount option "{option}": {_BAD}')
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


def split_csv(text: str) -> list[str]:
    """The fields of one CSV line: quotes keep commas, a doubled quote is one."""
    if '"' not in text:
        return text.split(",")
    fields, field, position = [], "", 0
    while position <= len(text):
        if text[position : position + 1] == '"' and not field:
            position += 1
            while position < len(text):
                if text[position] == '"':
                    if text[position + 1 : position + 2] != '"':
                        break
                    position += 1
                field += text[position]
                position += 1
            else:
                raise Usage(f'{text}: extraneous or missing " in quoted-field')
            position += 1
            if text[position : position + 1] not in ("", ","):
                raise Usage(f'{text}: extraneous or missing " in quoted-field')
        comma = text.find(",", position)
        end = len(text) if comma < 0 else comma
        field += text[position:end]
        fields.append(field)
        field = ""
        if comma < 0:
            break
        position = comma + 1
    return fields


def parse_mount(text: str, cwd: str) -> list[Mount]:
    """Read `--mount type=TYPE,…`; a glob makes several."""
    tokens = split_csv(text)
    kind = None
    rest = []
    for token in tokens:
        if kind is None and token.startswith("type="):
            kind = token[5:]
        else:
            rest.append(token)
    if kind is None:
        raise Usage(_FORMAT)
    if kind == "bind":
        mount = _parse_common(kind, rest)
        source = mount["source"] or mount["destination"]
        mount["source"] = os.path.normpath(os.path.join(cwd, source))
        mount["options"] = volume_options(mount["options"])
        return [mount]
    if kind == "glob":
        return _parse_glob(rest, cwd)
    if kind in ("tmpfs", "ramfs"):
        mount = _parse_common(kind, rest)
        mount["source"] = kind
        check_options(mount["options"], is_tmpfs=True)
        return [mount]
    if kind == "volume":
        mount = _parse_common(kind, rest)
        if mount["source"]:
            volume_name(mount["source"])
        check_options(mount["options"], is_tmpfs=False)
        return [mount]
    if kind == "devpts":
        return [_parse_devpts(rest)]
    if kind == "image":
        return [_parse_image(rest)]
    raise Usage(f'invalid filesystem type "{kind}"')


def _only(kind: str, wanted: str, name: str) -> None:
    if kind != wanted:
        raise Usage(f'"{name}" option not supported for "{kind}" mount types')


def _argument(name: str, equals: str) -> None:
    if not equals:
        raise Usage(f"{name}: {_NO_ARGUMENT}")


_PAIRS = {
    "dev": "'nodev' and 'dev'",
    "nodev": "'nodev' and 'dev'",
    "exec": "'noexec' and 'exec'",
    "noexec": "'noexec' and 'exec'",
    "suid": "'nosuid' and 'suid'",
    "nosuid": "'nosuid' and 'suid'",
    "tmpcopyup": "'tmpcopyup' and 'notmpcopyup'",
    "notmpcopyup": "'tmpcopyup' and 'notmpcopyup'",
}


def _parse_common(kind: str, tokens: list[str]) -> Mount:
    """The options that bind, glob, volume, tmpfs and ramfs mounts share."""
    options: list[str] = []
    source = place = subpath = ""
    driver: dict[str, str] = {}
    seen: set[str] = set()

    def once(what: str) -> None:
        if what in seen:
            raise Usage(f"cannot pass {what} mnt.Options more than once: {_NO_ARGUMENT}")
        seen.add(what)

    for token in tokens:
        name, equals, value = token.partition("=")
        if name == "bind-nonrecursive":
            _only(kind, "bind", name)
            options.append("bind")
        elif name == "bind-propagation":
            _only(kind, "bind", name)
            _argument(name, equals)
            if value not in _PROPAGATION:
                raise Usage(f'invalid value "{token}"')
            options.append(value)
        elif name == "consistency":
            continue  # Docker on a Mac has it; it never meant anything on Linux
        elif name == "idmap":
            raise _idmap(token)
        elif name in ("readonly", "ro", "rw"):
            once("'readonly', 'ro', or 'rw'")
            word = "ro" if name == "readonly" else name
            if not equals or value.lower() == "true":
                options.append(word)
            elif value.lower() == "false":
                if word == "rw":
                    options.append("ro")
            else:
                # Podman takes ro=nonsense for false and mounts it writable.
                raise Usage(f'invalid value "{token}": must be true or false')
        elif name in _PAIRS:
            if name.endswith("tmpcopyup"):
                _only(kind, "tmpfs", name)
            once(_PAIRS[name])
            options.append(name)
        elif name == "noswap":
            raise Usage(
                f"the 'noswap' option is only allowed with rootful tmpfs mounts: {_NO_ARGUMENT}"
            )
        elif name == "relabel":
            if value not in ("private", "shared"):
                raise Usage(f"{name} mount option must be 'private' or 'shared': {_BAD}")
            if name in seen:
                raise Usage(f"cannot pass 'relabel' option more than once: {_NO_ARGUMENT}")
            seen.add(name)
            options.append("Z" if value == "private" else "z")
        elif name in _PROPAGATION or name in ("Z", "z", "no-dereference"):
            options.append(name)
        elif name in ("src", "source"):
            if kind == "tmpfs":
                raise Usage(f'"{name}" option not supported for "{kind}" mount types')
            if source:
                raise Usage(f'cannot pass "{name}" option more than once: {_NO_ARGUMENT}')
            _argument(name, equals)
            if not value:
                raise Usage(f"host directory cannot be empty: {_NO_ARGUMENT}")
            source = value
        elif name in ("subpath", "volume-subpath"):
            if kind != "volume":
                raise Usage(f'cannot set option "{name}" on non-volume mounts')
            _argument(name, equals)
            subpath = value
        elif name in ("target", "dst", "destination"):
            if place:
                raise Usage(f'cannot pass "{name}" option more than once: {_NO_ARGUMENT}')
            _argument(name, equals)
            place = destination(value)
        elif name in ("tmpfs-mode", "tmpfs-size"):
            _only(kind, "tmpfs", name)
            _argument(name, equals)
            _check_tmpfs_number(name, value)
            options.append(f"{name[6:]}={value}")
        elif name in ("U", "chown"):
            if "U" in seen:
                raise Usage(f"cannot pass 'U' or 'chown' option more than once: {_NO_ARGUMENT}")
            seen.add("U")
            if value.lower() not in ("", "true", "false"):
                raise Usage(
                    "'U' or 'chown' must be set to true or false, "
                    f'instead received "{value}": {_NO_ARGUMENT}'
                )
            if value.lower() != "false":
                options.append("U")
        elif name == "volume-label":
            _only(kind, "volume", name)
            raise Usage("the --volume-label option is not presently implemented")
        elif name == "volume-opt":
            _only(kind, "volume", name)
            key, _, text = value.partition("=")
            driver[key] = text
        else:
            raise Usage(f"{name}: {_BAD}")
    if not place and kind != "glob":
        raise Usage(_NO_DESTINATION)
    mount: Mount = {"type": kind, "source": source, "destination": place, "options": options}
    if subpath:
        mount["subpath"] = subpath
    if driver:
        mount["driver_options"] = driver
    return mount


def _check_tmpfs_number(name: str, value: str) -> None:
    # Podman leaves it to the kernel, whose "invalid argument" names nothing.
    if name == "tmpfs-mode":
        if not value or any(c not in "01234567" for c in value) or int(value, 8) > 0o7777:
            raise Usage(f'{name}: invalid mode "{value}"')
    elif not value.rstrip("kmgtKMGT%").isdigit() or len(value.rstrip("kmgtKMGT%")) < len(value) - 1:
        raise Usage(f'{name}: invalid size "{value}"')


def _parse_glob(tokens: list[str], cwd: str) -> list[Mount]:
    mount = _parse_common("glob", tokens)
    from glob import glob

    pattern = mount["source"]
    found = sorted(glob(os.path.join(cwd, pattern))) if pattern else []
    if not found:
        raise Usage(f'no file paths matching glob "{pattern}"')
    options = volume_options(mount["options"])
    place = mount["destination"]
    return [
        {
            "type": "bind",
            "source": path,
            "destination": os.path.join(place, os.path.basename(path)) if place else path,
            "options": list(options),
        }
        for path in found
    ]


def _parse_devpts(tokens: list[str]) -> Mount:
    options, place = [], ""
    for token in tokens:
        name, equals, value = token.partition("=")
        if name in ("uid", "gid", "max", "mode", "ptmxmode"):
            digits = "01234567" if name.endswith("mode") else "0123456789"
            if not value or any(c not in digits for c in value):
                raise Usage(f'{name}: invalid number "{value}"')
            options.append(token)
        elif token == "newinstance":
            options.append(token)
        elif name in ("target", "dst", "destination"):
            _argument(name, equals)
            place = destination(value)
        else:
            raise Usage(f"{name}: {_BAD}")
    if not place:
        raise Usage(_NO_DESTINATION)
    return {"type": "devpts", "source": "devpts", "destination": place, "options": options}


def _parse_image(tokens: list[str]) -> Mount:
    options: list[str] = ["ro"]
    source = place = subpath = ""
    for token in tokens:
        name, equals, value = token.partition("=")
        if name in ("src", "source"):
            _argument(name, equals)
            source = value
        elif name in ("target", "dst", "destination"):
            _argument(name, equals)
            place = destination(value)
        elif name in ("rw", "readwrite"):
            if value not in ("true", "false"):
                raise Usage(f'invalid rw value "{value}": {_BAD}')
            options[0] = "rw" if value == "true" else "ro"
        elif name == "idmap":
            raise _idmap(token)
        elif name == "subpath":
            _argument(name, equals)
            if not value.startswith("/"):
                raise Usage(f'volume subpath "{value}" must be an absolute path')
            subpath = value
        elif name != "consistency":
            raise Usage(f"{name}: {_BAD}")
    if not source or not place:
        raise Usage("must set source and destination for image volume")
    mount: Mount = {"type": "image", "source": source, "destination": place, "options": options}
    if subpath:
        mount["subpath"] = subpath
    return mount


def parse(
    volumes: Iterable[str], mounts: Iterable[str], tmpfs: Iterable[str], cwd: str
) -> list[Mount]:
    """Read all of `-v`, `--mount` and `--tmpfs`. The same mount twice is one; two at one place are an error."""
    found: dict[str, Mount] = {}
    for text in mounts:
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
