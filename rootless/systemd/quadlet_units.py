"""One quadlet file becomes one service: what Podman 5.4's generator writes, with this engine's command in it.

Sections, comments and the order of lines stay; the file's own section is kept as [X-…]. Where Podman's unit could not
work ours differs: see tests/unit/systemd/test_quadlet_podman.py, which compares all of them.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from rootless.errors import RootlessError
from rootless.systemd.quadlet_file import Group, QuadletError, Value
from rootless.systemd.quadlet_keys import (
    EACH,
    FLAG,
    KINDS,
    LAST,
    ON,
    PAIRS,
    QUADLET,
    RAW,
    WORDS,
)
from rootless.systemd.units import check_unit_name, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.systemd.quadlet import Generator
    from rootless.systemd.quadlet_file import Source

WAIT_ONLINE = "rootless-user-wait-network-online.service"
MARK = "# made by rootless quadlet; changes belong into the source"
_MOUNT_TYPES = ("volume", "bind", "glob", "image")


class Unit:
    """A service made of a file."""

    __slots__ = ("name", "lines", "source", "install", "commands")

    def __init__(
        self,
        name: str,
        lines: list[str],
        source: Source,
        install: list[tuple[str, str]],
        commands: list[list[str]],
    ) -> None:
        self.name = name
        self.lines = lines
        self.source = source
        self.install = install  # (link below the output folder, what it points to)
        self.commands = commands  # the words of each command line

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def word_of(text: str) -> str:
    """A word of a line, in which `%` and `$` keep the meaning that the file's author gave them."""
    return quote(text, command=False, specifiers=True)


def line(words: Sequence[str]) -> str:
    """Words as one line of a unit, quoted where systemd.syntax(7) asks for it."""
    return " ".join(word_of(word) for word in words)


class Draft(ABC):
    """A service being made of a file: its lines, and the words of its commands."""

    __slots__ = ("all", "source", "kind", "section", "keys", "stem", "out", "commands")

    def __init__(self, generator: Generator, source: Source) -> None:
        self.all = generator
        self.source = source
        self.stem, _, self.kind = source.name.rpartition(".")
        self.section, self.keys, _ = KINDS[self.kind]
        self.commands: list[list[str]] = []
        self.out: dict[str, Group] = {}
        for name, group in source.groups.items():
            copy = Group()
            copy.heads, copy.lines = list(group.heads), list(group.lines)
            self.out[f"X-{name}" if name in (self.section, "Quadlet") else name] = copy

    def build(self) -> Unit:
        source = self.source
        for section, known in ((self.section, self.keys), ("Quadlet", QUADLET)):
            for key, value in source.keys(section):
                if key not in known:
                    raise value.fail(f"unsupported key '{key}' in group '{section}'")
        name = self.all.service(source.name)
        try:
            check_unit_name(name)
        except RootlessError as error:
            raise QuadletError(f"{source.path}: {error.message}") from None
        if source.flag("Quadlet", "DefaultDependencies") is not False:
            value = Value(WAIT_ONLINE, "")
            self._group("Unit").lines[:0] = [("Wants", value), ("After", value)]
        self._add("Unit", "SourcePath", source.path)
        self.make()
        return Unit(name, self._lines(), source, self._links(name), self.commands)

    @abstractmethod
    def make(self) -> None:
        """Add what the kind of file asks for."""

    # the unit

    def _group(self, name: str) -> Group:
        return self.out.setdefault(name, Group())

    def _add(self, section: str, key: str, text: str) -> None:
        self._group(section).lines.append((key, Value(text, "")))

    def _set(self, key: str, text: str) -> None:
        """Set a key of [Service], whatever the file says."""
        lines = self._group("Service").lines
        places = [at for at, (name, _) in enumerate(lines) if name == key]
        if places:
            lines[places[-1]] = (key, Value(text, ""))
        else:
            self._add("Service", key, text)

    def _default(self, key: str, text: str) -> None:
        if self.source.last("Service", key) is None:
            self._set(key, text)

    def _command(self, key: str, words: list[str], prefix: str = "") -> None:
        self.commands.append(words)
        self._add("Service", key, prefix + line(words))

    def _lines(self) -> list[str]:
        lines = [MARK]
        for name, group in self.out.items():
            lines += ["", *group.heads, f"[{name}]"]
            lines += [f"{key}={value.text}" if key else value.text for key, value in group.lines]
        return lines

    def _links(self, name: str) -> list[tuple[str, str]]:
        """What `systemctl enable` would make: the generator has to, since generated units cannot be enabled."""
        links: list[tuple[str, str]] = []
        target = name
        before, at, instance = name.removesuffix(".service").partition("@")
        if at and not instance:
            default = self.source.last("Install", "DefaultInstance")
            target = f"{before}@{default.text}.service" if default is not None else ""
        for alias, value in self.source.words("Install", "Alias", escapes=False):
            if "/" in alias or not alias.endswith(".service"):
                raise value.fail(f"Alias={alias}: not the name of a service")
            links.append((alias, name))
        for key, suffix in (
            ("WantedBy", "wants"),
            ("RequiredBy", "requires"),
            ("UpheldBy", "upholds"),
        ):
            for other, value in self.source.words("Install", key, escapes=False):
                if "/" in other or "." not in other:
                    raise value.fail(f"{key}={other}: not the name of a unit")
                if target:
                    links.append((f"{other}.{suffix}/{target}", f"../{name}"))
        return links

    # words of commands

    def _base(self) -> list[str]:
        words = [self.all.program]
        words += [
            f"--module={value.text}"
            for value in self.source.all(self.section, "ContainersConfModule")
        ]
        return words + [word for word, _ in self.source.words(self.section, "GlobalArgs")]

    def _options(self) -> list[str]:
        """The options of all keys, in the order of the table."""
        words: list[str] = []
        for key, (kind, option) in self.keys.items():
            flag, _, prefix = option.partition(" ")
            values: list[str] = []
            if kind == LAST:
                value = self.source.last(self.section, key)
                values = [value.text] if value is not None else []
            elif kind == EACH:
                values = [value.text for value in self.source.all(self.section, key)]
            elif kind in (WORDS, RAW):
                found = self.source.words(self.section, key, escapes=kind == WORDS)
                values = [word for word, _ in found]
            elif kind == PAIRS:
                values = [f"{name}={text}" for name, text in self._pairs(key).items()]
            elif kind in (FLAG, ON):
                on = self.source.flag(self.section, key)
                if on and prefix:
                    words += [f"--{flag}", prefix]
                elif on:
                    words.append(f"--{flag}")
                elif on is False and kind == FLAG:
                    words.append(f"--{flag}=false")
            else:
                words += self._own(key, option)
            for text in values:
                words += [f"--{flag}", prefix + text]
        return words

    def _own(self, key: str, option: str) -> list[str]:
        """What stands in the place of a key that is not simply an option."""
        if key == "Network":
            return self._networks()
        if key == "Volume":
            return self._volumes()
        if key == "Mount":
            return self._mounts()
        if key == "RemapUsers":
            return self._remap()
        if key == "PodmanArgs":
            return [word for word, _ in self.source.words(self.section, key)]
        if key in ("EnvironmentFile", "ConfigMap"):
            flag = "--env-file" if key == "EnvironmentFile" else "--configmap"
            found = self.source.words(self.section, key, escapes=key == "EnvironmentFile")
            return [text for word, _ in found for text in (flag, self._path(word))]
        if self.kind == "container":
            return self._own_of_container(key, option)
        value = self.source.last(self.section, key)
        if key == "Subnet":
            return self._subnets()
        if key == "AutoUpdate":
            words = []
            for word, _ in self.source.words(self.section, key, escapes=False):
                where, slash, policy = word.rpartition("/")
                words.append(f"--annotation=io.containers.autoupdate{slash}{where}={policy}")
            return words
        if key == "ExitCodePropagation" and value is not None:
            return [f"--service-exit-code-propagation={value.text}"]
        if key == "Pull" and value is not None:
            return [f"--pull={value.text}"]
        if key == "PodName":
            name = self._name()
            return ["--infra-name", f"{name}-infra", "--name", name]
        return []

    def _own_of_container(self, key: str, option: str) -> list[str]:
        value = self.source.last(self.section, key)
        words: list[str] = []
        if key == "CgroupsMode":
            words = ["--cgroups=split"] if value is None else ["--cgroups", value.text]
        elif key == "Notify":
            words = self._notify()
        elif key == "AddDevice":
            for word, _ in self.source.words(self.section, key, escapes=False):
                if word.startswith("-"):
                    word = word[1:]
                    if not os.path.exists(word.partition(":")[0]):
                        continue
                words += ["--device", word]
        elif option:  # capabilities
            for word, _ in self.source.words(self.section, key, escapes=False):
                words += [f"--{option}", word.lower()]
        elif key == "VolatileTmp":
            if self.source.flag(self.section, key) and not self.source.flag(
                self.section, "ReadOnly"
            ):
                words = ["--tmpfs", "/tmp:rw,size=512M,mode=1777"]
        elif key == "User":
            group = self.source.last(self.section, "Group")
            if value is not None:
                text = f"{value.text}:{group.text}" if group is not None else value.text
                words = ["--user", text]
            elif group is not None:
                raise group.fail("invalid Group set without User")
        elif key == "ExposeHostPort":
            for one in self.source.all(self.section, key):
                ports = one.text.removesuffix("/udp").removesuffix("/tcp")
                if not all(part.isdecimal() for part in ports.split("-", 1)):
                    raise one.fail(f"invalid port format '{one.text}'")
                words += ["--expose", one.text]
        elif key == "Pod" and value is not None:
            words = self._in_pod(value)
        return words

    def _pairs(self, key: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for word, value in self.source.words(self.section, key):
            name, equals, text = word.partition("=")
            if not equals:
                raise value.fail(f"{key}={word}: not NAME=VALUE")
            found[name] = text
        return found

    def _text(self, key: str) -> str:
        value = self.source.last(self.section, key)
        return value.text if value is not None else ""

    def _name(self) -> str:
        """What the file stands for is called; specifiers are for systemd to fill in."""
        return self.all.given_name(self.source)

    def _known(self, value: Value, name: str, what: str) -> str:
        """The name of what another file stands for, after which this one has to come."""
        if name not in self.all.sources:
            raise value.fail(
                f"requested Quadlet {what} {name} was not found: there is no such file"
            )
        service = self.all.service(name, asked_by=self.source, value=value)
        self._add("Unit", "Requires", service)
        self._add("Unit", "After", service)
        return self.all.resource(name, self.source, value)

    def _path(self, path: str) -> str:
        """A path relative to the file; one that begins with a specifier is systemd's matter."""
        if path.startswith("/") or (path.startswith("%") and not path.startswith("%%")):
            return path
        return os.path.normpath(
            os.path.join(os.path.dirname(os.path.abspath(self.source.path)), path)
        )

    def _networks(self) -> list[str]:
        words = []
        for value in self.source.all(self.section, "Network"):
            name, colon, options = value.text.partition(":")
            if name.endswith(".network"):
                name = self._known(value, name, "unit")
            elif name.endswith(".container"):
                if colon:
                    raise value.fail(
                        "extra options are not supported when joining another container's network"
                    )
                name, colon, options = "container", ":", self._known(value, name, "unit")
            words += ["--network", f"{name}{colon}{options}"]
        return words

    def _volumes(self) -> list[str]:
        words = []
        for value in self.source.all(self.section, "Volume"):
            first, colon, rest = value.text.partition(":")
            if colon and first:
                first = self._source(value, first, images=False)
            words += ["-v", f"{first}{colon}{rest}" if first else rest]
        return words

    def _source(self, value: Value, text: str, *, images: bool) -> str:
        """A mount's source: a .volume or .image file, a path that has to be there first, or a volume's name."""
        if text.startswith("."):
            text = self._path(text)
        if text.startswith("/"):
            self._add("Unit", "RequiresMountsFor", word_of(text))
        elif text.endswith(".volume") or (images and text.endswith(".image")):
            return self._known(value, text, "source")
        return text

    def _mounts(self) -> list[str]:
        words = []
        for text, value in self.source.words(self.section, "Mount"):
            words += ["--mount", self._mount(text, value)]
        return words

    def _mount(self, text: str, value: Value) -> str:
        import csv
        import io

        parts = next(csv.reader([text]))
        at = next((at for at, part in enumerate(parts) if part.startswith("type=")), None)
        if at is None:
            raise value.fail(
                f"Mount={text}: incorrect mount format: should be type=TYPE,[source=SOURCE,]target=PATH[,OPTION...]"
            )
        kind = parts.pop(at).partition("=")[2]
        if kind not in _MOUNT_TYPES:
            return text
        place = -1
        for number, part in enumerate(parts):
            key, equals, source = part.partition("=")
            if key in ("source", "src"):
                if not equals or not source:
                    raise value.fail(f"Mount={text}: source parameter does not include a value")
                place = number
        if place >= 0:
            source = parts[place].partition("=")[2]
            parts[place] = f"source={self._source(value, source, images=True)}"
        elif kind != "volume":  # one without a name is made for the container alone
            raise value.fail(f"Mount={text}: type={kind} needs a source")
        file = io.StringIO()
        csv.writer(file, lineterminator="").writerow([f"type={kind}", *parts])
        return file.getvalue()

    def _remap(self) -> list[str]:
        """The keys that were before UserNS=, UIDMap= and GIDMap=."""
        maps = {
            key: [word for word, _ in self.source.words(self.section, key, escapes=False)]
            for key in ("RemapUid", "RemapGid")
        }
        uids, gids = maps["RemapUid"], maps["RemapGid"]
        mode = self.source.last(self.section, "RemapUsers")
        said = next((value for key, value in self.source.keys(self.section) if key in maps), mode)
        explicit = ("UserNS", "UIDMap", "GIDMap", "SubUIDMap", "SubGIDMap")
        if any(self._text(key) for key in explicit):
            if said is not None:
                raise said.fail("deprecated Remap keys are set along with explicit mapping keys")
            return []
        if mode is None:
            for name, found in (("Uid", uids), ("Gid", gids)):
                if found and said is not None:
                    raise said.fail(f"{name}Map set without RemapUsers")
            return []
        if mode.text == "manual" and self.kind != "kube":
            words = [word for one in uids for word in ("--uidmap", one)]
            return words + [word for one in gids for word in ("--gidmap", one)]
        if mode.text == "manual":
            raise mode.fail("RemapUsers=manual is not supported")
        if mode.text == "auto":
            parts = [f"uidmapping={one}" for one in uids] + [f"gidmapping={one}" for one in gids]
            size = self._text("RemapUidSize")
            parts += [f"size={size}"] if size and size != "0" else []
        elif mode.text == "keep-id":
            for name, found in (("UID", uids), ("GID", gids)):
                if len(found) > 1:
                    raise mode.fail(
                        f"RemapUsers=keep-id supports only a single value for {name} mapping"
                    )
            parts = [f"uid={one}" for one in uids] + [f"gid={one}" for one in gids]
        else:
            raise mode.fail(f"unsupported RemapUsers option '{mode.text}'")
        return ["--userns", mode.text + (":" if parts else "") + ",".join(parts)]

    def _notify(self) -> list[str]:
        kind = self.source.last("Service", "Type")
        if kind is not None and kind.text == "oneshot":
            return []  # attached: the unit is done when the container is
        if self._text("Notify").lower() == "healthy":
            mode = "healthy"
        else:
            mode = "container" if self.source.flag("Container", "Notify") else "conmon"
        return [f"--sdnotify={mode}", "-d"]

    def _in_pod(self, value: Value) -> list[str]:
        if not value.text.endswith(".pod"):
            raise value.fail(f"pod {value.text} is not Quadlet based")
        if value.text not in self.all.sources:
            raise value.fail(f"quadlet pod unit {value.text} does not exist")
        service = self.all.service(value.text, asked_by=self.source, value=value)
        self._add("Unit", "BindsTo", service)
        self._add("Unit", "After", service)
        if self.source.flag(self.section, "StartWithPod") is not False:
            own = self.all.service(self.source.name)
            if "@%i" in service:  # both are templates
                own = own.replace("@.service", "@%i.service")
            if "@.service" not in own:  # a pod knows no instance of a template
                self.all.pods.setdefault(value.text, []).append(own)
        return ["--pod-id-file", f"%t/{service.removesuffix('.service')}.pod-id"]

    def _subnets(self) -> list[str]:
        subnets, gateways, ranges = (
            self.source.all("Network", key) for key in ("Subnet", "Gateway", "IPRange")
        )
        words = []
        for values, what in ((gateways, "gateways"), (ranges, "ranges")):
            if values and not subnets:
                raise values[-1].fail("cannot set gateway or range without subnet")
            if len(values) > len(subnets):
                raise values[-1].fail(f"cannot set more {what} than subnets")
        for at, subnet in enumerate(subnets):
            words += ["--subnet", subnet.text]
            if at < len(gateways):
                words += ["--gateway", gateways[at].text]
            if at < len(ranges):
                words += ["--ip-range", ranges[at].text]
        return words
