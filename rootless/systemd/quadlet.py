"""Quadlet: files under the usual folders become services whose commands are this engine's; podman-systemd.unit(5).

A mistake is an error of its file, with its line; the other files become units all the same. `%` and `$` in values are
systemd's, as Podman has it: the files are written for it.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.systemd.quadlet_file import QuadletError, Source, Value, drop_in_folders, load, split
from rootless.systemd.quadlet_keys import (
    ARGS,
    EACH,
    FLAG,
    KINDS,
    LAST,
    PAIRS,
    QUADLET,
    REFUSED,
    WORDS,
)
from rootless.systemd.units import check_unit_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WAIT_ONLINE = "rootless-user-wait-network-online.service"
_SERVICE_SUFFIX = {
    "container": "",
    "volume": "-volume",
    "network": "-network",
    "image": "-image",
    "build": "-build",
    "pod": "-pod",
}
#: Where Podman's own generator would be; the files in the folders of both are then its.
_PODMAN = (
    "/usr/lib/systemd/user-generators/podman-user-generator",
    "/usr/local/lib/systemd/user-generators/podman-user-generator",
)


class Unit:
    """A service made of a file."""

    __slots__ = ("name", "lines", "source", "install")

    def __init__(
        self, name: str, lines: list[str], source: Source, install: list[tuple[str, str]]
    ) -> None:
        self.name = name
        self.lines = lines
        self.source = source
        self.install = install  # (link below the output folder, what it points to)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def folders(environ: Mapping[str, str], uid: int, config_home: str, runtime: str) -> list[str]:
    """Where files are looked for, those first that win."""
    given = environ.get("QUADLET_UNIT_DIRS")
    if given:
        return [one for one in given.split(":") if one]
    found = [f"{runtime}/rootless/systemd", f"{config_home}/rootless/systemd"]
    if not any(os.path.exists(path) for path in _PODMAN):
        found += [
            f"{runtime}/containers/systemd",
            f"{config_home}/containers/systemd",
            f"/etc/containers/systemd/users/{uid}",
            "/etc/containers/systemd/users",
        ]
    return found


def find(places: Sequence[str]) -> tuple[list[Source], list[QuadletError]]:
    """The files of all folders and those below, one of each name; what cannot be read is told apart."""
    paths: dict[str, str] = {}
    every: list[str] = []
    for place in places:
        for folder, below, names in os.walk(place, followlinks=True):
            below[:] = sorted(name for name in below if not name.endswith(".d"))
            if place == "/etc/containers/systemd/users":
                below[:] = [name for name in below if not name.isdigit()]
            if folder not in every:
                every.append(folder)
            if len(every) > 1000:
                break  # links in a circle
            for name in sorted(names):
                kind = name.rpartition(".")[2]
                if "." in name and (kind in KINDS or kind in REFUSED):
                    paths.setdefault(name, f"{folder}/{name}")
    sources, errors = [], []
    for name, path in sorted(paths.items()):
        try:
            sources.append(load(path, drop_in_folders(every, name)))
        except QuadletError as error:
            errors.append(error)
    return sources, errors


class Generator:
    """All files together: they name each other."""

    __slots__ = ("sources", "program", "runtime_unit", "user_root")

    def __init__(self, sources: Sequence[Source], program: str) -> None:
        self.sources = {source.name: source for source in sources}
        self.program = program

    def run(self) -> tuple[list[Unit], list[QuadletError]]:
        units: list[Unit] = []
        errors: list[QuadletError] = []
        names: dict[str, Source] = {}
        for name in sorted(self.sources):
            source = self.sources[name]
            try:
                unit = Builder(self, source).build()
                if unit.name in names:
                    raise QuadletError(
                        f"{source.path}: {unit.name} is already made of {names[unit.name].path}"
                    )
                names[unit.name] = source
                units.append(unit)
            except QuadletError as error:
                errors.append(error)
        return units, errors

    def service(self, name: str) -> str:
        """The service that a file becomes."""
        source = self.sources[name]
        stem, _, kind = name.rpartition(".")
        section = KINDS[kind][0] if kind in KINDS else ""
        given = source.last(section, "ServiceName") if section else None
        if given is not None:
            return f"{given.text}.service"
        before, at, instance = stem.partition("@")
        return f"{before}{_SERVICE_SUFFIX[kind]}{at}{instance}.service"

    def resource(self, name: str) -> str:
        """The name of the volume, network, image or container that a file stands for."""
        source = self.sources[name]
        stem, _, kind = name.rpartition(".")
        if kind == "image":
            tag = source.last("Image", "ImageTag") or source.last("Image", "Image")
            if tag is None:
                raise QuadletError(f"{source.path}: no Image= in [Image]")
            return tag.text
        key = {"volume": "VolumeName", "network": "NetworkName", "container": "ContainerName"}[kind]
        given = source.last(KINDS[kind][0], key)
        return given.text if given is not None else f"systemd-{stem}"


class Builder:
    """One file becoming one service."""

    __slots__ = ("all", "source", "kind", "section", "keys", "unit", "service", "stem")

    def __init__(self, generator: Generator, source: Source) -> None:
        self.all = generator
        self.source = source
        self.stem, _, self.kind = source.name.rpartition(".")
        if self.kind in REFUSED:
            raise QuadletError(f"{source.path}: {REFUSED[self.kind]}")
        self.section, self.keys = KINDS[self.kind]
        self.unit: list[str] = []
        self.service: list[str] = []

    def build(self) -> Unit:
        source = self.source
        if self.section not in source.sections:
            raise QuadletError(f"{source.path}: there is no section [{self.section}]")
        for key, value in source.keys(self.section):
            if key not in self.keys:
                raise value.fail(f"unsupported key '{key}' in group '{self.section}'")
        for key, value in source.keys("Quadlet"):
            if key not in QUADLET:
                raise value.fail(f"unsupported key '{key}' in group 'Quadlet'")
        name = self.all.service(source.name)
        try:
            check_unit_name(name)
        except RootlessError as error:
            raise QuadletError(f"{source.path}: {error.message}") from None
        self.unit.append(f"SourcePath={source.path}")
        if self.kind == "container":
            self._container()
        elif self.kind == "volume":
            self._volume()
        elif self.kind == "network":
            self._network()
        else:
            self._image()
        lines = ["# made by rootless quadlet; changes belong into the source", "[Unit]"]
        if source.flag("Quadlet", "DefaultDependencies") is not False:
            lines += [f"Wants={WAIT_ONLINE}", f"After={WAIT_ONLINE}"]
        lines += self._given("Unit") + list(dict.fromkeys(self.unit))
        lines += ["", "[Service]", *self._given("Service"), *self.service]
        for section in source.sections:
            if section not in ("Unit", "Service", "Quadlet", self.section):
                lines += ["", f"[{section}]", *self._given(section)]
        lines += ["", f"[X-{self.section}]", *self._given(self.section)]
        return Unit(name, lines, source, self._links(name))

    def _given(self, section: str) -> list[str]:
        return [f"{key}={value.text}" for key, value in self.source.keys(section)]

    def _links(self, name: str) -> list[tuple[str, str]]:
        """What `systemctl enable` would make: the generator has to, since generated units cannot be enabled."""
        links: list[tuple[str, str]] = []
        target = name
        before, at, instance = name.removesuffix(".service").partition("@")
        if at and not instance:
            default = self.source.last("Install", "DefaultInstance")
            target = f"{before}@{default.text}.service" if default is not None else ""
        for alias, value in self.source.words("Install", "Alias"):
            if "/" in alias or not alias.endswith(".service"):
                raise value.fail(f"Alias={alias}: not the name of a service")
            links.append((alias, name))
        for key, suffix in (
            ("WantedBy", "wants"),
            ("RequiredBy", "requires"),
            ("UpheldBy", "upholds"),
        ):
            for other, value in self.source.words("Install", key):
                if "/" in other or "." not in other:
                    raise value.fail(f"{key}={other}: not the name of a unit")
                if target:
                    links.append((f"{other}.{suffix}/{target}", f"../{name}"))
        return links

    # words

    def _base(self) -> list[str]:
        words = [self.all.program]
        words += [
            f"--module={value.text}"
            for value in self.source.all(self.section, "ContainersConfModule")
        ]
        return words + [word for word, _ in self.source.words(self.section, "GlobalArgs")]

    def _simple(self) -> list[str]:
        """The options of all keys that are an option each."""
        words: list[str] = []
        for key, (kind, option) in self.keys.items():
            glue = "" if option.endswith(":") else "="
            if kind == LAST:
                value = self.source.last(self.section, key)
                if value is not None:
                    words.append(f"--{option}{glue}{value.text}")
            elif kind == EACH:
                words += [
                    f"--{option}={value.text}" for value in self.source.all(self.section, key)
                ]
            elif kind == WORDS:
                words += [f"--{option}={word}" for word, _ in self.source.words(self.section, key)]
            elif kind == PAIRS:
                words += [f"--{option}={name}={text}" for name, text in self._pairs(key).items()]
            elif kind == FLAG:
                flag = self.source.flag(self.section, key)
                if flag is not None:
                    words.append(f"--{option}" if flag else f"--{option}=false")
            elif kind == ARGS:
                continue  # PodmanArgs come last
        return words

    def _pairs(self, key: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for word, value in self.source.words(self.section, key):
            name, equals, text = word.partition("=")
            if not equals:
                raise value.fail(f"{key}={word}: not NAME=VALUE")
            found[name] = text
        return found

    def _own_args(self) -> list[str]:
        return [word for word, _ in self.source.words(self.section, "PodmanArgs")]

    def _text(self, key: str) -> str:
        value = self.source.last(self.section, key)
        return value.text if value is not None else ""

    def _after(self, name: str) -> None:
        service = self.all.service(name)
        self.unit += [f"Requires={service}", f"After={service}"]

    def _known(self, value: Value, name: str) -> str:
        """The name of what another file stands for, after which this one has to come."""
        if name not in self.all.sources:
            raise value.fail(f"{name} is named, but there is no such file")
        self._after(name)
        return self.all.resource(name)

    def _path(self, path: str) -> str:
        """A path relative to the file; one that begins with a specifier is systemd's matter."""
        if path.startswith(("/", "%")):
            return path
        return os.path.normpath(
            os.path.join(os.path.dirname(os.path.abspath(self.source.path)), path)
        )

    def _oneshot(self, words: list[str]) -> None:
        self._default("Type", "oneshot")
        self._default("RemainAfterExit", "yes")
        self._default("SyslogIdentifier", "%N")
        self.service.append(f"ExecStart={line(words)}")

    def _default(self, key: str, value: str) -> None:
        if self.source.last("Service", key) is None:
            self.service.append(f"{key}={value}")

    # kinds

    def _container(self) -> None:
        source = self.source
        image, rootfs = source.last("Container", "Image"), source.last("Container", "Rootfs")
        if (image is None) == (rootfs is None):
            raise QuadletError(f"{source.path}: one of Image= and Rootfs= is needed, and not both")
        for key in ("Pod", "StartWithPod"):
            value = source.last("Container", key)
            if value is not None:
                raise value.fail(f"{key}=: {REFUSED['pod']}")
        for key in ("RemapUsers", "RemapUid", "RemapGid", "RemapUidSize", "VolatileTmp"):
            value = source.last("Container", key)
            if value is not None:
                raise value.fail(
                    f"{key}=: no longer there in Podman 5; use UserNS=, UIDMap=, GIDMap= or Tmpfs="
                )
        kind = source.last("Service", "Type")
        if kind is not None and kind.text not in ("notify", "oneshot"):
            raise kind.fail(f"Type={kind.text}: must be notify or oneshot")
        oneshot = kind is not None and kind.text == "oneshot"
        mode = source.last("Service", "KillMode")
        if mode is not None and mode.text not in ("mixed", "control-group"):
            raise mode.fail(f"KillMode={mode.text}: must be mixed or control-group")
        template = "@" in self.stem
        name = self._text("ContainerName") or ("systemd-%p_%i" if template else "systemd-%N")
        words = [*self._base(), "run", f"--name={name}", "--cidfile=%t/%N.cid", "--replace", "--rm"]
        words.append(f"--cgroups={self._text('CgroupsMode') or 'split'}")
        words += self._notify(oneshot)
        words += self._simple()
        words += self._security()
        words += self._networks() + self._volumes() + self._mounts()
        for value in source.all("Container", "EnvironmentFile"):
            words.append(f"--env-file={self._path(value.text)}")
        for word, _ in source.words("Container", "AddDevice"):
            if word.startswith("-"):
                word = word[1:]
                if not os.path.exists(word.partition(":")[0]):
                    continue
            words.append(f"--device={word}")
        user, group = self._text("User"), source.last("Container", "Group")
        if group is not None and not user:
            raise group.fail("Group= needs User=")
        if user:
            words.append(f"--user={user}:{group.text}" if group is not None else f"--user={user}")
        if self._text("AutoUpdate"):
            words.append(f"--label=io.containers.autoupdate={self._text('AutoUpdate')}")
        words += self._own_args()
        if image is not None:
            text = image.text
            known = text.endswith((".image", ".build")) and "/" not in text
            words.append(self._known(image, text) if known else text)
        else:
            assert rootfs is not None
            words += ["--rootfs", self._path(rootfs.text)]
        command = source.last("Container", "Exec")
        if command is not None:
            words += split(command)
        stop = line([*self._base(), "rm", "-v", "-f", "-i", "--cidfile=%t/%N.cid"])
        self.service.append("Environment=PODMAN_SYSTEMD_UNIT=%n")
        self._default("KillMode", "mixed")
        self.service += [
            "ExecStartPre=-/bin/rm -f %t/%N.cid",
            f"ExecStop={stop}",
            f"ExecStopPost=-{stop}",
            "Delegate=yes",
        ]
        if not oneshot:
            self._default("Type", "notify")
            self._default("NotifyAccess", "all")
        self._default("SyslogIdentifier", "%N")
        self.service.append(f"ExecStart={line(words)}")

    def _notify(self, oneshot: bool) -> list[str]:
        if oneshot:
            return []  # attached: the unit is done when the container is
        text = self._text("Notify")
        if text == "healthy":
            mode = "healthy"
        else:
            mode = "container" if text and self.source.flag("Container", "Notify") else "conmon"
        return [f"--sdnotify={mode}", "-d"]

    def _security(self) -> list[str]:
        words = []
        for key, option in (
            ("NoNewPrivileges", "no-new-privileges"),
            ("SecurityLabelDisable", "label=disable"),
            ("SecurityLabelNested", "label=nested"),
        ):
            if self.source.flag("Container", key):
                words.append(f"--security-opt={option}")
        return words

    def _networks(self) -> list[str]:
        words = []
        for value in self.source.all("Container", "Network"):
            name, colon, options = value.text.partition(":")
            if name.endswith(".network"):
                name = self._known(value, name)
            elif name.endswith(".container"):
                if options:
                    raise value.fail(
                        f"Network={value.text}: the network of a container has no options"
                    )
                name, colon, options = "container", ":", self._known(value, name)
            words.append(f"--network={name}{colon}{options}")
        return words

    def _volumes(self) -> list[str]:
        words = []
        for value in self.source.all("Container", "Volume"):
            first, colon, rest = value.text.partition(":")
            if colon:
                first = self._source(value, first)
            words.append(f"--volume={first}{colon}{rest}")
        return words

    def _source(self, value: Value, text: str) -> str:
        """A mount's source: a .volume file, a path that has to be there first, or a volume's name."""
        if text.endswith(".volume") and "/" not in text:
            return self._known(value, text)
        if text.startswith("."):
            text = self._path(text)
        if text.startswith("/"):
            self.unit.append(f"RequiresMountsFor={word_of(text)}")
        return text

    def _mounts(self) -> list[str]:
        words = []
        for value in self.source.all("Container", "Mount"):
            parts = value.text.split(",")
            kind = next((part[5:] for part in parts if part.startswith("type=")), "volume")
            for at, part in enumerate(parts):
                key, equals, text = part.partition("=")
                if key in ("source", "src") and equals:
                    if kind in ("volume", "bind", "glob"):
                        text = self._source(value, text)
                    elif kind == "image" and text.endswith(".image"):
                        text = self._known(value, text)
                    parts[at] = f"{key}={text}"
            words.append(f"--mount={','.join(parts)}")
        return words

    def _volume(self) -> None:
        name = self.all.resource(self.source.name)
        words = [*self._base(), "volume", "create", "--ignore", *self._simple()]
        device, kind = self.source.last("Volume", "Device"), self.source.last("Volume", "Type")
        options, image = self.source.last("Volume", "Options"), self.source.last("Volume", "Image")
        if self._text("Driver") == "image":
            if image is None:
                raise QuadletError(f"{self.source.path}: Driver=image needs Image=")
            text = self._known(image, image.text) if image.text.endswith(".image") else image.text
            words.append(f"--opt=image={text}")
        else:
            ids = [
                f"{what}={self._number(key)}"
                for key, what in (("User", "uid"), ("Group", "gid"))
                if self._text(key)
            ]
            mount = [*ids, options.text] if options is not None else ids
            copy = self.source.flag("Volume", "Copy")
            if copy is not None:
                words.append("--opt=copy" if copy else "--opt=nocopy")
            if device is not None:
                words.append(f"--opt=device={device.text}")
                if device.text.startswith("/"):
                    self.unit.append(f"RequiresMountsFor={word_of(device.text)}")
            if kind is not None:
                if device is None:
                    raise kind.fail("Type= needs Device=")
                words.append(f"--opt=type={kind.text}")
            if mount:
                if options is not None and device is None:
                    raise options.fail("Options= needs Device=")
                words.append(f"--opt=o={','.join(mount)}")
        self._oneshot([*words, *self._own_args(), self._template_name(name)])

    def _number(self, key: str) -> str:
        text = self._text(key)
        if text.isdigit() or text.startswith("%"):
            return text
        import grp
        import pwd

        try:
            return str(pwd.getpwnam(text).pw_uid if key == "User" else grp.getgrnam(text).gr_gid)
        except KeyError:
            value = self.source.last(self.section, key)
            assert value is not None
            raise value.fail(f"{key}={text}: there is no such {key.lower()}") from None

    def _template_name(self, name: str) -> str:
        return (
            "systemd-%p_%i" if self.stem.endswith("@") and name == f"systemd-{self.stem}" else name
        )

    def _network(self) -> None:
        name = self.all.resource(self.source.name)
        words = [*self._base(), "network", "create", "--ignore", *self._simple()]
        subnets, gateways, ranges = (
            self.source.all("Network", key) for key in ("Subnet", "Gateway", "IPRange")
        )
        for values, what in ((gateways, "gateways"), (ranges, "ranges")):
            if len(values) > len(subnets):
                raise values[-1].fail(f"more {what} than subnets")
        for at, subnet in enumerate(subnets):
            words.append(f"--subnet={subnet.text}")
            if at < len(gateways):
                words.append(f"--gateway={gateways[at].text}")
            if at < len(ranges):
                words.append(f"--ip-range={ranges[at].text}")
        self._oneshot([*words, *self._own_args(), self._template_name(name)])

    def _image(self) -> None:
        if not self._text("Image"):
            raise QuadletError(f"{self.source.path}: no Image= in [Image]")
        self._oneshot(
            [
                *self._base(),
                "image",
                "pull",
                *self._simple(),
                *self._own_args(),
                self._text("Image"),
            ]
        )


def word_of(text: str) -> str:
    """A word of a line, in which `%` and `$` keep the meaning that the file's author gave them."""
    from rootless.systemd.units import quote

    return quote(text, command=False, specifiers=True)


def line(words: Sequence[str]) -> str:
    return " ".join(word_of(word) for word in words)


def wait_unit(systemctl: str = "/bin/systemctl") -> str:
    """The service that others wait for: a user's manager knows nothing of the system's targets."""
    from rootless.systemd.units import fill, template

    return fill(template("wait-network-online.service.in"), {"SYSTEMCTL": systemctl})


def write(units: Sequence[Unit], folder: str) -> None:
    """Put units and their links into a generator's output folder."""
    os.makedirs(folder, exist_ok=True)
    texts = {unit.name: unit.text for unit in units}
    if any(WAIT_ONLINE in text for text in texts.values()):
        texts[WAIT_ONLINE] = wait_unit()
    for name, text in texts.items():
        with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    for unit in units:
        for place, target in unit.install:
            path = f"{folder}/{place}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not os.path.lexists(path):
                os.symlink(target, path)


def generate(
    folder: str, environ: Mapping[str, str], uid: int, config_home: str, runtime: str, program: str
) -> list[QuadletError]:
    """What systemd's generator does: all units that can be made are made; the errors are for the log."""
    sources, errors = find(folders(environ, uid, config_home, runtime))
    units, more = Generator(sources, program).run()
    if units:
        write(units, folder)
    return errors + more
