"""slirp.resolv: resolv.conf and hosts as Podman makes them."""

from __future__ import annotations

import pytest

from rootless.errors import RootlessError
from slirp import resolv
from slirp.resolv import ResolvConf

HOST = ResolvConf(["127.0.0.53", "192.0.2.53", "2001:db8::53"], ["example.org"], ["ndots:2"])


def test_parse() -> None:
    conf = resolv.parse(
        "# comment\nnameserver 192.0.2.1 # more\n\nsearch a b\nsearch c\noptions x y\nnameserver ::1\nnameserver\n"
    )
    assert (conf.nameservers, conf.search, conf.options) == (
        ["192.0.2.1", "::1"],
        ["c"],
        ["x", "y"],
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {},
            "search example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions ndots:2\n",
        ),
        ({"ipv6": False}, "search example.org\nnameserver 192.0.2.53\noptions ndots:2\n"),
        (
            {"own_netns": False},
            "search example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions ndots:2\n",
        ),
        (
            {"network_servers": ["169.254.1.1"], "ipv6": False},
            "search example.org\nnameserver 169.254.1.1\nnameserver 192.0.2.53\noptions ndots:2\n",
        ),
        (
            {
                "network_servers": ["10.89.0.1"],
                "keep_host_servers": False,
                "network_search": ["dns.podman"],
            },
            "search dns.podman example.org\nnameserver 10.89.0.1\noptions ndots:2\n",
        ),
        (
            {"servers": ["9.9.9.9"], "search": ["."], "options": ["rotate"]},
            "nameserver 9.9.9.9\noptions rotate\n",
        ),
    ],
)
def test_resolv_conf(options: dict[str, object], expected: str) -> None:
    assert resolv.resolv_conf(HOST, **options) == expected  # type: ignore[arg-type]


def test_host_with_loopback_servers_only() -> None:
    only = ResolvConf(["127.0.0.1"])
    assert resolv.resolv_conf(only, ipv6=False) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    assert resolv.resolv_conf(only, network_servers=["169.254.1.1"]) == "nameserver 169.254.1.1\n"


def test_hosts() -> None:
    text = resolv.hosts(
        "127.0.0.1 localhost # me\n\n# only a comment\n192.0.2.9 printer prn\n",
        added=["db;db2:192.0.2.7", "up:host-gateway", "six:2001:db8::1"],
        own=[("10.89.0.2", ["abc", "web", "abc"])],
        host_address="169.254.1.2",
    )
    assert text.splitlines() == [
        "192.0.2.7\tdb db2",
        "169.254.1.2\tup",
        "2001:db8::1\tsix",
        "127.0.0.1\tlocalhost",
        "192.0.2.9\tprinter prn",
        "169.254.1.2\thost.containers.internal host.docker.internal",
        "10.89.0.2\tabc web",
    ]


def test_hosts_without_base_has_localhost() -> None:
    assert resolv.hosts("").splitlines() == ["127.0.0.1\tlocalhost", "::1\tlocalhost"]


def test_own_name_given_by_the_user_stays() -> None:
    text = resolv.hosts("", added=["web:192.0.2.1"], own=[("10.0.0.2", ["id", "web"])])
    assert "10.0.0.2\tid\n" in text


def test_host_gateway_where_the_host_cannot_be_reached() -> None:
    with pytest.raises(RootlessError, match='unable to replace "host-gateway" of host entry'):
        resolv.hosts("", added=["up:host-gateway"])
