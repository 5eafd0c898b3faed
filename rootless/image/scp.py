"""Images from one host or user to another: what `save` writes there is what `load` reads here, through ssh's pipe.

    IMAGE HOST::            to a host          HOST::IMAGE             from a host
    HOST::IMAGE OTHER::     between hosts      A@localhost::IMAGE B@localhost::   between users, as root

HOST is what ssh(1) knows: an alias of its configuration, host, user@host, or user@host:port. Nothing is run on the host
but its own rootless, podman or docker.
"""

from __future__ import annotations

import shlex

from rootless.errors import RootlessError, Usage

_LOCAL = "localhost"
# Whichever engine the other side has. In a login shell, since its PATH may have more (~/.local/bin).
_ENGINE = (
    'for p in rootless podman docker; do command -v "$p" >/dev/null 2>&1 && exec "$p" "$@"; done; '
    'echo "neither rootless, podman nor docker is there" >&2; exit 127'
)


class Place:
    """One side: `host` is empty for this user's own store, `user` is set for another one of this machine."""

    __slots__ = ("host", "image", "port", "text", "user")

    def __init__(
        self, text: str, image: str, host: str = "", port: str = "", user: str = ""
    ) -> None:
        self.text = text
        self.image = image
        self.host = host
        self.port = port
        self.user = user

    @property
    def is_here(self) -> bool:
        return not self.host and not self.user

    def command(self, *words: str) -> list[str]:
        """The program that runs these words of the engine there."""
        script = shlex.join(["sh", "-c", _ENGINE, "engine", *words])
        if self.user:
            return ["su", "-l", self.user, "-s", "/bin/sh", "-c", script]
        port = ["-p", self.port] if self.port else []
        return ["ssh", *port, "--", self.host, script]


def parse(text: str) -> Place:
    """One argument; a word without `::` is an image here."""
    if "::" not in text:
        return Place(text, text)
    where, _, image = text.partition("::")
    if not where or where.startswith("-") or any(c.isspace() for c in where):
        raise Usage(f"{text}: no host before the colons")
    user, at, host = where.rpartition("@")
    name, colon, port = host.partition(":")
    if colon and not port.isdigit():
        raise Usage(f"{text}: {port!r} is no port")
    if at and name == _LOCAL and not colon:
        return Place(text, image, user=user)
    return Place(text, image, f"{user}{at}{name}", port)


def plan(words: list[str], uid: int, name: str) -> tuple[Place, Place]:
    """Source and destination of the arguments; `uid` and `name` are the caller's."""
    if len(words) > 2:
        raise Usage("cannot specify more than two arguments")
    source = parse(words[0])
    if len(words) == 1:
        if source.is_here:
            raise Usage("must specify a destination", hint="as in HOST:: or user@host::")
        destination = Place("", "")
    else:
        destination = parse(words[1])
        if not destination.is_here and destination.image and not source.image:
            source, destination = destination, source  # `HOST:: OTHER::IMAGE`, as Podman takes it
    if not source.image:
        raise Usage("no source image specified")
    for place in (source, destination):
        if place.user and place.user == name:
            place.user = ""
        elif place.user and uid != 0:
            raise RootlessError(
                f"{place.text}: only root can reach other users' images",
                hint=f"sudo rootless image scp {shlex.join(words)}",
            )
    if source.is_here and destination.is_here:
        raise Usage("cannot copy an image from here to here", hint="`rootless tag` names it")
    if destination.image:
        raise Usage("cannot specify an image rename")
    return source, destination
