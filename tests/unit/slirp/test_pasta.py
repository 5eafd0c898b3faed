"""slirp.pasta and slirp.slirp4netns: the arguments that options and ports make."""

from __future__ import annotations

import pytest

from rootless.errors import RootlessError, Usage
from slirp import pasta, slirp4netns
from slirp.host import Uplink
from slirp.pasta import Pasta
from slirp.ports import parse_publish

OLD = Pasta("/usr/bin/pasta", "/usr/bin/pasta", frozenset({"--no-map-gw", "--dns-forward"}))
NEW = Pasta(
    "/usr/bin/pasta", "/usr/bin/pasta", OLD.features | {"--map-guest-addr", "--map-host-loopback"}
)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's routes are."""
    monkeypatch.setattr(pasta, "uplink4", lambda: Uplink("eth0", [("192.0.2.2", 24)], "192.0.2.1"))


def test_host_without_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pasta, "uplink4", lambda: None)
    monkeypatch.setattr(pasta, "uplink6", lambda: None)
    assert "-i lo -a 169.254.2.1 -n 16" in " ".join(pasta.settings(OLD).arguments)
    assert "-i" not in pasta.settings(NEW).arguments


def test_case_43_defaults_reach_no_loopback_of_the_host() -> None:
    found = pasta.settings(OLD)
    assert found.arguments == [
        "--config-net", "--dns-forward", "169.254.1.1", "-t", "none", "-u", "none", "-T", "none", "-U", "none",
        "--no-map-gw", "--quiet",
    ]  # fmt: skip
    assert found.map_guest == []


def test_newer_pasta_gives_the_host_an_address() -> None:
    found = pasta.settings(NEW)
    assert found.arguments[-2:] == ["--map-guest-addr", "169.254.1.2"]
    assert found.map_guest == ["169.254.1.2"]


def test_ports() -> None:
    found = pasta.settings(
        OLD, (), parse_publish(["127.0.0.1:8080:80", "9000-9002:90-92", "53:53/udp"])
    )
    text = " ".join(found.arguments)
    assert "-t 127.0.0.1/8080-8080:80-80 -t 9000-9002:90-92 -u 53-53:53-53" in text
    assert "-t none" not in text
    assert "-T none -U none" in text


def test_options_replace_defaults() -> None:
    found = pasta.settings(
        NEW, ["--map-gw", "-T", "auto", "--dns-forward", "10.0.0.1", "-4", "-a", "10.1.2.3"]
    )
    assert "--no-map-gw" not in found.arguments
    assert found.arguments.count("-T") == 1
    assert found.dns_forward == ["10.0.0.1"]
    assert found.only_family == 4
    assert found.addresses == ["10.1.2.3"]


@pytest.mark.parametrize(
    "option", ["--netns", "--pid=x", "-P", "--foreground", "--userns", "-F", "--no-netns-quit"]
)
def test_options_that_are_the_engines_own(option: str) -> None:
    with pytest.raises(Usage, match="the engine's own"):
        pasta.settings(OLD, [option])


def test_sctp_is_refused() -> None:
    with pytest.raises(RootlessError, match="sctp ports cannot be published"):
        pasta.settings(OLD, (), parse_publish(["9:9/sctp"]))


def test_readiness_is_the_pid_on_a_line_of_its_own() -> None:
    assert pasta._is_ready(12, b"12\n")
    assert pasta._is_ready(12, b"a warning\n12\n")
    assert not pasta._is_ready(12, b"112\n")
    assert not pasta._is_ready(12, b"12")


def test_case_43_slirp4netns_is_sandboxed() -> None:
    argv = slirp4netns.command("/usr/bin/slirp4netns", slirp4netns.parse([]))
    for option in ("--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"):
        assert option in argv


def test_slirp4netns_options() -> None:
    found = slirp4netns.parse(
        ["cidr=10.9.0.0/24", "mtu=1500", "enable_ipv6=false", "allow_host_loopback=true"]
    )
    assert (found.address, found.gateway, found.dns) == (("10.9.0.100", 24), "10.9.0.2", "10.9.0.3")
    argv = slirp4netns.command("s", found)
    assert "--mtu=1500" in argv
    assert "--enable-ipv6" not in argv
    assert "--disable-host-loopback" not in argv


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("mtu", 'unknown option for slirp4netns: "mtu"'),
        ("colour=red", 'unknown option for slirp4netns: "colour=red"'),
        ("mtu=12", 'invalid mtu "12"'),
        ("cidr=10.0.0.0", 'invalid cidr "10.0.0.0"'),
        ("cidr=fd00::/64", 'invalid cidr "fd00::/64"'),
        ("enable_ipv6=yes", 'invalid value of enable_ipv6 for slirp4netns: "yes"'),
        ("port_handler=x", 'unknown port_handler for slirp4netns: "x"'),
        ("outbound_addr=x.y", 'invalid outbound_addr "x.y"'),
        ("outbound_addr6=10.0.0.1", 'invalid outbound_addr6 "10.0.0.1"'),
    ],
)
def test_slirp4netns_options_refused(option: str, message: str) -> None:
    with pytest.raises(Usage) as caught:
        slirp4netns.parse([option])
    assert caught.value.message == message
