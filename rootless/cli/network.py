"""`rootless network`: user-defined networks; `ls` and `inspect` are in network_list.py."""

from __future__ import annotations

from rootless.cli.network_list import filters, open_, read, used_by
from rootless.cli.options import FORCE_PROMPT, LATEST, all_option, stop_time
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine

    Network = dict[str, Any]

CREATE_OPTIONS = (
    Option("disable-dns", "bool", "No name server on this network"),
    Option("dns", "csv", "Name server to pass unknown names on to", metavar="ip"),
    Option("driver", "str", "Driver", short="d", default="bridge"),
    Option("gateway", "csv", "IPv4 or IPv6 gateway of a subnet", metavar="ip"),
    Option("ignore", "bool", "A network that exists is no error"),
    Option("interface-name", "str", "Name of the bridge", metavar="name"),
    Option("internal", "bool", "No way out of this network"),
    Option("ip-range", "list", "Take addresses from this part of a subnet", metavar="range"),
    Option("ipam-driver", "str", "Who gives the addresses: host-local or none"),
    Option("ipv6", "bool", "IPv6 as well"),
    Option("label", "list", "Label", metavar="key=value"),
    Option(
        "opt",
        "list",
        "Option of the driver: mtu, isolate, vlan, metric, no_default_route",
        short="o",
        metavar="name=value",
    ),
    Option(
        "route", "list", "Static route of the containers", metavar="destination,gateway[,metric]"
    ),
    Option("subnet", "list", "Subnet in CIDR notation", metavar="cidr"),
)
RM_OPTIONS = (
    Option("force", "bool", "Remove containers that use it as well", short="f"),
    Option(
        "time", "int", "Seconds to wait before SIGKILL", short="t", default=10, aliases=("timeout",)
    ),
)
PRUNE_OPTIONS = (
    Option("filter", "list", "Only what fits: label=, label!=, until=", metavar="key=value"),
    FORCE_PROMPT,
)
CONNECT_OPTIONS = (
    Option("alias", "csv", "Further name of the container on this network"),
    Option("ip", "str", "IPv4 address"),
    Option("ip6", "str", "IPv6 address"),
    Option("mac-address", "str", "MAC address"),
)
DISCONNECT_OPTIONS = (Option("force", "bool", "No error where it is not connected", short="f"),)
RELOAD_OPTIONS = (all_option("Every running container"), LATEST)
UPDATE_OPTIONS = (
    Option("dns-add", "csv", "Add a name server", metavar="ip"),
    Option("dns-drop", "csv", "Remove a name server", metavar="ip"),
)


def create(inv: Invocation) -> int:
    from rootless import netrecords
    from rootless.cli.output import line
    from rootless.container.env import parse_labels
    from rootless.container.events import emit

    engine = open_(inv)
    wish = netrecords.Wish(inv.args[0] if inv.args else "")
    wish.driver = inv.text("driver")
    wish.subnets = inv.words("subnet")
    wish.gateways = inv.words("gateway")
    wish.ranges = inv.words("ip-range")
    wish.ipv6 = inv.flag("ipv6")
    wish.internal = inv.flag("internal")
    wish.disable_dns = inv.flag("disable-dns")
    wish.dns = inv.words("dns")
    wish.labels = parse_labels((), inv.words("label"))
    wish.routes = inv.words("route")
    wish.interface = inv.text("interface-name")
    wish.ipam_driver = inv.text("ipam-driver")
    wish.ignore = inv.flag("ignore")
    options = {}
    for word in inv.words("opt"):
        key, equals, value = word.partition("=")
        if not equals:
            raise Usage(f"driver option {word}: must be in the form name=value")
        options[key] = value
    wish.options = options
    network = netrecords.create(engine.paths, engine.config, wish)
    emit(engine, "network", "create", network["name"], network["id"])
    line(network["name"])
    return 0


def exists(inv: Invocation) -> int:
    from rootless.errors import NotFound

    engine = open_(inv)
    try:
        read(engine, inv.args[0])
    except NotFound:
        return 1
    return 0


# rm and prune


def rm(inv: Invocation) -> int:
    from rootless import netrecords
    from rootless.cli.many import each
    from rootless.container.events import emit
    from rootless.container.lifecycle import remove
    from rootless.errors import Conflict, NotFound

    engine = open_(inv)
    force = inv.flag("force")
    if inv.given("time") and not force:
        raise Usage("--force option must be specified to use the --time option")
    timeout = stop_time(inv)

    def act(text: str, _: str) -> str | None:
        try:
            network = read(engine, text)
        except NotFound as error:
            if force:
                return None
            error.exit_code = 1
            raise
        if network["name"] == netrecords.default_name(engine.config):
            raise Conflict(f"default network {network['name']} cannot be removed")
        for identity in used_by(engine).get(network["name"], ()):
            if not force:
                raise Conflict(
                    f'"{network["name"]}" has associated containers with it. '
                    "Use -f to forcibly delete containers and pods: network is being used",
                    exit_code=2,
                )
            try:
                remove(engine, identity, force=True, timeout_s=timeout)
            except NotFound:
                continue
        netrecords.remove(engine.paths, engine.config, network)
        emit(engine, "network", "remove", network["name"], network["id"])
        return str(network["name"])

    return each([(name, name) for name in inv.args], [], act)


def prune(inv: Invocation) -> int:
    from rootless.cli.output import line
    from rootless.cli.prompt import agreed

    engine = open_(inv)
    filters(engine, inv.words("filter"), prune=True)
    warning = "This will remove all networks not used by at least one container."
    if not inv.flag("force") and not agreed(warning):
        return 0
    for name in prune_networks(engine, inv.words("filter")):
        line(name)
    return 0


def prune_networks(engine: Engine, words: list[str]) -> list[str]:
    """Remove the networks that no container is on and the filters fit; their names."""
    from rootless import netrecords
    from rootless.container.events import emit
    from rootless.errors import Conflict, NotFound

    fits = filters(engine, words, prune=True)
    removed = []
    used = used_by(engine)
    for network in netrecords.every(engine.paths, engine.config):
        if network["name"] in used or not fits(network):
            continue
        if network["name"] == netrecords.default_name(engine.config):
            continue
        try:
            netrecords.remove(engine.paths, engine.config, network)
        except (NotFound, Conflict):
            continue  # another command was quicker
        emit(engine, "network", "remove", network["name"], network["id"])
        removed.append(network["name"])
    return removed


# connect, disconnect, reload, update


def connect(inv: Invocation) -> int:
    from rootless import netchanges
    from rootless.container.events import emit
    from rootless.container.read_network import check_address, mac_address

    engine = open_(inv)
    network = read(engine, inv.args[0])
    given: dict[str, str] = {}
    if inv.words("alias"):
        given["alias"] = ",".join(inv.words("alias"))
    for key, option in (("ip", "ip"), ("ip6", "ip6")):
        if text := inv.text(option):
            check_address(text, 6 if key == "ip6" else 4)
            given[key] = text
    if inv.text("mac-address"):
        given["mac"] = mac_address(inv.text("mac-address"))
    identity = engine.containers.lookup(inv.args[1])
    netchanges.connect(engine, identity, network, given)
    emit(engine, "network", "connect", network["name"], network["id"])
    return 0


def disconnect(inv: Invocation) -> int:
    from rootless import netchanges
    from rootless.container.events import emit
    from rootless.errors import NotFound

    engine = open_(inv)
    try:
        network = read(engine, inv.args[0])
        identity = engine.containers.lookup(inv.args[1])
        netchanges.disconnect(engine, identity, network["name"])
    except NotFound:
        if inv.flag("force"):
            return 0
        raise
    emit(engine, "network", "disconnect", network["name"], network["id"])
    return 0


def check_reload(inv: Invocation) -> None:
    chosen = bool(inv.args) + inv.flag("all") + inv.flag("latest")
    if chosen > 1:
        raise Usage("--all, --latest and containers cannot be used together")
    if not chosen:
        raise Usage("you must provide at least one name or id")


def reload(inv: Invocation) -> int:
    from rootless import netchanges
    from rootless.cli.many import each
    from rootless.cli.selection import select
    from rootless.container.status import status_of

    engine = open_(inv)
    chosen, missing = select(engine, inv, wanted=lambda status: status.is_running)

    def act(_: str, identity: str) -> str:
        netchanges.reload(engine, status_of(engine, identity))
        return identity

    return each(chosen, missing, act)


def update(inv: Invocation) -> int:
    from rootless import netchanges, netrecords
    from rootless.cli.output import line
    from rootless.errors import Conflict
    from rootless.files import Lock

    engine = open_(inv)
    add, drop = inv.words("dns-add"), inv.words("dns-drop")
    if not (add or drop):
        raise Usage("no update was specified: give --dns-add or --dns-drop")
    netrecords.check_servers([*add, *drop])
    network = read(engine, inv.args[0])
    if network["name"] == netrecords.default_name(engine.config):
        raise Conflict(f"default network {network['name']} cannot be changed")
    if not network["dns_enabled"]:
        raise Conflict(
            f"cannot set network DNS servers for network {network['name']}: its DNS is disabled"
        )
    with Lock(f"{engine.paths.networks}/.lock"):
        network = read(engine, inv.args[0])
        servers = [
            server for server in network.get("network_dns_servers") or () if server not in drop
        ]
        servers += [server for server in add if server not in servers]
        network["network_dns_servers"] = servers
        if not servers:
            del network["network_dns_servers"]
        netrecords.write(engine.paths, network)
    netchanges.redefine(engine, network)
    line(network["name"])
    return 0


CREATE = Command(
    "[options] [NAME]",
    create,
    CREATE_OPTIONS,
    args=(0, 1),
    description="Makes a network and prints its name.",
    examples=("network create backend", "network create --subnet 10.77.0.0/24 --internal private"),
)
EXISTS = Command(
    "NETWORK",
    exists,
    args=(1, 1),
    description="Ends with 0 where the network exists, with 1 where not.",
    complete="networks",
)
RM = Command(
    "[options] NETWORK [NETWORK...]",
    rm,
    RM_OPTIONS,
    args=(1, None),
    description="Removes networks.",
    complete="networks",
)
PRUNE = Command(
    "[options]", prune, PRUNE_OPTIONS, description="Removes all networks that no container uses."
)
CONNECT = Command(
    "[options] NETWORK CONTAINER",
    connect,
    CONNECT_OPTIONS,
    args=(2, 2),
    description="Connects a container to a network, at once where it runs.",
    complete="networks",
)
DISCONNECT = Command(
    "[options] NETWORK CONTAINER",
    disconnect,
    DISCONNECT_OPTIONS,
    args=(2, 2),
    description="Disconnects a container from a network, at once where it runs.",
    complete="networks",
)
RELOAD = Command(
    "[options] [CONTAINER...]",
    reload,
    RELOAD_OPTIONS,
    args=check_reload,
    description="Makes the interfaces, rules and names of running containers anew.",
    complete="containers",
)
UPDATE = Command(
    "[options] NETWORK",
    update,
    UPDATE_OPTIONS,
    args=(1, 1),
    description="Changes the name servers of a network.",
    complete="networks",
)
