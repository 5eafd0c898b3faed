"""Environment variables of a container: how `-e`, `--env-file` and labels are read, and how all of them combine.

The host's environment is looked up for what the command line names and for nothing else: an image's entry without `=`
is dropped, whatever it is called (security case 18). Lean: on `run`'s path.
"""

from __future__ import annotations

import os

from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# `container=` is how a program learns that it runs in one (systemd's CONTAINER_INTERFACE). Scripts and systemd know the
# word "podman"; a word of our own would be "container-other" to them.
CONTAINER = "podman"

#: What `--http-proxy` takes over from the host.
PROXY = (
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
)


#: What a service manager has told the engine, and nobody below it.
OURS = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def parse_variables(words: Iterable[str], host: Mapping[str, str]) -> dict[str, str]:
    """Read `NAME=VALUE`, `NAME` (the host's value, where it has one) and `PREFIX*` (all such of the host's)."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            if not name:
                raise Usage(f'invalid variable: "{word}"')
            found[name] = value
        elif name.endswith("*"):
            prefix = name[:-1]
            found.update((key, text) for key, text in host.items() if key.startswith(prefix))
        elif name in host:
            found[name] = host[name]
    return found


def _lines(path: str) -> list[str]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = file.read()
    except OSError as error:
        raise Usage(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return [line.removesuffix("\r").lstrip() for line in lines]


def read_env_file(path: str, host: Mapping[str, str]) -> dict[str, str]:
    """Read an `--env-file`: a variable a line, as for `-e`; `#` begins a comment; quotes are part of the value."""
    try:
        words = [line for line in _lines(path) if line and not line.startswith("#")]
        return parse_variables(words, host)
    except Usage as error:
        raise Usage(f'parsing file "{path}": {error.message}') from error


def parse_labels(files: Iterable[str], words: Iterable[str]) -> dict[str, str]:
    """Read `--label-file` and `--label`; a label without `=` has an empty value."""
    labels: dict[str, str] = {}
    try:
        for path in files:
            for line in _lines(path):
                if not line or line.startswith("#"):
                    continue
                name, _, value = line.partition("=")
                if any(c in name for c in " \t"):
                    raise Usage(f'name "{name}" has white spaces, poorly formatted name')
                if not name:
                    raise Usage(f'invalid label format: "{line}"')
                labels[name] = value
        for word in words:
            name, _, value = word.partition("=")
            if not name:
                raise Usage(f'invalid label format: "{word}"')
            labels[name] = value
    except Usage as error:
        raise Usage(f"unable to process labels: {error.message}") from error
    return labels


def image_variables(entries: Iterable[str] | None) -> dict[str, str]:
    """An image's `Env`; what is not NAME=VALUE is dropped and never looked up on the host (security case 18)."""
    found: dict[str, str] = {}
    for entry in entries or ():
        name, equals, value = entry.partition("=")
        if equals and name and "\0" not in entry:
            found[name] = value
    return found


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$NAME` and `${NAME}` by `values`; unknown names by nothing (--env-merge)."""
    out = []
    rest = text
    while True:
        before, dollar, rest = rest.partition("$")
        out.append(before)
        if not dollar:
            return "".join(out)
        if rest.startswith("{") and "}" in rest:
            name, _, rest = rest[1:].partition("}")
        else:
            end = 0
            while end < len(rest) and (
                rest[end] == "_" or (rest[end].isascii() and rest[end].isalnum())
            ):
                end += 1
            name, rest = rest[:end], rest[end:]
            if not name:
                out.append("$")
                continue
        out.append(values.get(name, ""))


def combine(
    *,
    image: Mapping[str, str],
    host: Mapping[str, str],
    given: Mapping[str, str],
    merge: Mapping[str, str],
    unset: Iterable[str],
    unset_all: bool,
    env_host: bool,
    http_proxy: bool,
    terminal: bool,
    default: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The container's variables, weakest first: the engine's own and containers.conf's, the image's, the host's where asked for, the user's.

    HOME and HOSTNAME are not among them: they depend on what is known later.
    """
    variables: dict[str, str] = {"PATH": DEFAULT_PATH}
    if terminal:
        variables["TERM"] = "xterm"
    variables["container"] = CONTAINER
    variables.update(default or {})
    variables.update(image)
    if unset_all:
        variables.clear()
    for name in unset:
        variables.pop(name, None)
    if env_host:
        variables.update((name, value) for name, value in host.items() if name not in OURS)
    elif http_proxy:
        variables.update((name, host[name]) for name in PROXY if name in host)
    for name, value in merge.items():
        variables[name] = expand(value, {**variables, **image})
    variables.update(given)
    return variables
