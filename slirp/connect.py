"""A network namespace's way out, for a program that is no container engine.

    with connect(pid, publish=["127.0.0.1:8080:80"]) as connection:
        ...

The namespace may be anybody's whose user namespace the caller made, or is in. The engine itself composes the same parts
in another order: it plans ports and addresses long before there is a namespace (rootless/network.py).
"""

from __future__ import annotations

import os

from rootless.errors import NotFound, RootlessError, Usage
from rootless.linux import nsfs
from rootless.linux.sched import CLONE_NEWNET
from slirp import pasta, relay, slirp4netns
from slirp.host import uplink4, uplink6
from slirp.ports import check_free, choose_host_ports, parse_publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from slirp.ports import PortMapping
    from slirp.process import Helper, Pending


class Connection:
    """What `connect` has started; it ends with `close`, or with the last process that holds the helpers' lifelines."""

    __slots__ = ("driver", "ports", "addresses", "dns", "_helpers", "_folder")

    def __init__(self, driver: str, ports: list[PortMapping], addresses: list[str]) -> None:
        self.driver = driver
        self.ports = ports  # with the host ports that were chosen
        self.addresses = addresses  # those of the namespace's own interface
        self.dns: list[str] = []  # the name servers to be asked inside
        self._helpers: list[Helper] = []
        self._folder = ""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pidfds(self) -> list[int]:
        """Descriptors, each readable once its helper has died."""
        return [helper.pidfd for helper in self._helpers]

    def close(self) -> None:
        """End the helpers and wait until they are gone: their ports are free on return."""
        while self._helpers:
            self._helpers.pop().stop()
        if self._folder:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)


def connect(
    namespace: int | str,
    *,
    driver: str = "",
    options: Sequence[str] = (),
    publish: Sequence[str] = (),
) -> Connection:
    """Connect a network namespace, of a process or at a path, and return once traffic passes.

    `driver` is "pasta" or "slirp4netns"; by default pasta, or slirp4netns where that is not installed. `options` are the
    driver's own (pasta) or Podman's keys (slirp4netns, "mtu=1400"), `publish` ports in the form of `podman run -p`.

    Raises NotFound for no namespace, Usage for words that are none, Conflict for a port that is taken, SetupError with
    the helper's own words where that fails.
    """
    ports = choose_host_ports(parse_publish(publish))
    check_free(ports)
    netns = _open(namespace)
    userns = -1
    try:
        if _is_own(netns, "net"):
            raise Usage("this process's own network is what a namespace is connected to")
        try:
            userns = nsfs.owner(netns)
        except PermissionError:
            raise RootlessError(
                f"network namespace {namespace}: its user namespace was not made by this user"
            ) from None
        joined = -1 if _is_own(userns, "user") else userns
        return _connect(driver, options, ports, netns, joined)
    finally:
        for fd in (netns, userns):
            if fd >= 0:
                os.close(fd)


def _is_own(fd: int, kind: str) -> bool:
    return os.fstat(fd).st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino


def _open(namespace: int | str) -> int:
    path = f"/proc/{namespace}/ns/net" if isinstance(namespace, int) else namespace
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotFound(f"network namespace {path}: {error.strerror}") from None
    try:
        if nsfs.kind(fd) == CLONE_NEWNET:
            return fd
    except OSError:
        pass  # a file of another kind
    os.close(fd)
    raise Usage(f"{path} is no network namespace")


def _connect(
    driver: str, options: Sequence[str], ports: list[PortMapping], netns: int, userns: int
) -> Connection:
    if driver not in ("", "pasta", "slirp4netns"):
        raise Usage(f"unknown network driver {driver!r}: pasta and slirp4netns are known")
    found = pasta.find() if driver != "slirp4netns" else None
    program = slirp4netns.find() if driver != "pasta" and found is None else None
    if found is None and program is None:
        raise slirp4netns.missing() if driver == "slirp4netns" else pasta.missing()
    if found is not None:
        uplinks = [uplink for uplink in (uplink4(), uplink6()) if uplink is not None]
        own = [uplink.addresses[0][0] for uplink in uplinks if uplink.addresses]
        connection = Connection("pasta", ports, own or [pasta.OFFLINE[0]])
        relayed = [port for port in ports if pasta.cannot_forward(found, port)]
        settings = pasta.settings(found, options, [port for port in ports if port not in relayed])
        given = [address.partition("/")[0] for address in settings.addresses]
        connection.addresses = given or connection.addresses
        connection.dns = settings.dns_forward
        pending = pasta.start(found, settings.arguments, netns, userns)
    else:
        assert program is not None
        import tempfile

        choice = slirp4netns.parse(options)
        connection = Connection("slirp4netns", ports, [choice.address[0]])
        relayed = [port for port in ports if choice.is_relayed(port)]
        connection.dns = [choice.dns]
        connection._folder = tempfile.mkdtemp(prefix="slirp-")
        direct = [port for port in ports if port not in relayed]
        pending = slirp4netns.start(program, choice, direct, netns, userns, connection._folder)
    _complete(connection, pending, relayed, netns, userns)
    return connection


def _complete(
    connection: Connection,
    pending: Pending,
    relayed: list[PortMapping],
    netns: int,
    userns: int,
) -> None:
    try:
        connection._helpers.append(pending.wait_ready())
        if relayed:
            inside = relay.Inside(connection.addresses, netns, userns, is_container=True)
            connection._helpers.append(relay.start(relayed, inside))
    except BaseException:
        connection.close()
        raise
