"""Security and namespace options of `create` and `run`. Lean: on `run`'s path."""

from __future__ import annotations

import os

from rootless.container.options import UNSUPPORTED
from rootless.container.quantities import parse_uint
from rootless.container.sysctls import parse_sysctl
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from rootless.container.options import CreateOptions
    from rootless.container.read_options import Reader


def read(reader: Reader, o: CreateOptions) -> None:
    """Capabilities and `--security-opt`."""
    if o.cap_add or o.cap_drop:
        from rootless.runtime.capabilities import normalize

        o.cap_add, o.cap_drop = normalize(o.cap_add), normalize(o.cap_drop)
    if "ALL" in o.cap_add and "ALL" in o.cap_drop:
        raise Usage("adding all caps and removing all caps not allowed")
    for name in o.cap_add:
        if name in o.cap_drop:
            raise Usage(f'capability "{name}" cannot be dropped and added')
    for word in o.security_opt:
        name, equals, value = word.partition("=")
        if not equals:
            # Docker's older spelling, which Podman takes for this one only.
            name, equals, value = word.partition(":")
        if name == "no-new-privileges" and (not equals or value in ("true", "false")):
            o.no_new_privileges = value != "false"
        elif not equals:
            raise Usage(f'invalid --security-opt 1: "{word}"')
        elif name == "seccomp":
            o.seccomp = _seccomp(reader, value)
        elif name == "apparmor":
            o.apparmor = value
        elif name == "label":
            if value not in ("disable", "nested") and value.partition(":")[0] not in (
                "user",
                "role",
                "type",
                "level",
                "filetype",
            ):
                raise Usage(f'invalid --security-opt 2: "{word}"')
            o.label_options.append(value)
        elif name == "mask":
            o.mask += [_masked(word, path) for path in value.split(":")]
        elif name == "unmask":
            o.unmask += ["ALL" if path.upper() == "ALL" else path for path in value.split(":")]
        elif name == "systempaths":
            if value != "unconfined":
                raise Usage(f'invalid systempaths option "{value}", only `unconfined` is supported')
            o.unmask.append("ALL")
        elif name == "proc-opts":
            o.proc_options = value.split(",")
        else:
            raise Usage(f'invalid --security-opt 2: "{word}"')
    if o.seccomp_policy not in ("", "default", "image"):
        raise Usage(
            f'invalid seccomp policy "{o.seccomp_policy}": valid policies are ["default" "image"]'
        )


def _seccomp(reader: Reader, value: str) -> str:
    if value == "unconfined":
        return value
    path = os.path.join(reader.cwd(), value)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise Usage(
            f"opening seccomp profile failed: open {value}: {(error.strerror or '').lower()}"
        ) from None
    return path


def read_namespaces(reader: Reader, o: CreateOptions) -> None:
    """Namespace modes, id maps, host name and sysctls."""
    o.pid = namespace(o.pid)
    o.ipc = namespace(o.ipc, also=("none", "shareable"))
    o.uts = namespace(o.uts)
    o.cgroupns = namespace(o.cgroupns)
    if o.userns and (o.uidmap or o.gidmap or o.subuidname or o.subgidname):
        raise Usage(
            "--userns and --uidmap/--gidmap/--subuidname/--subgidname are mutually exclusive"
        )
    o.userns = _userns(o.userns)
    for name, words in (("UID", o.uidmap), ("GID", o.gidmap)):
        for word in words:
            _check_idmap(name, word, words)
    if o.uts == "host" and o.hostname:
        raise Usage(
            "invalid config provided: cannot set hostname when running in the host UTS namespace: "
            "invalid configuration"
        )
    if o.hostname and (
        len(o.hostname.encode()) > 64 or any(c.isspace() or ord(c) < 32 for c in o.hostname)
    ):
        # Podman creates the container, and the kernel refuses at its start.
        raise Usage(f'invalid hostname "{o.hostname}": at most 64 bytes without white space')
    for word in reader.words("sysctl"):
        name, value = parse_sysctl(word)
        o.sysctl[name] = value


_MODES = ("host", "private")


def namespace(text: str, *, also: tuple[str, ...] = ()) -> str:
    """Check a namespace mode: host, private, container:NAME, ns:PATH, and what else this one has."""
    if text in ("", "default"):
        return ""
    kind, colon, value = text.partition(":")
    if not colon and text in (*_MODES, *also):
        return text
    if not colon and kind == "pod":
        raise Usage(f"cannot join the namespaces of a pod: {UNSUPPORTED['pod']}")
    if kind in ("container", "ns") and colon:
        if not value:
            raise Usage(f"invalid config provided: namespace mode {kind} requires a value")
        return text
    raise Usage(f"unrecognized namespace mode {text} passed")


def _userns(text: str) -> str:
    """Check `--userns`: host, nomap, keep-id[:…], auto[:…], private, container:NAME, ns:PATH."""
    kind, colon, rest = text.partition(":")
    if kind == "keep-id" and colon:
        for word in rest.split(","):
            name, _, value = word.partition("=")
            if name not in ("uid", "gid", "size"):
                raise Usage(f'unknown option specified: "{name}"')
            parse_uint(value)
        return text
    if kind == "auto" and colon:
        for word in rest.split(","):
            name, _, value = word.partition("=")
            if name == "size":
                parse_uint(value)
            elif name not in ("uidmapping", "gidmapping"):
                raise Usage(f'unknown option specified: "{name}"')
        return text
    return namespace(text, also=("keep-id", "nomap", "auto"))


def keep_id(userns: str) -> dict[str, int]:
    """The uid, gid and size that `--userns keep-id:…` names."""
    found = {}
    for word in userns.partition(":")[2].split(","):
        name, _, value = word.partition("=")
        if name:
            found[name] = int(value)
    return found


def _masked(word: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise Usage(f'invalid --security-opt 2: "{word}"')
    return os.path.normpath(path)


def _check_idmap(name: str, word: str, words: Iterable[str]) -> None:
    parts = word.split(":")
    first = parts[0].lstrip("+ug")
    numbers = (first, *(part.removeprefix("@") for part in parts[1:]))
    if not 2 <= len(parts) <= 3 or any(
        not number.isascii() or not number.isdigit() or int(number) > 0xFFFFFFFF
        for number in numbers
    ):
        listed = " ".join(f'"{w}"' for w in words)
        raise Usage(
            f"initializing ID mappings: {name} setting is malformed expected "
            f'["[+ug]uint32:[@]uint32[:uint32]"] : [{listed}]'
        )
