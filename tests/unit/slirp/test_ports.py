"""slirp.ports: Podman's notation for published ports and its words for what is wrong with it."""

from __future__ import annotations

import socket

import pytest

from rootless.errors import Conflict, RootlessError, Usage
from slirp import ports
from slirp.ports import PortMapping


def _fields(mapping: PortMapping) -> tuple[str, int, int, int, str]:
    return (
        mapping.host_ip,
        mapping.host_port,
        mapping.container_port,
        mapping.count,
        mapping.protocol,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [("", 0, 80, 1, "tcp")]),
        ("8080:80", [("", 8080, 80, 1, "tcp")]),
        (":80", [("", 0, 80, 1, "tcp")]),
        ("127.0.0.1:8080:80", [("127.0.0.1", 8080, 80, 1, "tcp")]),
        ("127.0.0.1::80", [("127.0.0.1", 0, 80, 1, "tcp")]),
        ("0.0.0.0:8080:80", [("", 8080, 80, 1, "tcp")]),
        ("[::1]:8080:80", [("::1", 8080, 80, 1, "tcp")]),
        ("[0:0:0:0:0:0:0:1]::80", [("::1", 0, 80, 1, "tcp")]),
        ("53:53/udp", [("", 53, 53, 1, "udp")]),
        ("53:53/UDP", [("", 53, 53, 1, "udp")]),
        ("53:53/tcp,udp", [("", 53, 53, 1, "tcp"), ("", 53, 53, 1, "udp")]),
        ("8000-8002:80-82", [("", 8000, 80, 3, "tcp")]),
        ("9:9/sctp", [("", 9, 9, 1, "sctp")]),
    ],
)
def test_publish(text: str, expected: list[tuple[str, int, int, int, str]]) -> None:
    assert [_fields(mapping) for mapping in ports.parse_publish([text])] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must provide a non-empty container port to publish"),
        ("80/", "must provide a non-empty protocol to publish"),
        ("80/tcp/udp", "invalid port format - protocol can only be specified once"),
        ("80/icmp", 'unrecognized protocol "icmp" in port mapping'),
        (
            "a",
            'parsing container port: invalid port number: strconv.Atoi: parsing "a": invalid syntax',
        ),
        (
            "0",
            "parsing container port: port numbers must be between 1 and 65535 (inclusive), got 0",
        ),
        (
            "65536",
            "parsing container port: port numbers must be between 1 and 65535 (inclusive), got 65536",
        ),
        ("-1", "parsing container port: port numbers cannot be negative"),
        ("8-", "parsing container port: must provide ending number for port range"),
        (
            "1-2-3",
            "parsing container port: invalid port format - port ranges are formatted as startPort-stopPort",
        ),
        (
            "9-8",
            "parsing container port: the end port of a range must be higher than the start port - 8 is not higher than 9",
        ),
        (
            "x:80",
            'parsing host port: invalid port number: strconv.Atoi: parsing "x": invalid syntax',
        ),
        ("1-2:1-3", "host and container port ranges have different lengths: 2 vs 3"),
        ("host:1:2", 'cannot parse "host" as an IP address'),
        (":1:2", "must provide a non-empty container host IP to publish"),
        ("1:2:3:4", "invalid port format - format is [[hostIP:]hostPort:]containerPort"),
        (
            "[::1]:80",
            "invalid port format - must provide host and destination port if specifying an IP",
        ),
        ("::1]:1:2", "invalid port format - IPv6 addresses must be enclosed by []"),
        ("[::1]1:2", "invalid port format - IPv6 address must be followed by a colon (':')"),
        (
            "[::1]:1:2:3",
            "invalid port format - when v6 address specified, must be [ipv6]:hostPort:ctrPort",
        ),
        (
            "[::1]:[::1]:2",
            "invalid port format - at most one IPv6 address can be specified in a --publish",
        ),
        (
            "٣:80",
            'parsing host port: invalid port number: strconv.Atoi: parsing "٣": invalid syntax',
        ),
    ],
)
def test_publish_refused(text: str, message: str) -> None:
    with pytest.raises(Usage) as caught:
        ports.parse_publish([text])
    assert caught.value.message == message


def test_same_mapping_twice_is_one_and_overlap_is_refused() -> None:
    assert len(ports.parse_publish(["8080:80", "8080:80"])) == 1
    with pytest.raises(Usage, match="conflicting port mappings for host port 8081"):
        ports.parse_publish(["8080-8082:80-82", "8081:90"])
    ports.parse_publish(["127.0.0.1:8080:80", "127.0.0.2:8080:80", "127.0.0.1:8080:80/udp"])


def test_range_beyond_the_last_port() -> None:
    with pytest.raises(Usage):
        ports.parse_publish(["65535-65536:1-2"])


def test_publish_all_leaves_published_ports_alone() -> None:
    wanted = ports.publish_exposed(
        ports.parse_publish(["8080:80"]), ports.parse_expose(["80/tcp", "80/udp", "90-91"])
    )
    assert [(m.host_port, m.container_port, m.protocol) for m in wanted] == [
        (8080, 80, "tcp"),
        (0, 80, "udp"),
        (0, 90, "tcp"),
        (0, 91, "tcp"),
    ]


def test_json_keeps_everything_under_podmans_names() -> None:
    mapping = PortMapping("::1", 5, 6, 7, "udp")
    record = mapping.to_json()
    assert record == {
        "host_ip": "::1",
        "host_port": 5,
        "container_port": 6,
        "range": 7,
        "protocol": "udp",
    }
    assert PortMapping.from_json(record) == mapping


def test_description() -> None:
    assert ports.describe(PortMapping("", 8080, 80)) == "0.0.0.0:8080->80/tcp"
    assert ports.describe(PortMapping("::1", 1, 2, 3, "udp")) == "[::1]:1-3->2-4/udp"


def test_taken_port_is_an_error_that_names_the_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Conflict) as caught:
            ports.check_free([PortMapping("127.0.0.1", port, 80)])
        assert "address already in use by " in caught.value.message
        assert "pid" in caught.value.message
        with pytest.raises(Conflict):
            ports.check_free([PortMapping("", port, 80)])
        ports.check_free([PortMapping("127.0.0.1", port, 80, 1, "udp")])
    ports.check_free([PortMapping("127.0.0.1", port, 80)])


def test_taken_udp_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        with pytest.raises(Conflict, match="already in use by"):
            ports.check_free([PortMapping("127.0.0.1", one.getsockname()[1], 80, 1, "udp")])


def test_privileged_port_names_the_setting() -> None:
    error = ports.refused("0.0.0.0", 80, "tcp", PermissionError(13, "Permission denied"))
    assert isinstance(error, RootlessError)
    assert "privileged" in error.message
    assert "net.ipv4.ip_unprivileged_port_start=80" in error.hint


def test_foreign_address() -> None:
    with pytest.raises(Conflict, match="is no address of this host"):
        ports.check_free([PortMapping("198.51.100.7", 40000, 80)])


def test_random_ports_are_free_and_in_a_row() -> None:
    first, second = ports.choose_host_ports([PortMapping("", 0, 80, 3), PortMapping("", 0, 90)])
    assert first.host_port > 1023
    assert second.host_port > 1023
    taken = set(range(first.host_port, first.host_port + 3))
    assert second.host_port not in taken
    ports.check_free([first, second])


def test_what_follows_on_another_port_is_part_of_its_range() -> None:
    """As Podman's column of ports shows it; not where address, protocol or distance differ, nor ports yet to be chosen."""
    shown = [
        ports.describe(one)
        for one in ports.parse_publish(
            [
                "8082:82",
                "8080-8081:80-81",
                "8083:83/udp",
                "127.0.0.1:8083:83",
                "8084:85",
                "9000",
                "8001:9001",
                "1:9001",
            ]
        )
    ]
    assert shown == [
        "0.0.0.0:8080-8082->80-82/tcp", "0.0.0.0:8083->83/udp", "127.0.0.1:8083->83/tcp", "0.0.0.0:8084->85/tcp",
        "0.0.0.0:0->9000/tcp", "0.0.0.0:8001->9001/tcp", "0.0.0.0:1->9001/tcp",
    ]  # fmt: skip
