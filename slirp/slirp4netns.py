"""slirp4netns: the older helper, for hosts without pasta and for users who ask for it. See slirp4netns(1).

The same two steps as pasta: `start`, then `Pending.wait_ready`, which also opens the published ports through the
helper's API socket.
"""

from __future__ import annotations

import _socket
import os

from rootless import quickjson as json
from rootless.errors import RootlessError, Usage
from slirp.ports import normal_address, refuse_sctp, refused
from slirp.process import Pending, find_program
from slirp.sysctl import no_address_detection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from slirp.ports import PortMapping

_MISSING_HINT = "install the package slirp4netns, or passt and use --network pasta"
_TAP = "tap0"
API_SOCKET = "slirp4netns.sock"


class Settings:
    """What `--network slirp4netns:KEY=VALUE,…` asks for, Podman's keys and defaults."""

    __slots__ = (
        "cidr", "port_handler", "allow_host_loopback", "enable_ipv6", "mtu", "outbound_addr", "outbound_addr6",
    )  # fmt: skip

    def __init__(self) -> None:
        self.cidr = "10.0.2.0/24"
        self.port_handler = ""  # whichever is better for a port
        self.allow_host_loopback = False
        self.enable_ipv6 = True
        self.mtu = 65520
        self.outbound_addr = ""
        self.outbound_addr6 = ""

    def _address(self, offset: int) -> str:
        network, _, prefix = self.cidr.partition("/")
        base = int.from_bytes(_socket.inet_aton(network), "big")
        base &= 0xFFFFFFFF << (32 - int(prefix)) & 0xFFFFFFFF
        return _socket.inet_ntoa((base + offset).to_bytes(4, "big"))

    @property
    def address(self) -> tuple[str, int]:
        """The container's, .100 of the network."""
        return self._address(100), int(self.cidr.partition("/")[2])

    @property
    def gateway(self) -> str:
        """The host, where the loopback is allowed."""
        return self._address(2)

    def is_relayed(self, mapping: PortMapping) -> bool:
        """Whether a port is for slirp/relay.py, which keeps clients' addresses and knows IPv6; not by the user's choice."""
        return self.port_handler != "slirp4netns"

    @property
    def dns(self) -> str:
        return self._address(3)


def parse(options: Sequence[str]) -> Settings:
    """Read the options of --network slirp4netns:…"""
    settings = Settings()
    for option in options:
        key, separator, value = option.partition("=")
        if not separator:
            raise Usage(f'unknown option for slirp4netns: "{option}"')
        if key == "cidr":
            settings.cidr = _cidr(value)
        elif key == "port_handler":
            if value not in ("slirp4netns", "rootlesskit"):
                raise Usage(f'unknown port_handler for slirp4netns: "{value}"')
            settings.port_handler = value
        elif key in ("allow_host_loopback", "enable_ipv6"):
            if value not in ("true", "false"):
                raise Usage(f'invalid value of {key} for slirp4netns: "{value}"')
            setattr(settings, key, value == "true")
        elif key == "mtu":
            if not value.isdecimal() or not 68 <= int(value) <= 65521:
                raise Usage(f'invalid mtu "{value}"')
            settings.mtu = int(value)
        elif key in ("outbound_addr", "outbound_addr6"):
            address = normal_address(value)
            is_interface = value in (name for _, name in _socket.if_nameindex())
            if not is_interface and (not address or (":" in address) != (key == "outbound_addr6")):
                raise Usage(f'invalid {key} "{value}"')
            setattr(settings, key, value)
        else:
            raise Usage(f'unknown option for slirp4netns: "{option}"')
    return settings


def _cidr(value: str) -> str:
    network, _, prefix = value.partition("/")
    address = normal_address(network)
    # .100 is the container: the network must hold it.
    if not address or ":" in address or not prefix.isdecimal() or not 1 <= int(prefix) <= 25:
        raise Usage(f'invalid cidr "{value}"')
    return value


def find(dirs: Sequence[str] = (), name: str = "slirp4netns") -> str | None:
    """The program, in the configured folders first."""
    return find_program(name, dirs)


def command(program: str, settings: Settings) -> list[str]:
    """Its command line, but for the namespace and the descriptors."""
    argv = [program, "--configure", f"--mtu={settings.mtu}", f"--cidr={settings.cidr}"]
    if not settings.allow_host_loopback:
        argv.append("--disable-host-loopback")
    argv += ["--enable-sandbox", "--enable-seccomp"]
    if settings.enable_ipv6:
        argv.append("--enable-ipv6")
    if settings.outbound_addr:
        argv.append(f"--outbound-addr={settings.outbound_addr}")
    if settings.outbound_addr6:
        argv.append(f"--outbound-addr6={settings.outbound_addr6}")
    return argv


def start(
    program: str,
    settings: Settings,
    ports: Sequence[PortMapping],
    netns: int,
    userns: int,
    folder: str,
) -> Pending:
    """Start it for two namespaces, given as descriptors; its API socket lives in `folder`."""
    argv = command(program, settings)
    # A socket's path may have 107 bytes only, so it is named relative to the folder.
    argv += [
        "--ready-fd=4",
        f"--api-socket={API_SOCKET}",
        "--netns-type=path",
        "/proc/self/fd/3",
        _TAP,
    ]
    # Called by root, the helper is nobody who could write to `folder`; whoever cannot pass through that sees nothing.
    folder = f"{folder}/slirp4netns"
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    os.chmod(folder, 0o777)
    try:
        os.unlink(f"{folder}/{API_SOCKET}")
    except FileNotFoundError:
        pass
    if settings.enable_ipv6:
        no_address_detection(netns, userns)
    return Pending(
        "slirp4netns",
        argv,
        netns,
        userns,
        _is_ready,
        more=True,
        folder=folder,
        on_ready=(lambda: forward(folder, settings, ports)) if ports else None,
    )


def _is_ready(pid: int, words: bytes) -> bool:
    """It writes the digit 1 to the ready descriptor, after its warnings."""
    return words == b"1" or words.endswith(b"\n1")


def forward(folder: str, settings: Settings, ports: Sequence[PortMapping]) -> None:
    """Open the published ports; an error names the port."""
    refuse_sctp(ports)
    for mapping in ports:
        if ":" in mapping.host_ip:
            raise RootlessError(
                f"slirp4netns cannot publish on the IPv6 address {mapping.host_ip}",
                hint="use --network pasta",
            )
        for step in range(mapping.count):
            answer = _ask(
                folder,
                {
                    "execute": "add_hostfwd",
                    "arguments": {
                        "proto": mapping.protocol,
                        "host_addr": mapping.host_ip or "0.0.0.0",
                        "host_port": mapping.host_port + step,
                        "guest_addr": settings.address[0],
                        "guest_port": mapping.container_port + step,
                    },
                },
            )
            if "error" in answer:
                port = mapping.host_port + step
                words = str(answer["error"])
                # libslirp reports a failed bind without its errno; ask the kernel again.
                from slirp.ports import PortMapping as Mapping
                from slirp.ports import check_free

                check_free([Mapping(mapping.host_ip or "0.0.0.0", port, 1, 1, mapping.protocol)])
                raise refused(
                    mapping.host_ip or "0.0.0.0", port, mapping.protocol, OSError(0, words)
                )


def _ask(folder: str, request: dict[str, object]) -> dict[str, object]:
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC, 0)
    try:
        end.connect(f"/proc/self/fd/{directory}/{API_SOCKET}")
        end.sendall(json.dumps(request).encode())
        end.shutdown(_socket.SHUT_WR)
        data = b""
        while chunk := end.recv(4096):
            data += chunk
    except OSError as error:
        raise RootlessError(
            f"slirp4netns: its API socket does not answer: {error.strerror}"
        ) from error
    finally:
        end.close()
        os.close(directory)
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise RootlessError(f"slirp4netns: unexpected answer {data[:200]!r}")
    return answer


def missing() -> RootlessError:
    """The error for a program that is not installed."""
    return RootlessError("slirp4netns is not installed", hint=_MISSING_HINT)
