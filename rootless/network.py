"""How a container is connected: picks the driver, and is the one caller of `slirp`.

    plan = network.plan(options, config)                what the user asked for, checked; nothing is done yet
    link = network.prepare(plan, paths, config, …)      addresses and host ports are known, helpers found: for the spec
    connection = link.start(pid)                        in the monitor, as soon as init's namespaces exist
    connection.wait_ready()                             before init may start the user's program
    connection.to_json()                                what `inspect`, `port` and `ps` show; kept with the container
    connection.close()                                  when init has ended: the ports are free on return

Hot: on the path of every `run`. What only user-defined networks need is imported where it is used.
"""

from __future__ import annotations

import os
import select

from rootless.errors import RootlessError, Usage
from slirp import host as host_routes
from slirp import ports as published
from slirp import resolv
from slirp.ports import PortMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rootless.config import Config
    from rootless.container.options import CreateOptions
    from rootless.paths import Paths
    from slirp.process import Helper
    from slirp.process import Pending as PendingHelper

DRIVERS = ("pasta", "slirp4netns")
_MAX_REVIVALS = 10  # of a helper that keeps dying: somebody means it


class Plan:
    """What was asked for. `mode`: none, host, pasta, slirp4netns, bridge, container, ns."""

    __slots__ = ("mode", "target", "words", "networks", "ports", "explicit")

    def __init__(
        self,
        mode: str,
        target: str = "",
        words: Sequence[str] = (),
        networks: dict[str, dict[str, Any]] | None = None,
        ports: Sequence[PortMapping] = (),
        explicit: bool = True,
    ) -> None:
        self.mode = mode
        self.target = target  # container: its name or id; ns: the path
        self.words = list(words)  # the driver's options
        self.networks = networks or {}  # bridge: by name, with ip, ip6, mac, alias, interface_name
        self.ports = list(ports)
        self.explicit = explicit  # the user named the driver, so that another one will not do

    @property
    def own_netns(self) -> bool:
        """Whether the container gets a network namespace of its own."""
        return self.mode in ("none", "bridge", *DRIVERS)


def plan(
    network: str,
    words: Sequence[str],
    networks: dict[str, dict[str, Any]],
    ports: Sequence[dict[str, Any]],
    config: Config | None = None,
) -> Plan:
    """From `CreateOptions`: `--network` as mode, driver words and networks, and `--publish` as records."""
    mappings = [PortMapping.from_json(record) for record in ports]
    mode, target, explicit = network, "", True
    if mode.startswith("container:"):
        mode, target = "container", network.partition(":")[2]
    elif mode.startswith("ns:"):
        mode, target = "ns", network.partition(":")[2]
    elif mode in ("", "private", "default"):
        explicit = False
        mode = config.text("network", "default_rootless_network_cmd") if config else "pasta"
        netns = config.text("containers", "netns") if config else "private"
        if netns in ("none", "host", "bridge", *DRIVERS):
            mode = netns
        elif netns not in ("", "private", "default"):
            mode, networks = "bridge", {netns: {}}
    if mode == "container" and mappings:
        raise Usage(
            "conflicting options: port publishing and the container type network mode",
            hint="publish the ports of the container that owns the network",
        )
    if mode == "bridge" and not networks:
        networks = {"default": {}}
    return Plan(mode, target, words, networks, mappings, explicit)


def read_ports(words: Sequence[str]) -> list[dict[str, Any]]:
    """All `--publish` of one command line, checked; a host port of 0 is to be chosen."""
    return [mapping.to_json() for mapping in published.parse_publish(words)]


def settle_ports(
    ports: Sequence[dict[str, Any]], exposed: Sequence[str] = (), publish_all: bool = False
) -> list[dict[str, Any]]:
    """At `create`: what will be published, each with its host port, for the record; -P and random ones are chosen."""
    mappings = [PortMapping.from_json(record) for record in ports]
    if publish_all:
        mappings = published.publish_exposed(mappings, published.parse_expose(exposed))
    return [mapping.to_json() for mapping in published.choose_host_ports(mappings)]


def settle_networks(paths: Paths, config: Config | None, options: CreateOptions) -> None:
    """At `create`: the networks by their names, all of which must exist; one that is missing is an error at once."""
    mode = options.network.partition(":")[0]
    if mode in ("host", "none", "ns") and (options.publish or options.publish_all):
        from rootless import log

        log.warn(
            f'Port mappings have been discarded because "{mode}" network namespace mode does not support them'
        )
        options.publish, options.publish_all = [], False
    if mode != "bridge":
        return
    from rootless import netrecords

    wanted = options.networks or {"default": {}}
    found = {}
    for name, given in wanted.items():
        network = netrecords.read(paths, config, name)
        wish_of(network, given)
        found[network["name"]] = given
    options.networks = found
    add_static(
        Plan("bridge", networks={name: dict(given) for name, given in found.items()}), options
    )


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
        "ipv6", "search", "_pasta", "_arguments", "_program", "_settings", "_relayed", "bridge",
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
        self._pasta: Any = None
        self._arguments: list[str] = []
        self._program = ""
        self._settings: Any = None
        self._relayed: list[PortMapping] = []  # ports that the helper cannot forward
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
        own = self.plan.own_netns
        return resolv.resolv_conf(
            resolv.read_host(own),
            own_netns=own,
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
            own = [("127.0.1.1", names)]
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
        connection = Connection(self, pid)
        try:
            if self.driver == "bridge":
                self.bridge.begin(pid, netns)
                connection.start_relay()
            elif self.driver in DRIVERS:
                connection.start_helper(netns, userns)
        except BaseException:
            connection.close()
            raise
        return connection


class Connection:
    """A container's connection, from `Link.start` on; held by its monitor."""

    __slots__ = (
        "link",
        "pid",
        "helper",
        "relay",
        "_pending",
        "_bridge",
        "_revived",
        "_watch",
        "_target",
    )

    def __init__(self, link: Link, pid: int) -> None:
        self.link = link
        self.pid = pid  # whose namespaces they are
        self.helper: Helper | None = None
        self.relay: Helper | None = None
        self._pending: PendingHelper | None = None
        self._bridge = link.bridge
        self._revived = 0
        self._watch: select.epoll | None = None
        self._target: Any = None

    def start_helper(self, netns: int = -1, userns: int = -1) -> None:
        link = self.link
        opened = []
        try:
            if netns < 0:
                netns = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                opened.append(netns)
            if userns < 0:
                userns = os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
                opened.append(userns)
            if link.driver == "pasta":
                from slirp import pasta

                self._pending = pasta.start(link._pasta, link._arguments, netns, userns)
            else:
                from slirp import slirp4netns

                folder = link.paths.run_container(link.identity)
                own = [port for port in link.ports if port not in link._relayed]
                self._pending = slirp4netns.start(
                    link._program, link._settings, own, netns, userns, folder
                )
            if link._relayed:
                from slirp import relay

                addresses = [address for address, _ in link.addresses]
                inside = relay.Inside(addresses, netns, userns, is_container=True)
                self.relay = relay.start(link._relayed, inside)
        finally:
            for fd in opened:
                os.close(fd)

    def start_relay(self) -> None:
        """Of a container on bridges, whose published ports all come this way."""
        self._target = self._bridge.target()
        addresses, answers = self._target
        if self.link.ports and addresses:
            from slirp import relay

            bridge = self._bridge
            inside = relay.Inside(
                addresses, bridge.netns, bridge.userns, is_container=False, answers=answers
            )
            self.relay = relay.start(self.link.ports, inside)

    def wait_ready(self) -> None:
        """Until it works; SetupError with the helper's words where it does not."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self.helper = pending.wait_ready()
        if self._bridge is not None:
            self._bridge.finish()
        self._watch_all()

    def _watch_all(self) -> None:
        """One descriptor for all that may have news: closed ones leave it by themselves."""
        watched = [one.pidfd for one in (self.helper, self.relay) if one is not None]
        if self._bridge is not None:
            watched.append(self._bridge.fileno())
        if not watched:
            return
        if self._watch is None:
            self._watch = select.epoll()
        for fd in watched:
            try:
                self._watch.register(fd, select.EPOLLIN)
            except FileExistsError:
                pass

    def helper_pidfd(self) -> int:
        """A descriptor that becomes readable when `handle` has something to do; -1 where there never is."""
        return -1 if self._watch is None else self._watch.fileno()

    def handle(self) -> bool:
        """The helper or the relay has died, or the networks' router has news. False where there is no network any
        more; else the record is to be written anew."""
        ready = {fd for fd, _ in self._watch.poll(0)} if self._watch is not None else set()
        try:
            if self._bridge is not None and self._bridge.fileno() in ready:
                self._bridge.handle()
            lost = [
                one for one in (self.helper, self.relay) if one is not None and one.pidfd in ready
            ]
            if lost or (self._bridge is not None and self._target != self._bridge.target()):
                self._renew(bool(lost))
        except (RootlessError, OSError):
            self._stop()
            return False
        self._watch_all()
        return True

    def _renew(self, died: bool) -> None:
        """Once more: it gives the same addresses and takes the same ports."""
        self._stop()
        if died:
            self._revived += 1
            if self._revived > _MAX_REVIVALS:
                raise RootlessError("the network helper dies again and again")
        if self._bridge is not None:
            self.start_relay()
            return
        self.start_helper()
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self.helper = pending.wait_ready()

    def _stop(self) -> None:
        if self._pending is not None:
            self._pending.abandon()
            self._pending = None
        if self.relay is not None:
            self.relay.stop()
            self.relay = None
        if self.helper is not None:
            self.helper.stop()
            self.helper = None

    def to_json(self) -> dict[str, Any]:
        """The record kept with the running container."""
        link = self.link
        record: dict[str, Any] = {
            "mode": link.plan.mode,
            "driver": link.driver,
            "ports": [mapping.to_json() for mapping in link.ports],
            "addresses": [list(address) for address in link.addresses],
            "gateways": link.gateways,
            "dns": link.dns,
        }
        if self.helper is not None:
            record["helper"] = self.helper.to_json()
        if self._bridge is not None:
            record["networks"] = members(self._bridge.state["networks"])
        return record

    def close(self) -> None:
        """Disconnect, whatever state it is in; the host's ports are free on return."""
        self._stop()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._bridge is not None:
            # The line itself stays open for a restart: it is the container's, and goes with its monitor.
            self._bridge.detach()


def members(networks: dict[str, Any]) -> dict[str, Any]:
    """What the router says of a container's networks, as it is recorded."""
    return {
        name: {
            "id": member["id"],
            "interface": member["interface"],
            "mac": member["mac"],
            "addresses": [[address, prefix] for address, prefix, _ in member["addresses"]],
            "gateways": [gateway for _, _, gateway in member["addresses"] if gateway],
            "aliases": member["aliases"],
            "dns": member["dns"],
        }
        for name, member in networks.items()
    }


def release(paths: Paths, record: dict[str, Any], recorded: dict[str, Any]) -> None:
    """After a killed monitor: end what its connection left behind. The helper died with it, as a rule."""
    helper = recorded.get("helper")
    if helper and helper["pid"] > 0:
        from slirp.process import kill_recorded

        kill_recorded(helper["pid"], helper["start_time"])


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

            link._pasta = pasta.find(dirs, _cache(link.paths))
            if link._pasta is not None:
                return driver
        else:
            from slirp import slirp4netns

            program = slirp4netns.find(dirs)
            if link.config is not None and (
                given := link.config.text("engine", "network_cmd_path")
            ):
                program = slirp4netns.find((), given)
            if program is not None:
                link._program = program
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
    link._relayed = [port for port in link.ports if pasta.cannot_forward(link._pasta, port)]
    own = [port for port in link.ports if port not in link._relayed]
    settings = pasta.settings(link._pasta, words, own)
    link._arguments = settings.arguments
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


def wish_of(network: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What a container wants of a network, as the router understands it."""
    wish: dict[str, Any] = {"network": network}
    for key, value in given.items():
        if key == "alias":
            wish["aliases"] = [alias for alias in value.split(",") if alias]
        elif key in ("ip", "ip6", "mac"):
            wish[key] = value
        elif key == "interface_name":
            wish["interface"] = value
        else:
            raise Usage(f"unknown bridge network option: {key}")
    return wish


def _prepare_bridge(
    link: Link, config: Config | None, names: list[str], servers: Sequence[str]
) -> None:
    """Reserve the addresses; the networks' namespace exists from here on."""
    from rootless import netrecords, netsession

    wishes = []
    for label, given in link.plan.networks.items():
        wishes.append(wish_of(netrecords.read(link.paths, config, label), given))
    internal = all(wish["network"].get("internal") for wish in wishes)
    link.ports = [] if internal else published.choose_host_ports(link.plan.ports)
    published.refuse_sctp(link.ports)
    published.check_free(link.ports)
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
                "names of containers are not resolved on networks: the Python package dnslib (Debian: "
                "python3-dnslib) is missing"
            )
        link.search = [netrecords.DOMAIN]
    link.ipv6 = any(":" in address for address, _ in link.addresses)
    if not internal:
        from slirp import pasta

        found = pasta.find(
            config.texts("engine", "helper_binaries_dir") if config else [], _cache(link.paths)
        )
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
    link._settings = settings
    link._relayed = [port for port in link.ports if settings.is_relayed(port)]
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
    if options.dns != ["none"]:
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


def add_static(wanted: Plan, options: CreateOptions) -> None:
    """--ip, --ip6, --mac-address and --network-alias belong to the one network that is named."""
    given = {"ip": options.ip, "ip6": options.ip6, "mac": options.mac_address}
    given = {key: value for key, value in given.items() if value}
    if given and len(wanted.networks) != 1:
        flag = {"ip": "--ip", "ip6": "--ip6", "mac": "--mac-address"}[next(iter(given))]
        raise Usage(
            f"{flag} can only be set for a single network: "
            f"{len(wanted.networks)} networks were given; use --network NAME:ip=…"
        )
    for entry in wanted.networks.values():
        entry.update(given)
        if options.network_alias:
            aliases = [entry["alias"]] if entry.get("alias") else []
            entry["alias"] = ",".join([*aliases, *options.network_alias])


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
