"""How a container is connected: picks the driver, finds its addresses, writes its hosts and resolv.conf.

    wanted = netplan.plan(options, config)              what the user asked for, checked; nothing is done yet
    link = network.prepare(wanted, paths, config, …)     addresses and host ports are known, helpers found: for the spec
    connection = link.start(pid)                        netconnection.py; in the monitor, as soon as init's namespaces exist
    connection.wait_ready()                             before init may start the user's program
    connection.to_json()                                what `inspect`, `port` and `ps` show; kept with the container
    connection.close()                                  when init has ended: the ports are free on return

Hot: on the path of every `run`. What only user-defined networks need is imported where it is used.
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.netplan import DRIVERS, add_static, plan, wish_of
from slirp import host as host_routes
from slirp import ports as published
from slirp import resolv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rootless.config import Config
    from rootless.container.options import CreateOptions
    from rootless.netconnection import Connection
    from rootless.netplan import Plan
    from rootless.paths import Paths
    from slirp.ports import PortMapping


def base_hosts(wanted: str, from_image: Callable[[], str]) -> str:
    """The file that /etc/hosts begins with: `--hosts-file` or base_hosts_file; by default the host's own."""
    if wanted == "none":
        return ""
    if wanted == "image":
        return from_image()
    try:
        with open(wanted or "/etc/hosts", errors="replace") as file:
            return file.read(1 << 20)
    except FileNotFoundError:
        if wanted:
            raise RootlessError(f"--hosts-file {wanted}: no such file or directory") from None
        return ""


class Link:
    """A prepared connection: everything that can be known before the namespaces exist."""

    __slots__ = (
        "plan", "paths", "config", "identity", "driver", "ports", "addresses", "gateways", "dns", "host_address",
        "ipv6", "search", "pasta", "arguments", "program", "settings", "relayed", "bridge",
    )  # fmt: skip

    def __init__(self, wanted: Plan, paths: Paths, config: Config | None, identity: str) -> None:
        self.plan = wanted
        self.paths = paths
        self.config = config
        self.identity = identity
        self.driver = wanted.mode
        self.ports: list[PortMapping] = []
        self.addresses: list[tuple[str, int]] = []  # the container's own
        self.gateways: list[str] = []
        self.dns: list[str] = []  # servers of the network, before the host's
        self.search: list[str] = []
        self.host_address = ""  # where the container reaches the host
        self.ipv6 = True
        self.pasta: Any = None
        self.arguments: list[str] = []
        self.program = ""
        self.settings: Any = None
        self.relayed: list[PortMapping] = []  # ports that the helper cannot forward
        self.bridge: Any = None

    # --- documents for the root file system ---

    def resolv_conf(
        self, servers: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
    ) -> str:
        if self.config is not None:
            servers = servers or self.config.texts("containers", "dns_servers")
            search = search or self.config.texts("containers", "dns_searches")
            options = options or self.config.texts("containers", "dns_options")
        if self.search:
            # The networks' own server passes on to the ones given, so that names of containers are found as well.
            servers = ()
        apart = self.plan.mode != "host"  # no server on the host's loopback answers there
        return resolv.resolv_conf(
            resolv.read_host(apart),
            own_netns=apart,
            ipv6=self.ipv6,
            network_servers=self.dns,
            keep_host_servers=not self.search,
            network_search=self.search,
            servers=servers,
            search=search,
            options=options,
        )

    def hosts(self, base: str, names: Sequence[str], added: Sequence[str] = ()) -> str:
        """`names`: the host name and the container's name."""
        own: list[tuple[str, Sequence[str]]] = [(address, names) for address, _ in self.addresses]
        if not own and self.plan.own_netns:
            own = [("127.0.0.1", names)]
        return resolv.hosts(base, added=added, own=own, host_address=self.host_address)

    def close(self) -> None:
        """Let go in the command of what its monitor holds."""
        if self.bridge is not None:
            self.bridge.close()
            self.bridge = None

    def outer(self) -> tuple[int, Any] | None:
        """The user namespace in which the container's must be made: the one that owns the networks."""
        if self.bridge is None:
            return None
        return self.bridge.userns, self.bridge.idmap()

    # --- the helper ---

    def start(self, pid: int, netns: int = -1, userns: int = -1) -> Connection:
        """Begin to connect the namespaces of `pid`, our child; before it changes its ids.

        `netns` and `userns` are these where its /proc is closed to us.
        """
        from rootless.netconnection import Connection

        connection = Connection(self, pid)
        try:
            connection.begin(netns, userns)
        except BaseException:
            connection.close()
            raise
        return connection


def prepare(
    wanted: Plan,
    paths: Paths,
    config: Config | None,
    identity: str,
    *,
    name: str = "",
    servers: Sequence[str] = (),
) -> Link:
    """Find the helper, choose and check the host's ports, work out the addresses. Errors come here, at once."""
    link = Link(wanted, paths, config, identity)
    if wanted.mode in DRIVERS:
        dirs = config.texts("engine", "helper_binaries_dir") if config else []
        link.ports = published.choose_host_ports(wanted.ports)
        published.refuse_sctp(link.ports)
        link.driver = _choose_driver(wanted, dirs, link)
        published.check_free(link.ports)
        if link.driver == "pasta":
            _prepare_pasta(link, config)
        else:
            _prepare_slirp4netns(link, config)
    elif wanted.mode == "bridge":
        _prepare_bridge(link, config, [name, identity[:12]], servers)
    elif wanted.mode == "host":
        link.host_address = "127.0.0.1"
    elif wanted.mode in ("ns", "none"):
        link.host_address = host_routes.local_address()
    if config is not None and (given := config.text("containers", "host_containers_internal_ip")):
        link.host_address = "" if given == "none" else given
    return link


def _choose_driver(wanted: Plan, dirs: Sequence[str], link: Link) -> str:
    """The driver asked for; where none was, the other one stands in for one that is not installed."""
    order = [wanted.mode]
    if not wanted.explicit and not wanted.words:
        order += [other for other in DRIVERS if other != wanted.mode]
    for driver in order:
        if driver == "pasta":
            from slirp import pasta

            link.pasta = pasta.find(dirs, _cache(link.paths))
            if link.pasta is not None:
                return driver
        else:
            from slirp import slirp4netns

            program = slirp4netns.find(dirs)
            if link.config is not None and (
                given := link.config.text("engine", "network_cmd_path")
            ):
                program = slirp4netns.find((), given)
            if program is not None:
                link.program = program
                return driver
    if len(order) > 1:
        raise RootlessError(
            "cannot connect the container: neither pasta nor slirp4netns is installed",
            hint="install the package passt, or run with --network none or --network host",
        )
    if wanted.mode == "pasta":
        from slirp import pasta

        raise pasta.missing()
    from slirp import slirp4netns

    raise slirp4netns.missing()


def _cache(paths: Paths) -> str | None:
    from rootless.files import make_dirs

    try:
        make_dirs(paths.cache)
    except OSError:
        return None
    return paths.cache


def _prepare_pasta(link: Link, config: Config | None) -> None:
    from slirp import pasta

    words = [*(config.texts("network", "pasta_options") if config else ()), *link.plan.words]
    link.relayed = [port for port in link.ports if pasta.cannot_forward(link.pasta, port)]
    own = [port for port in link.ports if port not in link.relayed]
    settings = pasta.settings(link.pasta, words, own)
    link.arguments = settings.arguments
    ipv4 = host_routes.uplink4() if settings.only_family != 6 else None
    ipv6 = host_routes.uplink6() if settings.only_family != 4 else None
    link.ipv6 = ipv6 is not None
    given4 = [address for address in settings.addresses if ":" not in address]
    given6 = [address for address in settings.addresses if ":" in address]
    for uplink, given in ((ipv4, given4), (ipv6, given6)):
        if given:
            link.addresses += [
                (
                    address.partition("/")[0],
                    int(address.partition("/")[2] or (128 if ":" in address else 32)),
                )
                for address in given
            ]
        elif uplink is not None:
            link.addresses += uplink.addresses[:1]
        if uplink is not None and uplink.gateway:
            link.gateways.append(uplink.gateway)
    link.dns = [
        address
        for address in settings.dns_forward
        if (ipv6 if ":" in address else ipv4 or ipv6 is None) is not None
    ]
    if not link.addresses:
        address, prefix, gateway = pasta.OFFLINE
        link.addresses, link.gateways = [(address, prefix)], [gateway]
    if settings.map_guest:
        link.host_address = settings.map_guest[0]
    else:
        # This pasta has no address for the host, and its own ones are the container's as well: another one, if any.
        link.host_address = host_routes.local_address(
            tuple(address for address, _ in link.addresses)
        )


def _prepare_bridge(
    link: Link, config: Config | None, names: list[str], servers: Sequence[str]
) -> None:
    """Reserve the addresses; the networks' namespace exists from here on."""
    from rootless import netrecords, netsession

    wishes = []
    for label, given in link.plan.networks.items():
        wishes.append(wish_of(netrecords.read(link.paths, config, label), given))
    internal = all(wish["network"].get("internal") for wish in wishes)
    link.ports = published.choose_host_ports(link.plan.ports)
    published.refuse_sctp(link.ports)
    if not internal:
        published.check_free(link.ports)
    elif link.ports:
        from rootless import log

        log.warn(
            "published ports are not reachable: every network of the container is internal; `network connect` it to one "
            "that is not"
        )
    if not internal and link.config is not None:
        _cache(link.paths)
    session = netsession.Session(
        link.paths,
        config,
        link.identity,
        names,
        wishes,
        list(servers),
    )
    session.reserve()
    link.bridge = session
    for wish in wishes:
        member = session.state["networks"][wish["network"]["name"]]
        link.addresses += [(address, prefix) for address, prefix, _ in member["addresses"]]
        link.gateways += [gateway for _, _, gateway in member["addresses"] if gateway]
        link.dns += [server for server in member["dns"] if server not in link.dns]
    if link.dns:
        if session.state.get("nameless"):
            from rootless import log

            log.warn(
                "names of containers are not resolved on networks: neither the Python package dnslib (Debian: "
                "python3-dnslib) nor aardvark-dns is installed"
            )
        link.search = [netrecords.DOMAIN]
    link.ipv6 = any(":" in address for address, _ in link.addresses)
    if not internal:
        from slirp import pasta

        found = netsession.outside_pasta(link.paths, config)
        if found is not None:
            settings = pasta.settings(
                found, config.texts("network", "pasta_options") if config else []
            )
            if not link.dns:
                link.dns = list(settings.dns_forward)
            link.host_address = (settings.map_guest or [""])[0]


def _prepare_slirp4netns(link: Link, config: Config | None) -> None:
    from slirp import slirp4netns

    words = [*(config.texts("engine", "network_cmd_options") if config else ()), *link.plan.words]
    settings = slirp4netns.parse(words)
    link.settings = settings
    link.relayed = [port for port in link.ports if settings.is_relayed(port)]
    link.addresses = [settings.address]
    link.gateways = [settings.gateway]
    link.dns = [settings.dns]
    link.ipv6 = settings.enable_ipv6
    link.host_address = (
        settings.gateway if settings.allow_host_loopback else host_routes.local_address()
    )


def for_start(
    paths: Paths,
    config: Config | None,
    record: dict[str, Any],
    options: CreateOptions,
    folder: str,
    from_image: Callable[[], str],
) -> tuple[Link, dict[str, str]]:
    """One start of a container: its link, and the files to bind over /etc/hosts and /etc/resolv.conf, by place."""
    wanted = plan(
        options.network,
        options.network_options,
        options.networks,
        record.get("ports", options.publish),
        config,
    )
    if wanted.mode == "bridge":
        add_static(wanted, options)
    if wanted.mode in ("host", "none", "ns"):
        wanted.ports = []
    link = prepare(wanted, paths, config, record["id"], name=record["name"], servers=options.dns)
    if wanted.mode == "container":
        return link, _shared_files(paths, wanted.target, options)
    files = {}
    if not options.no_hosts and not (config is not None and config.flag("containers", "no_hosts")):
        base = options.hosts_file or (
            config.text("containers", "base_hosts_file") if config else ""
        )
        names = [options.hostname or record["id"][:12], record["name"]]
        text = link.hosts(base_hosts(base, from_image), names, options.add_host)
        files["/etc/hosts"] = write_in_place(folder, "hosts", text)
    if options.dns != ["none"] and wanted.mode != "none":
        text = link.resolv_conf(options.dns, options.dns_search, options.dns_option)
        files["/etc/resolv.conf"] = write_in_place(folder, "resolv.conf", text)
    return link, files


def _shared_files(paths: Paths, target: str, options: CreateOptions) -> dict[str, str]:
    """Who shares a container's network shares its names: the very files, which follow its addresses."""
    from rootless.state import Table

    folder = paths.run_container(Table(paths).lookup(target))
    files = {"/etc/resolv.conf": f"{folder}/resolv.conf"}
    if not options.no_hosts:
        files["/etc/hosts"] = f"{folder}/hosts"
    return {place: source for place, source in files.items() if os.path.exists(source)}


def write_in_place(folder: str, name: str, text: str) -> str:
    """In place: a running container has the file itself bound, so its inode must stay."""
    path = f"{folder}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode())
        os.fchmod(fd, 0o644)
    except OSError as error:
        error.filename = path  # write(2) names none
        raise
    finally:
        os.close(fd)
    return path
