"""pasta: connect a network namespace to the host's network without privileges, see pasta(1).

`start` begins, `Pending.wait_ready` ends it: in between the caller has something better to do than wait. Differences
between versions are features found in `pasta --help`, once per binary, kept in the caller's cache folder.
"""

from __future__ import annotations

from rootless.errors import RootlessError, Usage
from slirp.host import uplink4, uplink6
from slirp.ports import refuse_sctp
from slirp.process import Pending, find_program, once, said_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from slirp.ports import PortMapping

# Podman's addresses: where the container finds the forwarded DNS, and the host.
DNS_FORWARD = "169.254.1.1"
MAP_GUEST = "169.254.1.2"

_MISSING_HINT = "install the package passt, or slirp4netns and use --network slirp4netns"
_PROBED = (
    "--map-guest-addr",
    "--map-host-loopback",
    "--no-map-gw",
    "--dns-forward",
    "--freebind",
)
# Options that would take the process or its namespaces out of our hands.
_OURS = {
    "-P",
    "--pid",
    "-f",
    "--foreground",
    "--netns",
    "--userns",
    "--netns-only",
    "-F",
    "--fd",
    "--no-netns-quit",
}


class Pasta:
    """A pasta binary and what it can do."""

    __slots__ = ("path", "program", "features")

    def __init__(self, path: str, program: str, features: frozenset[str]) -> None:
        self.path = path
        self.program = program  # what is executed: the variant for this processor
        self.features = features


def find(dirs: Sequence[str] = (), cache: str | None = None) -> Pasta | None:
    """The installed pasta, None where there is none."""
    path = find_program("pasta", dirs)
    if path is None:
        return None
    program, _, names = once(path, cache, lambda: _probe(path)).partition("\n")
    return Pasta(path, program, frozenset(names.split()))


def _probe(path: str) -> str:
    """The variant for this processor, and what `pasta --help` names."""
    text = said_by([path, "--help"])
    return f"{_variant(path)}\n{' '.join(option for option in _PROBED if option in text)}"


def _variant(path: str) -> str:
    """pasta replaces itself by its build for newer processors; starting that one at once saves an execve."""
    variant = f"{path}.avx2"
    if find_program(variant) is None:
        return path
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("flags"):
                    return variant if " avx2 " in f"{line.strip()} " else path
    except OSError:
        pass
    return path


def _is_old(pasta: Pasta) -> bool:
    """Before 2024_07, as Debian 12 has it."""
    return "--map-host-loopback" not in pasta.features


def cannot_forward(pasta: Pasta, mapping: PortMapping) -> bool:
    """Whether this pasta does not serve a published port as it should, for the reasons in relay.py."""
    if not _is_old(pasta):
        return False
    return mapping.protocol == "tcp" or mapping.host_port != mapping.container_port


class Settings:
    """What the user's words after `--network pasta:` ask for, with Podman's defaults filled in."""

    __slots__ = ("arguments", "dns_forward", "map_guest", "addresses", "only_family")

    def __init__(
        self,
        arguments: list[str],
        dns_forward: list[str],
        map_guest: list[str],
        addresses: list[str],
        family: int,
    ) -> None:
        self.arguments = arguments
        self.dns_forward = dns_forward
        self.map_guest = (
            map_guest  # where the container reaches the host; empty where this pasta cannot
        )
        self.addresses = addresses  # given by the user with -a
        self.only_family = family  # 4, 6 or 0 for both


# What pasta of 2024 falls back to on a host without routes; the one before has to be told.
OFFLINE = ("169.254.2.1", 16, "169.254.2.2")


def offline(pasta: Pasta) -> list[str]:
    """Arguments for a host without a way out; none where it has one, or where this pasta knows what to do."""
    if not _is_old(pasta) or uplink4() or uplink6():
        return []
    address, prefix, gateway = OFFLINE
    return [
        "-4", "-i", "lo", "-a", address, "-n", str(prefix), "-g", gateway, "-M", "9a:55:9a:55:9a:55",
    ]  # fmt: skip


def settings(
    pasta: Pasta, options: Sequence[str] = (), ports: Sequence[PortMapping] = ()
) -> Settings:
    """The arguments for pasta, everything but the namespaces: Podman's list in Podman's order."""
    given = ["--config-net"]
    if not options and (extra := offline(pasta)):
        given += [*extra, "-I", "eth0"]
    map_gateway = False
    for option in options:
        if option == "--map-gw":
            map_gateway = True  # Podman's word for leaving out --no-map-gw
        elif option:
            given.append(option)
    names = {word.partition("=")[0] for word in given}
    if bad := sorted(names & _OURS):
        raise Usage(f"pasta option {bad[0]} is the engine's own and cannot be given")
    dns_forward = _values(given, "--dns-forward")
    map_guest = _values(given, "--map-guest-addr")
    family = 4 if names & {"-4", "--ipv4-only"} else 6 if names & {"-6", "--ipv6-only"} else 0

    refuse_sctp(ports)
    arguments = given
    flags = {"tcp": "-t", "udp": "-u"}
    used = set()
    for mapping in ports:
        flag = flags[mapping.protocol]
        used.add(flag)
        address = f"{mapping.host_ip}/" if mapping.host_ip else ""
        last = mapping.count - 1
        arguments += [
            flag,
            f"{address}{mapping.host_port}-{mapping.host_port + last}:"
            f"{mapping.container_port}-{mapping.container_port + last}",
        ]
    if not dns_forward:
        dns_forward = [DNS_FORWARD]
        if family != 6:
            arguments += ["--dns-forward", DNS_FORWARD]
        else:
            dns_forward = []
    for flag, long in (
        ("-t", "--tcp-ports"),
        ("-u", "--udp-ports"),
        ("-T", "--tcp-ns"),
        ("-U", "--udp-ns"),
    ):
        if flag not in used and not names & {flag, long}:
            arguments += [flag, "none"]
    if not map_gateway and "--no-map-gw" not in names:
        arguments.append("--no-map-gw")
    if not names & {"-q", "--quiet", "-d", "--debug", "--trace"}:
        arguments.append("--quiet")
    if not map_guest and "--map-guest-addr" in pasta.features and family != 6:
        map_guest = [MAP_GUEST]
        arguments += ["--map-guest-addr", MAP_GUEST]
    return Settings(
        arguments,
        dns_forward,
        map_guest,
        _values(given, "-a") + _values(given, "--address"),
        family,
    )


def _values(words: Sequence[str], option: str) -> list[str]:
    found = []
    for index, word in enumerate(words):
        if word == option and index + 1 < len(words):
            found.append(words[index + 1])
        elif option.startswith("--") and word.startswith(f"{option}="):
            found.append(word[len(option) + 1 :])
    return found


def start(pasta: Pasta, arguments: Sequence[str], netns: int, userns: int) -> Pending:
    """Start pasta for two namespaces, given as descriptors; `userns` is the one that owns `netns`."""
    argv = [
        pasta.program,
        *arguments,
        "--foreground",
        "--no-netns-quit",
        "--pid",
        "/proc/self/fd/2",
    ]
    argv += ["--netns-only", "--netns", "/proc/self/fd/1"]
    return Pending("pasta", argv, netns, userns, _is_ready)


def _is_ready(pid: int, words: bytes) -> bool:
    """It writes its pid last of all, after whatever it had to remark."""
    return words == b"%d\n" % pid or words.endswith(b"\n%d\n" % pid)


def missing() -> RootlessError:
    return RootlessError("pasta is not installed", hint=_MISSING_HINT)
