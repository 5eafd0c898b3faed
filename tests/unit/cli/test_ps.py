"""What `ps` makes of ports, as Podman's portsToString."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.cli.ps import exposed_map, ports_text


def port(
    inside: int, host: int, size: int = 1, protocol: str = "tcp", address: str = ""
) -> dict[str, Any]:
    return {
        "host_ip": address,
        "container_port": inside,
        "host_port": host,
        "range": size,
        "protocol": protocol,
    }


@pytest.mark.parametrize(
    ("published", "exposed", "text"),
    [
        ([], [], ""),
        ([port(80, 8080)], [], "0.0.0.0:8080->80/tcp"),
        ([port(80, 8080)], ["80/tcp", "443"], "0.0.0.0:8080->80/tcp, 443/tcp"),
        (
            [port(80, 8080), port(9000, 9000, 3, "udp", "127.0.0.1")],
            ["443"],
            "0.0.0.0:8080->80/tcp, 127.0.0.1:9000-9002->9000-9002/udp, 443/tcp",
        ),
        ([], ["7000-7002/udp", "1", "3"], "1/tcp, 3/tcp, 7000-7002/udp"),
        ([], ["2", "1/udp", "1"], "1-2/tcp, 1/udp"),
        ([port(1, 1, 2)], ["1-4"], "0.0.0.0:1-2->1-2/tcp, 3-4/tcp"),
        ([], ["nonsense", "x-y/tcp", "99999999999"], ""),
    ],
)
def test_ports(published: list[dict[str, Any]], exposed: list[str], text: str) -> None:
    assert ports_text(published, exposed) == text


def test_exposed_map() -> None:
    assert exposed_map(["53/udp", "53", "80-81"]) == {
        "53": ["tcp", "udp"],
        "80": ["tcp"],
        "81": ["tcp"],
    }
