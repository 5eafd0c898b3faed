"""Quadlet: files under the usual folders become services whose commands are this engine's; podman-systemd.unit(5).

A mistake is an error of its file, with its line; the other files become units all the same. `%` and `$` in values are
systemd's, as Podman has it: the files are written for it.
"""

from __future__ import annotations

import os

from rootless.systemd.quadlet_file import QuadletError, Source, Value, drop_in_folders, load
from rootless.systemd.quadlet_keys import KINDS
from rootless.systemd.quadlet_kinds import Builder
from rootless.systemd.quadlet_units import WAIT_ONLINE, Unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Where systemd looks for a user manager's generators, the first of a name first; no folder of the user's own is among them.
_GENERATORS = tuple(
    f"{folder}/systemd/user-generators" for folder in ("/run", "/etc", "/usr/local/lib", "/usr/lib")
)
_SHARED = "/etc/containers/systemd/users"


def folders(environ: Mapping[str, str], uid: int, config_home: str, runtime: str) -> list[str]:
    """Where files are looked for, those first that win."""
    given = environ.get("QUADLET_UNIT_DIRS")
    if given:
        return [one for one in given.split(":") if one]
    found = [f"{runtime}/rootless/systemd", f"{config_home}/rootless/systemd"]
    # Where Podman's own generator runs as well, the files in the folders of both are its.
    if not has_generator("podman-user-generator"):
        found += [
            f"{runtime}/containers/systemd",
            f"{config_home}/containers/systemd",
            f"{_SHARED}/{uid}",
            _SHARED,
        ]
    return found


def has_generator(name: str, places: Sequence[str] = _GENERATORS) -> bool:
    """Whether systemd would run it: the first of that name, unless it masks the others as a link to /dev/null."""
    for place in places:
        path = f"{place}/{name}"
        if os.path.lexists(path):
            return os.path.isfile(path) and os.access(path, os.X_OK)
    return False


def find(places: Sequence[str]) -> tuple[list[Source], list[QuadletError]]:
    """The files of all folders and those below, one of each name; what cannot be read is told apart."""
    paths: dict[str, str] = {}
    every: list[str] = []
    errors: list[QuadletError] = []
    for place in places:
        if not place.startswith("/"):
            errors.append(QuadletError(f"{place} not a valid file path: it must be absolute"))
            continue
        for folder in _below(os.path.realpath(place), every, place == _SHARED):
            for name in sorted(os.listdir(folder)):
                if name.rpartition(".")[2] in KINDS and not name.startswith("."):
                    paths.setdefault(name, f"{folder}/{name}")
    sources = []
    for name, path in sorted(paths.items()):
        try:
            sources.append(load(path, drop_in_folders(every, name)))
        except QuadletError as error:
            errors.append(error)
    return sources, errors


def _below(folder: str, seen: list[str], shared: bool) -> list[str]:
    """A folder that has not been seen and those below it, links followed; others' own ones are theirs."""
    if folder in seen or not os.access(folder, os.R_OK | os.X_OK) or len(seen) > 1000:
        return []
    seen.append(folder)
    found = [folder]
    for name in sorted(os.listdir(folder)):
        path = f"{folder}/{name}"
        if name.endswith(".d") or (shared and name.isdigit()) or not os.path.isdir(path):
            continue
        found += _below(os.path.realpath(path), seen, False)
    return found


class Generator:
    """All files together: they name each other."""

    __slots__ = ("sources", "program", "pods", "warnings")

    def __init__(self, sources: Sequence[Source], program: str) -> None:
        self.sources = {source.name: source for source in sources}
        self.program = program
        self.pods: dict[str, list[str]] = {}  # .pod file → services that it starts
        self.warnings: list[str] = []

    def run(self) -> tuple[list[Unit], list[QuadletError]]:
        units: list[Unit] = []
        errors: list[QuadletError] = []
        names: dict[str, Source] = {}
        order = list(KINDS)
        for name in sorted(
            self.sources, key=lambda name: (order.index(name.rpartition(".")[2]), name)
        ):
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

    def service(
        self, name: str, *, asked_by: Source | None = None, value: Value | None = None
    ) -> str:
        """The service that a file becomes. A template's for another template is that of the same instance."""
        source = self.sources[name]
        stem, _, kind = name.rpartition(".")
        section, _, suffix = KINDS[kind]
        given = source.last(section, "ServiceName")
        if given is not None:
            stem = given.text
        else:
            before, at, instance = stem.partition("@")
            stem = f"{before}{suffix}{at}{instance}"
        if asked_by is not None and stem.endswith("@"):
            if not asked_by.name.rpartition(".")[0].endswith("@"):
                text = f"{name} is a template, which only another template can name"
                raise value.fail(text) if value is not None else QuadletError(text)
            stem += "%i"
        return f"{stem}.service"

    def given_name(self, source: Source) -> str:
        """What the volume, network, pod or container of a file is called in its own service."""
        stem, _, kind = source.name.rpartition(".")
        key = {"volume": "VolumeName", "network": "NetworkName", "pod": "PodName"}.get(
            kind, "ContainerName"
        )
        given = source.last(KINDS[kind][0], key)
        if given is not None:
            return given.text
        if "@" in stem:
            return "systemd-%p_%i"
        return "systemd-%N" if kind == "container" else f"systemd-{stem}"

    def resource(self, name: str, asked_by: Source, value: Value) -> str:
        """The name of the volume, network, image, pod or container that a file stands for, as another one says it."""
        source = self.sources[name]
        kind = name.rpartition(".")[2]
        if kind in ("image", "build"):
            section = KINDS[kind][0]
            tags = source.all(section, "ImageTag")
            tag = (tags[0] if tags else None) or source.last(section, "Image")
            if tag is None:
                raise QuadletError(f"{source.path}: no Image key specified")
            return tag.text
        unit = self.service(name, asked_by=asked_by, value=value).removesuffix(".service")
        before, _, instance = unit.partition("@")
        known = {"%n": f"{unit}.service", "%N": unit, "%p": before, "%i": instance}
        text, out = self.given_name(source), ""
        while text:
            word, text = (text[:2], text[2:]) if text[0] == "%" else (text[0], text[1:])
            if word[0] == "%" and word != "%%" and word not in known:
                raise value.fail(
                    f"cannot get the resource name of {name}: {word} in it is known to its own service only"
                )
            out += known.get(word, word)
        return out


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
