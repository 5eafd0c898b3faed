"""Networks where the kernel has VLAN filtering, with Debian 13's pasta, nft and kernel."""

from __future__ import annotations

import pytest

from tests.vm.guest.conftest import Command, until

pytestmark = pytest.mark.needs("nft")


def test_vlan_and_a_published_port(rootless: Command) -> None:
    """Every port of the bridge, and the bridge itself, belong to the network's VLAN alone, and traffic passes."""
    rootless.ok("network", "create", "-o", "vlan=42", "--interface-name", "brvlan", "vlan")
    try:
        serve = "echo hello > /tmp/index.html; cd /tmp; exec python3 -Im http.server 7000"
        rootless.ok(
            "run", "-d", "--name", "tagged", "--network", "vlan", "-p", "17000:7000", "host", "sh", "-c", serve
        )  # fmt: skip
        curl = Command("curl", "-sS", "--max-time", "20", "http://127.0.0.1:17000/index.html")
        until(lambda: curl().stdout == "hello\n", "the published port answers")
        inside = ("unshare", "--rootless-netns", "env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        assert "vlan_filtering 1 " in rootless.ok(*inside, "ip", "-d", "link", "show", "brvlan")
        lines = rootless.ok(*inside, "bridge", "vlan", "show").splitlines()
        ports = [line.split() for line in lines[1:] if line.strip()]
        assert sorted(words[0][:4] for words in ports) == ["brvl", "veth"]
        assert {tuple(words[1:]) for words in ports} == {("42", "PVID", "Egress", "Untagged")}
        fetch = (
            "import urllib.request as u; print(u.urlopen('http://tagged:7000/index.html').read())"
        )
        run = ("run", "--rm", "--network", "vlan", "host", "python3", "-Ic", fetch)
        assert rootless.ok(*run) == "b'hello\\n'"
    finally:
        rootless("network", "rm", "-f", "-t", "0", "vlan")
