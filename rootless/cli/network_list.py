"""`rootless network ls` and `inspect`: what there is, and how it is shown."""

from __future__ import annotations

from rootless.cli.options import filter_option, format_option
from rootless.cli.table import Command, Option
from rootless.errors import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from rootless.cli.table import Invocation
    from rootless.container.engine import Engine

    Network = dict[str, Any]

LS_OPTIONS = (
    filter_option("Only networks that fit, as in name=web"),
    Option("format", "str", "Print as JSON or with a Go template", metavar="template"),
    Option("no-trunc", "bool", "Print whole ids"),
    Option("noheading", "bool", "Leave out the headings", short="n"),
    Option("quiet", "bool", "Print the names only", short="q"),
)
INSPECT_OPTIONS = (format_option(),)


def open_(inv: Invocation) -> Engine:
    from rootless.container.engine import open_engine

    return open_engine(inv.globals)


def read(engine: Engine, name: str) -> Network:
    from rootless import netrecords

    return netrecords.read(engine.paths, engine.config, name)


def filters(
    engine: Engine, words: Iterable[str], *, prune: bool = False
) -> Callable[[Network], bool]:
    from rootless.cli.record_filters import combined, until_ns

    def test_of(key: str, value: str) -> Callable[[Network], bool]:
        if key == "until":
            limit = until_ns(value) / 1e9
            return lambda network: _created(network) < limit
        if key in ("since", "after") and not prune:
            since = _created(read(engine, value))
            return lambda network: _created(network) >= since
        if prune:
            raise Usage(f'"{key}" is an invalid network filter')
        return _ls_filter(engine, key, value)

    return combined(words, lambda network: network.get("labels") or {}, test_of)


def _ls_filter(engine: Engine, key: str, value: str) -> Callable[[Network], bool]:
    from rootless import netrecords
    from rootless.cli.record_filters import matching, yes_or_no

    if key in ("name", "id"):
        fits = matching(value if key == "name" else f"^{value}")
        return lambda network: fits(network[key])
    if key == "driver":
        return lambda network: bool(network["driver"] == value)
    if key == "dangling":
        wanted = yes_or_no(value, f'invalid dangling filter value "{value}"')
        # The default network, which nothing removes, never is.
        kept = {*used_by(engine), netrecords.default_name(engine.config)}
        return lambda network: (network["name"] not in kept) == wanted
    raise Usage(f'invalid filter "{key}"')


def _created(network: Network) -> float:
    from datetime import datetime

    text = network["created"]
    if not text:
        return 0.0
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def used_by(engine: Engine) -> dict[str, list[str]]:
    """Which containers have a network in their record, by the network's name."""
    from rootless import netrecords
    from rootless.container.status import all_statuses

    found: dict[str, list[str]] = {}
    for status in all_statuses(engine):
        for name in netrecords.of_container(engine.config, status.record["options"]):
            found.setdefault(name, []).append(status.id)
    return found


_FIELDS = {
    "Name": "name",
    "ID": "id",
    "Driver": "driver",
    "NetworkInterface": "network_interface",
    "Created": "created",
    "Subnets": "subnets",
    "Routes": "routes",
    "IPv6Enabled": "ipv6_enabled",
    "Internal": "internal",
    "DNSEnabled": "dns_enabled",
    "NetworkDNSServers": "network_dns_servers",
    "Labels": "labels",
    "Options": "options",
    "IPAMOptions": "ipam_options",
}


def shown(network: Network) -> dict[str, Any]:
    """The fields that templates know."""
    empty: dict[str, Any] = {"labels": {}, "options": {}, "routes": [], "network_dns_servers": []}
    return {title: network.get(key, empty.get(key)) for title, key in _FIELDS.items()}


def ls(inv: Invocation) -> int:
    from rootless import netrecords
    from rootless.cli import output

    form = inv.text("format")
    if inv.flag("quiet") and inv.given("format"):
        raise Usage("quiet and format flags cannot be used together")
    engine = open_(inv)
    fits = filters(engine, inv.words("filter"))
    found = [network for network in netrecords.every(engine.paths, engine.config) if fits(network)]
    if inv.flag("quiet"):
        output.write("".join(f"{network['name']}\n" for network in found))
        return 0
    width = None if inv.flag("no-trunc") else 12
    if not inv.given("format"):
        rows = [(network["id"][:width], network["name"], network["driver"]) for network in found]
        if not inv.flag("noheading"):
            rows.insert(0, ("NETWORK ID", "NAME", "DRIVER"))
        output.write(output.table(rows))
        return 0
    if form == "json":
        output.line(output.to_json([document(network) for network in found], 2))
        return 0
    from rootless.cli.template import Struct, parse_user

    as_table = form.startswith("table ")
    template = parse_user("network ls", form.removeprefix("table ").lstrip() if as_table else form)
    data = []
    for network in found:
        fields = shown(network)
        fields["ID"] = fields["ID"][:width]
        fields["Labels"] = ",".join(f"{key}={value}" for key, value in fields["Labels"].items())
        data.append(Struct(fields))
    text = "".join(template.render(one) for one in data)
    if as_table:
        lines = [row.split("\t") for row in text.splitlines()]
        if not inv.flag("noheading"):
            head = {title: title.upper() for title in _FIELDS}
            head["ID"] = "NETWORK ID"
            lines.insert(0, template.render(Struct(head)).rstrip("\n").split("\t"))
        text = output.table(lines)
    output.write(text)
    return 0


def document(network: Network) -> Network:
    """As Podman prints it: what is empty is left out, `containers` apart."""
    order = (
        "name", "id", "driver", "network_interface", "created", "subnets", "routes", "ipv6_enabled", "internal",
        "dns_enabled", "network_dns_servers", "labels", "options", "ipam_options", "containers",
    )  # fmt: skip
    return {key: network[key] for key in order if key in network}


def with_containers(engine: Engine, network: Network) -> Network:
    """A definition with the running containers on it and their addresses."""
    from rootless.container.status import all_statuses

    containers: dict[str, Any] = {}
    for status in all_statuses(engine):
        live = status.live if status.is_running else None
        member = (((live or {}).get("network") or {}).get("networks") or {}).get(network["name"])
        if not member:
            continue
        gateways = {":" in gateway: gateway for gateway in member.get("gateways") or ()}
        subnets = [
            {"ipnet": f"{address}/{prefix}", "gateway": gateways.get(":" in address, "")}
            for address, prefix in member["addresses"]
        ]
        containers[status.id] = {
            "name": status.name,
            "interfaces": {member["interface"]: {"subnets": subnets, "mac_address": member["mac"]}},
        }
    return {**network, "containers": containers}


def inspect(inv: Invocation) -> int:
    from rootless.cli import output
    from rootless.errors import RootlessError

    engine = open_(inv)
    found: list[Network] = []
    failed: RootlessError | None = None
    for name in inv.args:
        try:
            found.append(with_containers(engine, read(engine, name)))
        except RootlessError as error:
            if failed is not None:
                output.report(failed)
            failed = RootlessError(f"network {name}: {error.message}", exit_code=1)
    form = inv.text("format")
    if form in ("", "json"):
        output.line(output.to_json([document(one) for one in found], 5))
    else:
        from rootless.cli.template import Struct, parse_user

        template = parse_user("network inspect", form)
        for network in found:
            fields = {**shown(network), "Containers": network["containers"]}
            output.write(template.render(Struct(fields)))
    if failed is not None:
        raise failed
    return 0


LS = Command("[options]", ls, LS_OPTIONS, description="Lists networks.")
INSPECT = Command(
    "[options] NETWORK [NETWORK...]",
    inspect,
    INSPECT_OPTIONS,
    args=(1, None),
    description="Shows all about networks.",
    examples=("network inspect podman",),
    complete="networks",
)
