"""The words of `--mount type=TYPE,…`, each kind with its own; what comes of them is mounts.py's. Errors are Podman's."""

from __future__ import annotations

import os

from rootless.container.mounts import (
    BAD,
    NO_ARGUMENT,
    PROPAGATION,
    check_options,
    destination,
    idmap_refused,
    volume_name,
    volume_options,
)
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.container.mounts import Mount

_FORMAT = (
    "incorrect mount format: should be --mount type=<bind|glob|tmpfs|volume>,"
    "[src=<host-dir|volume-name>,]target=<ctr-dir>[,options]"
)
_NO_DESTINATION = "must set volume destination"

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
        mount = _Words(kind, rest).mount()
        source = mount["source"] or mount["destination"]
        mount["source"] = os.path.normpath(os.path.join(cwd, source))
        mount["options"] = volume_options(mount["options"])
        return [mount]
    if kind == "glob":
        return _parse_glob(rest, cwd)
    if kind in ("tmpfs", "ramfs"):
        mount = _Words(kind, rest).mount()
        mount["source"] = kind
        check_options(mount["options"], is_tmpfs=True)
        return [mount]
    if kind == "volume":
        mount = _Words(kind, rest).mount()
        if mount["source"]:
            volume_name(mount["source"])
        check_options(mount["options"], is_tmpfs=False)
        return [mount]
    if kind == "devpts":
        return [_parse_devpts(rest)]
    if kind == "image":
        return [_parse_image(rest)]
    raise Usage(f'invalid filesystem type "{kind}"')


def _argument(name: str, equals: str) -> None:
    if not equals:
        raise Usage(f"{name}: {NO_ARGUMENT}")


class _Words:
    """The options that bind, glob, volume, tmpfs and ramfs mounts share, read one by one."""

    __slots__ = ("driver", "kind", "options", "place", "seen", "source", "subpath")

    def __init__(self, kind: str, tokens: Iterable[str]) -> None:
        self.kind = kind
        self.options: list[str] = []
        self.source = self.place = self.subpath = ""
        self.driver: dict[str, str] = {}
        self.seen: set[str] = set()
        for token in tokens:
            name, equals, value = token.partition("=")
            if name in _PAIRS:
                self._pair(name)
            elif name in PROPAGATION or name in ("Z", "z", "no-dereference"):
                self.options.append(name)
            elif read := _READERS.get(name):
                read(self, name, equals, value)
            else:
                raise Usage(f"{name}: {BAD}")

    def mount(self) -> Mount:
        if not self.place and self.kind != "glob":
            raise Usage(_NO_DESTINATION)
        mount: Mount = {
            "type": self.kind,
            "source": self.source,
            "destination": self.place,
            "options": self.options,
        }
        if self.subpath:
            mount["subpath"] = self.subpath
        if self.driver:
            mount["driver_options"] = self.driver
        return mount

    def _only(self, wanted: str, name: str) -> None:
        if self.kind != wanted:
            raise Usage(f'"{name}" option not supported for "{self.kind}" mount types')

    def _once(self, what: str, said: str = "cannot pass {} option") -> None:
        if what in self.seen:
            raise Usage(f"{said.format(what)} more than once: {NO_ARGUMENT}")
        self.seen.add(what)

    def _pair(self, name: str) -> None:
        if name.endswith("tmpcopyup"):
            self._only("tmpfs", name)
        self._once(_PAIRS[name], "cannot pass {} mnt.Options")
        self.options.append(name)

    def bind_nonrecursive(self, name: str, equals: str, value: str) -> None:
        self._only("bind", name)
        self.options.append("bind")

    def propagation(self, name: str, equals: str, value: str) -> None:
        self._only("bind", name)
        _argument(name, equals)
        if value not in PROPAGATION:
            raise Usage(f'invalid value "{name}={value}"')
        self.options.append(value)

    def consistency(self, name: str, equals: str, value: str) -> None:
        """Docker on a Mac has it; it never meant anything on Linux."""

    def idmap(self, name: str, equals: str, value: str) -> None:
        raise idmap_refused(f"{name}{equals}{value}")

    def access(self, name: str, equals: str, value: str) -> None:
        self._once("'readonly', 'ro', or 'rw'", "cannot pass {} mnt.Options")
        word = "ro" if name == "readonly" else name
        if not equals or value.lower() == "true":
            self.options.append(word)
        elif value.lower() != "false":
            # Podman takes ro=nonsense for false and mounts it writable.
            raise Usage(f'invalid value "{name}={value}": must be true or false')
        elif word == "rw":
            self.options.append("ro")

    def noswap(self, name: str, equals: str, value: str) -> None:
        raise Usage(f"the 'noswap' option is only allowed with rootful tmpfs mounts: {NO_ARGUMENT}")

    def relabel(self, name: str, equals: str, value: str) -> None:
        if value not in ("private", "shared"):
            raise Usage(f"{name} mount option must be 'private' or 'shared': {BAD}")
        self._once("'relabel'")
        self.options.append("Z" if value == "private" else "z")

    def from_where(self, name: str, equals: str, value: str) -> None:
        if self.kind == "tmpfs":
            raise Usage(f'"{name}" option not supported for "{self.kind}" mount types')
        if self.source:
            raise Usage(f'cannot pass "{name}" option more than once: {NO_ARGUMENT}')
        _argument(name, equals)
        if not value:
            raise Usage(f"host directory cannot be empty: {NO_ARGUMENT}")
        self.source = value

    def part(self, name: str, equals: str, value: str) -> None:
        if self.kind != "volume":
            raise Usage(f'cannot set option "{name}" on non-volume mounts')
        _argument(name, equals)
        self.subpath = value

    def to_where(self, name: str, equals: str, value: str) -> None:
        if self.place:
            raise Usage(f'cannot pass "{name}" option more than once: {NO_ARGUMENT}')
        _argument(name, equals)
        self.place = destination(value)

    def tmpfs_number(self, name: str, equals: str, value: str) -> None:
        self._only("tmpfs", name)
        _argument(name, equals)
        _check_tmpfs_number(name, value)
        self.options.append(f"{name[6:]}={value}")

    def chown(self, name: str, equals: str, value: str) -> None:
        self._once("'U' or 'chown'")
        if value.lower() not in ("", "true", "false"):
            raise Usage(
                f"'U' or 'chown' must be set to true or false, instead received \"{value}\": {NO_ARGUMENT}"
            )
        if value.lower() != "false":
            self.options.append("U")

    def label(self, name: str, equals: str, value: str) -> None:
        self._only("volume", name)
        raise Usage(
            "the --volume-label option is not presently implemented",
            hint="label the volume before: volume create --label",
        )

    def driver_option(self, name: str, equals: str, value: str) -> None:
        self._only("volume", name)
        key, _, text = value.partition("=")
        self.driver[key] = text


_READERS: dict[str, Callable[[_Words, str, str, str], None]] = {
    "bind-nonrecursive": _Words.bind_nonrecursive,
    "bind-propagation": _Words.propagation,
    "chown": _Words.chown,
    "consistency": _Words.consistency,
    "destination": _Words.to_where,
    "dst": _Words.to_where,
    "idmap": _Words.idmap,
    "noswap": _Words.noswap,
    "readonly": _Words.access,
    "relabel": _Words.relabel,
    "ro": _Words.access,
    "rw": _Words.access,
    "source": _Words.from_where,
    "src": _Words.from_where,
    "subpath": _Words.part,
    "target": _Words.to_where,
    "tmpfs-mode": _Words.tmpfs_number,
    "tmpfs-size": _Words.tmpfs_number,
    "U": _Words.chown,
    "volume-label": _Words.label,
    "volume-opt": _Words.driver_option,
    "volume-subpath": _Words.part,
}


def _check_tmpfs_number(name: str, value: str) -> None:
    # Podman leaves it to the kernel, whose "invalid argument" names nothing.
    if name == "tmpfs-mode":
        if not value or any(c not in "01234567" for c in value) or int(value, 8) > 0o7777:
            raise Usage(f'{name}: invalid mode "{value}"')
    elif not value.rstrip("kmgtKMGT%").isdigit() or len(value.rstrip("kmgtKMGT%")) < len(value) - 1:
        raise Usage(f'{name}: invalid size "{value}"')


def _parse_glob(tokens: list[str], cwd: str) -> list[Mount]:
    mount = _Words("glob", tokens).mount()
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
            raise Usage(f"{name}: {BAD}")
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
                raise Usage(f'invalid rw value "{value}": {BAD}')
            options[0] = "rw" if value == "true" else "ro"
        elif name == "idmap":
            raise idmap_refused(token)
        elif name == "subpath":
            _argument(name, equals)
            if not value.startswith("/"):
                raise Usage(f'volume subpath "{value}" must be an absolute path')
            subpath = value
        elif name != "consistency":
            raise Usage(f"{name}: {BAD}")
    if not source or not place:
        raise Usage("must set source and destination for image volume")
    mount: Mount = {"type": "image", "source": source, "destination": place, "options": options}
    if subpath:
        mount["subpath"] = subpath
    return mount
